"""What a network says of some images, under its own reading or a twin's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitkd_bench.contracts.taps import LOGITS, POOLED
from vitkd_bench.diagnose.twins import Twin
from vitkd_bench.networks import ViTNetwork
from vitkd_bench.spec import Architecture

BATCH = 16
SYNTHETIC = 24  # images; no accuracy is taken from them, only whether features live


@dataclass(frozen=True, slots=True)
class Reading:
    """`pooled` (N, D) as the head sees it, `logits` (N, K) where there is a head; float64."""

    pooled: NDArray[np.float64]
    logits: NDArray[np.float64] | None

    @classmethod
    def none(cls) -> Reading:
        """The reading of no image, to be added to."""
        return cls(np.empty((0, 0)), None)

    def __len__(self) -> int:
        """Count the images."""
        return len(self.pooled)

    def __add__(self, other: Reading) -> Reading:
        """Join the readings of two parts of the same images."""
        if not len(self):
            return other
        both = None
        if self.logits is not None and other.logits is not None:
            both = np.concatenate([self.logits, other.logits])
        return Reading(np.concatenate([self.pooled, other.pooled]), both)

    def first(self, n: int) -> Reading:
        """The reading of the first `n` images."""
        return Reading(self.pooled[:n], None if self.logits is None else self.logits[:n])

    def normal_logits(self) -> NDArray[np.float64] | None:
        """Log-probabilities (N, K); None without a head."""
        if self.logits is None:
            return None
        shifted = self.logits - self.logits.max(axis=1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))

    def directions(self) -> NDArray[np.float64]:
        """Pooled features of length one, (N, D)."""
        length = np.linalg.norm(self.pooled, axis=1, keepdims=True)
        return np.asarray(self.pooled / np.where(length > 0, length, 1))


def read(
    network: ViTNetwork, images: NDArray[np.uint8], twin: Twin | None = None, *, flip: bool = False
) -> Reading:
    """Run a frozen network on images (N, C, S, S) uint8, mirrored if asked, as `twin` reads it if given."""
    taps = frozenset({POOLED, LOGITS} if network.has_head else {POOLED})
    pooled, logits = [], []
    for start in range(0, len(images), BATCH):
        pixels = torch.from_numpy(images[start : start + BATCH]).float().div_(255)
        pixels = pixels.flip(3) if flip else pixels
        if twin is None:
            features = network(pixels, taps)
        else:
            with twin.reading():
                features = network(twin.feed(pixels, network.pixels), taps)
        pooled.append(features.pooled)
        logits.append(features.logits)
    network.clear()
    return Reading(_joined(pooled), _joined(logits) if network.has_head else None)


def _joined(parts: list[Tensor | None]) -> NDArray[np.float64]:
    return torch.cat([part for part in parts if part is not None]).double().cpu().numpy()


def synthetic_images(architecture: Architecture, count: int = SYNTHETIC) -> NDArray[np.uint8]:
    """Make fixed images (N, C, S, S) of coloured noise that falls with frequency, as in photographs.

    They depend on the shape and nothing else.
    """
    side, channels = architecture.image_size, architecture.channels
    draws = np.random.default_rng(0)
    across = np.fft.fftfreq(side)
    distance = np.sqrt(across[:, None] ** 2 + across[None] ** 2)
    distance[0, 0] = 1
    noise = np.fft.fft2(draws.standard_normal((count, channels, side, side))) / distance
    values = np.fft.ifft2(noise).real
    low = values.min(axis=(2, 3), keepdims=True)
    high = values.max(axis=(2, 3), keepdims=True)
    return np.asarray((255 * (values - low) / (high - low)).astype(np.uint8))
