"""Pretraining by guessing visual words: BEiT v2 (Peng et al., 2022, arXiv:2208.06366).

Kept: a tokenizer taught by CLIP gives every patch a word of a discrete codebook; the student sees an image
with patches masked and names the words of the masked ones. Changed: the codebook is a spherical k-means
over the patch tokens of the micro CLIP teacher, fitted before training, in place of a trained
vector-quantising autoencoder (VQ-KD) whose codes rebuild CLIP's tokens. Left out: the decoder that makes
the class token sum up the image. Not possible at this scale: 8192 words.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitkd_bench.contracts import Batch, CellFacts, Features, Method, Network, taps
from vitkd_bench.methods._masking import masked_embedding, random_mask
from vitkd_bench.methods._stages import open_layer_scale, patch_tokens, stages
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings


def nearest_word(tokens: Tensor, codebook: Tensor) -> Tensor:
    """Give the index of the word (K, D) with the largest cosine for each token (..., D)."""
    return (F.normalize(tokens, dim=-1) @ F.normalize(codebook, dim=-1).T).argmax(dim=-1)


def fit_codebook(tokens: Tensor, words: int, rounds: int) -> Tensor:
    """Cluster tokens (R, D) on the sphere into `words` unit vectors (K, D) by Lloyd's rounds.

    Starts from tokens drawn by torch's global generator; a word that no token chooses stays where it was.
    """
    unit = F.normalize(tokens, dim=-1)
    codebook = unit[torch.randperm(len(unit), device="cpu")[:words].to(unit.device)]
    for _ in range(rounds):
        members = F.one_hot(nearest_word(unit, codebook), words).to(unit.dtype)
        used = members.sum(dim=0).unsqueeze(1) > 0
        codebook = torch.where(used, F.normalize(members.T @ unit, dim=-1), codebook)
    return codebook


@METHODS.register(
    "pretrain_beitv2",
    title="Pretraining: masked visual words, taught by CLIP (BEiT v2)",
    kind="pretraining",
    paper="arXiv:2208.06366",
)
class PretrainBEiTv2(Method, nn.Module):
    """Cross-entropy of the words of masked patches, the words being clusters of CLIP's patch tokens."""

    class Config(Settings):
        words: int = Field(default=64, gt=1, description="size of the codebook")
        rounds: int = Field(default=10, gt=0, description="of k-means when the codebook is fitted")
        mask_ratio: float = Field(default=0.4, gt=0, lt=1, description="share of the patches that are masked")

    codebook: Tensor
    mean: Tensor

    def __init__(self, config: Config, cell: CellFacts) -> None:
        """Draw the classifier of words; the codebook is made in `fit`."""
        super().__init__(config, cell)
        width = cell.student.size.width
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.classify = nn.Linear(width, config.words)
        read = cell.teacher_architecture.size.width if cell.teacher_architecture else width
        self.register_buffer("codebook", torch.zeros(config.words, read))
        self.register_buffer("mean", torch.zeros(read))

    @classmethod
    def refuses(cls, config: Config, cell: CellFacts) -> str | None:
        if cell.teacher is None or cell.teacher_architecture is None:
            return "pretrain_beitv2 needs a teacher: its words are clusters of a CLIP teacher's patch tokens"
        if cell.teacher_architecture.grid != cell.student.grid:
            teacher, student = cell.teacher_architecture.grid, cell.student.grid
            return f"patch grids differ: student {student} x {student}, teacher {teacher} x {teacher}"
        return None

    def teacher_taps(self) -> frozenset[str]:
        if self.cell.teacher_architecture is None:
            return frozenset()
        return frozenset({taps.tokens(self.cell.teacher_architecture.size.depth - 1)})

    def fit(self, student: Network, teacher: Network | None, batches: Iterable[Batch]) -> None:
        """Cluster the teacher's patch tokens of all training images, less their mean."""
        open_layer_scale(student)
        if teacher is None:
            raise TypeError("pretrain_beitv2 reads a teacher, and none was given")
        with torch.no_grad():
            read = torch.cat(
                [self._patches(teacher(b.pixels, self.teacher_taps())).flatten(0, 1) for b in batches]
            )
        teacher.clear()
        self.mean.copy_(read.mean(dim=0))
        self.codebook.copy_(fit_codebook(read - self.mean, self.config.words, self.config.rounds))

    def _patches(self, teacher: Features) -> Tensor:
        facts = self.cell.teacher_architecture
        if facts is None:
            raise TypeError("pretrain_beitv2 reads a teacher, and none was given")
        return teacher.tokens[facts.size.depth - 1][:, facts.prefix :]

    def step(self, student: Network, teacher: Features | None, batch: Batch) -> dict[str, Tensor]:
        if teacher is None:
            raise TypeError("pretrain_beitv2 reads a teacher, and none was given")
        words = nearest_word(self._patches(teacher) - self.mean, self.codebook)
        mask = random_mask(len(batch.pixels), words.shape[1], self.config.mask_ratio, batch.pixels.device)
        encoded = stages(student).encode(masked_embedding(student, batch.pixels, mask, self.mask_token))
        guess = self.classify(patch_tokens(student, encoded)[mask])
        return {"words": F.cross_entropy(guess, words[mask])}
