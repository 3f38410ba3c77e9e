"""The text side of a teacher of images and texts, read from the file of the whole model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitkd_bench.networks.optional import optional_package
from vitkd_bench.networks.unfilled import unfilled_parameters
from vitkd_bench.networks.weights import misfit, read_weights
from vitkd_bench.registry.placing import by_rules
from vitkd_bench.spec import BadInputError, Teacher, nearest

TOWER, PROJECTION, SCALE, BIAS = "tower", "projection", "logit_scale", "logit_bias"
CUSTOM = "text."  # of open_clip's models whose text tower is a module of its own
EMBEDDING = "token_embedding.weight"
HUB_EMBEDDING = "text_model.embeddings.token_embedding.weight"
HUB_LAYER = r"text_model\.encoder\.layers\.(\d+)\."
HUB_RULES = (  # transformers' names on the left
    (r"text_model\.embeddings\.token_embedding\.weight", EMBEDDING),
    (r"text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"text_model\.final_layer_norm\.(weight|bias)", r"ln_final.\1"),
    (r"text_model\.head\.(weight|bias)", r"text_projection.\1"),
    (HUB_LAYER + r"layer_norm([12])\.(weight|bias)", r"transformer.resblocks.\1.ln_\2.\3"),
    (HUB_LAYER + r"self_attn\.out_proj\.(weight|bias)", r"transformer.resblocks.\1.attn.out_proj.\2"),
    (HUB_LAYER + r"mlp\.fc1\.(weight|bias)", r"transformer.resblocks.\1.mlp.c_fc.\2"),
    (HUB_LAYER + r"mlp\.fc2\.(weight|bias)", r"transformer.resblocks.\1.mlp.c_proj.\2"),
)
HUB_QUERY = re.compile(HUB_LAYER + r"self_attn\.q_proj\.(weight|bias)")
HUB_NO_WEIGHTS = "text_model.embeddings.position_ids"


class TextSide(nn.Module):
    """A text tower of open_clip with what stands between it and logits: texts (N, L) to features (N, E).

    `projection` (D, E) takes pooled image features to the texts' space; None where they are in it. Logits are
    `exp(logit_scale)` times cosines plus `logit_bias`, which is None for a softmax over texts.
    """

    projection: Tensor | None
    logit_scale: Tensor
    logit_bias: Tensor | None

    def __init__(self, tower: nn.Module, width: int, space: int, *, projected: bool, biased: bool) -> None:
        super().__init__()
        self.tower = tower
        self.register_parameter(
            PROJECTION, nn.Parameter(torch.empty(width, space, device="meta")) if projected else None
        )
        self.register_parameter(SCALE, nn.Parameter(torch.empty((), device="meta")))
        self.register_parameter(BIAS, nn.Parameter(torch.empty((), device="meta")) if biased else None)

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode tokens (N, L)."""
        features: Tensor = self.tower(tokens)
        return features


def text_config(teacher: Teacher) -> dict[str, Any]:
    """Give open_clip's configuration of the model that the contract's `text_encoder` names.

    Raises:
        BadInputError: the contract names none, open_clip knows no such model, or its text tower or projection
            is of a kind that is not read here. WorldError: open_clip is not installed.
    """
    if teacher.text_encoder is None:
        raise BadInputError(f"teacher {teacher.name!r} has no text tower: its contract names no text_encoder")
    library, _, asked = teacher.text_encoder.partition(":")
    where = f"teacher {teacher.name!r}: text_encoder: {teacher.text_encoder!r}"
    if library != "open_clip":
        raise BadInputError(f"{where}: texts are encoded by open_clip; write open_clip:<model>/<tag>")
    open_clip = optional_package("open_clip", "open-clip-torch", teacher)
    name = asked.partition("/")[0]
    config: dict[str, Any] | None = open_clip.get_model_config(name)
    if config is None:
        raise BadInputError(f"{where}: no such model{nearest(name, open_clip.list_models())}")
    vision, text = config["vision_cfg"], config["text_cfg"]
    if text.get("hf_model_name"):
        raise BadInputError(f"{where}: a text tower of {text['hf_model_name']} is not read here")
    if vision.get("timm_model_name") and vision.get("timm_proj") != "none":
        raise BadInputError(
            f"{where}: an image projection of kind {vision.get('timm_proj')!r} is not read here"
        )
    return config


def read_text_side(teacher: Teacher, weights: Path) -> TextSide:
    """Build the text side of a teacher and load it: frozen, in eval mode, on the CPU, float32.

    The file is that of the whole model, by the names of open_clip (OpenAI's own are the same) or of
    transformers. All of the text side must be there, and nothing else of a text tower. Its activation is the
    contract's, also where open_clip by itself takes GELU exactly.

    Raises:
        BadInputError: the file holds no text side, or another one; the keys are named.
        WorldError: no such file, or open_clip is not installed. DamagedFileError: it cannot be read.
    """
    side = _unfilled(teacher)
    stored = read_weights(weights)
    why = _missing(side, stored.shapes, teacher)
    if why:
        raise BadInputError(f"teacher {teacher.name!r}: weights {weights}: {why}")
    tensors = {name: tensor.contiguous() for name, tensor in _named(stored).items()}
    side.load_state_dict(tensors, strict=True, assign=True)
    return side.requires_grad_(requires_grad=False).eval()


def why_textless(teacher: Teacher, weights: Path) -> str | None:
    """Say in one sentence why no text head can be made of a file, or nothing; reads names and shapes alone.

    Raises:
        BadInputError, WorldError, DamagedFileError: as `read_text_side`.
    """
    return _missing(_unfilled(teacher), read_weights(weights).shapes, teacher)


def _missing(side: TextSide, shapes: Mapping[str, Tensor], teacher: Teacher) -> str | None:
    given = _named(shapes)
    if not any(name.startswith(f"{TOWER}.") for name in given):
        whole = [s.backend for s in teacher.sources if s.backend != "timm" and s.location]
        return "the file holds the image tower alone, and a text head needs that of the whole model" + (
            f": backend: {' or '.join(dict.fromkeys(whole))}" if whole else ""
        )
    wrong = misfit(side, given)
    return f"the text tower does not fit that of {teacher.text_encoder}: {wrong}" if wrong else None


def _unfilled(teacher: Teacher) -> TextSide:
    config = text_config(teacher)
    open_clip = optional_package("open_clip", "open-clip-torch", teacher)
    activation = teacher.architecture.components.activation
    text = dict(config["text_cfg"])
    if activation == "gelu_tanh":
        text["act_kwargs"] = {"approximate": "tanh"}
    with torch.random.fork_rng(devices=[]), unfilled_parameters():
        tower = open_clip.model._build_text_tower(  # noqa: SLF001  (the model builds it with an image tower)
            config["embed_dim"], open_clip.CLIPTextCfg(**text), quick_gelu=activation == "quick_gelu"
        )
        return TextSide(
            tower,
            teacher.architecture.size.width,
            config["embed_dim"],
            projected=not config["vision_cfg"].get("timm_model_name"),
            biased=config.get("init_logit_bias") is not None,
        )


def _named(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the tensors of the text side out of a file, under the names of `TextSide`."""
    if HUB_EMBEDDING in stored:
        tower, projection = _from_hub(stored), "visual_projection.weight"
    else:
        tower, projection = _from_open_clip(stored), "visual.proj"
    found = {f"{TOWER}.{name}": tensor for name, tensor in tower.items()}
    found |= {name: stored[name].reshape(()) for name in (SCALE, BIAS) if name in stored}
    if projection in stored:
        matrix = stored[projection]
        found[PROJECTION] = matrix.T if projection.endswith(".weight") else matrix
    return found


def _from_open_clip(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = CUSTOM if f"{CUSTOM}{EMBEDDING}" in stored else ""
    if f"{prefix}{EMBEDDING}" not in stored:
        return {}
    parts = ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection")
    named = {name.removeprefix(prefix): name for name in stored if name.startswith(prefix)}
    return {short: stored[name] for short, name in named.items() if prefix or short.split(".")[0] in parts}


def _from_hub(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename transformers' text tower to open_clip's; q, k and v are joined there.

    What has no name in open_clip's keeps its own, so that the check that follows names it.
    """
    found = {}
    for name in stored:
        query = HUB_QUERY.fullmatch(name)
        if query:
            joined = [
                stored[name.replace("q_proj", f"{part}_proj")] for part in "qkv" if _has(stored, name, part)
            ]
            found[query.expand(r"transformer.resblocks.\1.attn.in_proj_\2")] = torch.cat(joined)
        elif name == "text_projection.weight":
            found["text_projection"] = stored[name].T
        elif name.startswith("text_model.") and not _joined_or_no_weight(name):
            found[by_rules(name, HUB_RULES)] = stored[name]
    return found


def _has(stored: Mapping[str, Tensor], query: str, part: str) -> bool:
    return query.replace("q_proj", f"{part}_proj") in stored


def _joined_or_no_weight(name: str) -> bool:
    return name == HUB_NO_WEIGHTS or re.fullmatch(HUB_LAYER + r"self_attn\.[kv]_proj\.\w+", name) is not None
