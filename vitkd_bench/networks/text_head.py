"""Zero-shot heads: logits from the names of classes, by the text tower that belongs to an image tower."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitkd_bench.networks.text_tokens import Tokenizer, read_tokenizer
from vitkd_bench.networks.text_tower import TextSide, read_text_side
from vitkd_bench.spec import BadInputError, Teacher

TEXTS_AT_ONCE = 256
CPU = torch.device("cpu")


class TextHead(nn.Module):
    """Logits (B, K) of pooled image features (B, D): scaled cosines to one text feature a class.

    `exp(logit_scale) * cos(pooled @ projection, text) + logit_bias`; the bias is SigLIP's. Nothing of it is
    trained (CLIP, arXiv:2103.00020, section 3.1; SigLIP, arXiv:2303.15343, algorithm 1).
    """

    def __init__(self, side: TextSide, texts: Tensor) -> None:
        super().__init__()
        self.projection = side.projection
        self.register_buffer("texts", texts)
        self.logit_scale = side.logit_scale
        self.logit_bias = side.logit_bias

    def forward(self, pooled: Tensor) -> Tensor:
        """Give logits (B, K) of pooled features (B, D)."""
        seen = pooled if self.projection is None else pooled @ self.projection
        cosines = F.normalize(seen, dim=-1) @ self.get_buffer("texts").T
        logits = self.logit_scale.exp() * cosines
        return logits if self.logit_bias is None else logits + self.logit_bias


def text_head(
    teacher: Teacher,
    weights: Path,
    names: Sequence[str],
    templates: Sequence[str],
    device: torch.device = CPU,
) -> TextHead:
    """Make the zero-shot head of a teacher for some classes: frozen, on the CPU, float32.

    Each template filled with a class's name is encoded and normalised; their mean, normalised, is the class's
    text feature (openai/CLIP notebooks/Prompt_Engineering_for_ImageNet.ipynb).

    Args:
        teacher: the contract; `text_encoder` names the text tower.
        weights: the file of the whole model, which the image tower was loaded from.
        names: of the K classes, in the order of the logits.
        templates: sentences in which `{}` stands for the name.
        device: where the texts are encoded.

    Raises:
        BadInputError: no text tower in the file or the contract, a text too long, or features of length zero.
        WorldError: the file or the tokenizer is not there. DamagedFileError: one cannot be read.
    """
    side, tokenize = read_text_side(teacher, weights), read_tokenizer(teacher, weights)
    texts = [template.replace("{}", name) for name in names for template in templates]
    with torch.no_grad(), _plain_attention():
        features = _encoded(side.to(device), tokenize, texts, device).to("cpu")
        each = F.normalize(features, dim=-1).reshape(len(names), len(templates), -1)
        mean = F.normalize(each.mean(dim=1), dim=-1)
    head = TextHead(side.to("cpu"), mean)
    if not bool(mean.isfinite().all()):
        raise BadInputError(f"teacher {teacher.name!r}: weights {weights}: text features that are not finite")
    return head.requires_grad_(requires_grad=False).eval()


def _encoded(side: TextSide, tokenize: Tokenizer, texts: Sequence[str], device: torch.device) -> Tensor:
    parts = (texts[i : i + TEXTS_AT_ONCE] for i in range(0, len(texts), TEXTS_AT_ONCE))
    return torch.cat([side(tokenize(part).to(device)) for part in parts])


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Keep torch's fast path out, whatever else this process has built: its last digits differ."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
