"""Class names as text: a small learned tower, and a classification head made of what it says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NameTower(nn.Module):
    """Read class names letter by letter: embeddings of characters and of their places, averaged, then an MLP.

    Gives one unit vector a name, (K, E). The alphabet is that of the names themselves.
    """

    mask: Tensor
    letters: Tensor

    def __init__(self, names: Sequence[str], width: int) -> None:
        super().__init__()
        alphabet = {letter: i for i, letter in enumerate(sorted(set("".join(names))))}
        longest = max(len(name) for name in names)
        letters = [[alphabet[c] for c in name] + [0] * (longest - len(name)) for name in names]
        self.register_buffer("letters", torch.tensor(letters), persistent=False)
        present = [[i < len(name) for i in range(longest)] for name in names]
        self.register_buffer("mask", torch.tensor(present).unsqueeze(-1).float(), persistent=False)
        self.letter = nn.Parameter(torch.randn(len(alphabet), width))
        self.place = nn.Parameter(torch.randn(longest, width))
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self) -> Tensor:
        """Embed all names: unit vectors (K, E)."""
        read = self.letter[self.letters] * self.place.sigmoid() * self.mask
        return F.normalize(self.mlp(read.sum(dim=1) / self.mask.sum(dim=1).sqrt()), dim=-1)


class ImageText(nn.Module):
    """The two towers' meeting place: an image projection (D to E), class names, a learned scale and bias.

    `norm` follows the mean length of projected images, so that a linear head can stand for the cosine.
    """

    norm: Tensor

    def __init__(self, names: Sequence[str], width: int, embedding: int, scale: float, bias: float) -> None:
        super().__init__()
        self.names = NameTower(names, embedding)
        self.project = nn.Linear(width, embedding, bias=False)
        nn.init.xavier_uniform_(self.project.weight)
        self.log_scale = nn.Parameter(torch.tensor(scale).log())
        self.bias = nn.Parameter(torch.tensor(bias))
        self.register_buffer("norm", torch.ones(()))

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Give unit vectors of images (B, E) and of class names (K, E), and follow the images' length."""
        projected = self.project(pooled)
        with torch.no_grad():
            self.norm.lerp_(projected.norm(dim=-1).mean().to(self.norm.dtype), 0.1)
        return F.normalize(projected, dim=-1), self.names()

    @property
    def scale(self) -> Tensor:
        """The learned factor of cosines, at most 100 (open_clip clamps it there)."""
        return self.log_scale.exp().clamp(max=100.0)

    @torch.no_grad()
    def write_head(self, head: nn.Module) -> None:
        """Make a linear head (D to K) of the class names: scale x cosine + bias.

        A linear head cannot divide by the length of each image's vector; it divides by their running mean.
        The order of the classes for an image is exactly that of the cosines.

        Raises:
            TypeError: the network has no linear head (made without classes).
        """
        if not isinstance(head, nn.Linear):
            raise TypeError("a student that learns from class names needs a head: make it with num_classes")
        head.weight.copy_(self.scale * (self.names() @ self.project.weight) / self.norm)
        head.bias.copy_(self.bias.expand_as(head.bias))
