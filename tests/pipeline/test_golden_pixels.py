"""The pixels that a network is shown: pinned for each way that some teacher is shown an image."""

import hashlib
import io

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from vitkd_bench.contracts import Look
from vitkd_bench.networks import draw_teacher
from vitkd_bench.pipeline.decode import shown
from vitkd_bench.pipeline.images import ChosenImages
from vitkd_bench.registry import TEACHERS

GOLDEN = {
    ("bicubic", 1.0): "2913ae96e745",
    ("bicubic", 0.9): "ee927d9ecb8f",
    ("bilinear", 1.0): "6a19723dd694",
    ("bilinear", 0.9): "fdb589313386",
}
"""Of `picture` at 56 px: the first 12 digits of the SHA-256 of the pixels."""


class OnePicture:
    """A lossless picture with edges, texture and colours, 150 x 110 px."""

    def __len__(self) -> int:
        return 1

    def read(self, _: int) -> bytes:
        """Give its file."""
        y, x = np.mgrid[:110, :150]
        planes = [(x * 3 + y * k) % 256 for k in (1, 2, 5)]
        planes[0] = np.where((x - 70) ** 2 + (y - 50) ** 2 < 900, 255, planes[0])
        buffer = io.BytesIO()
        Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8)).save(buffer, "PNG")
        return buffer.getvalue()

    def place(self, _: int) -> str:
        """Name it."""
        return "picture"


def picture(look: Look, crop: float) -> NDArray[np.uint8]:
    """The picture as it is shown."""
    return shown(ChosenImages(OnePicture(), np.zeros(1, np.int64)), 0, look, crop)


@pytest.mark.parametrize(("interpolation", "crop"), GOLDEN)
def test_what_is_shown_never_moves(interpolation: str, crop: float) -> None:
    """Decoding, the centred square, the crop and the filter give the pixels that they always gave."""
    look = Look(56, "bilinear" if interpolation == "bilinear" else "bicubic")
    found = hashlib.sha256(picture(look, crop).tobytes()).hexdigest()[:12]
    assert found == GOLDEN[interpolation, crop]


@pytest.mark.parametrize("name", [entry.name for entry in TEACHERS if entry.architecture.channels == 3])
def test_a_teacher_is_shown_its_own_normalisation(name: str) -> None:
    """What reaches the first layer of every teacher is (pixels / 255 - its mean) / its deviation."""
    contract = TEACHERS.get(name)
    size = contract.architecture.size.model_copy(update={"depth": 1})
    side = contract.architecture.patch * 2
    small = contract.architecture.with_(image_size=side, size=size)
    network = draw_teacher(contract, small, 0, "timm")
    seen: list[torch.Tensor] = []
    first = network.module.get_submodule("patch_embed.proj")
    first.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    pixels = picture(Look(side, contract.interpolation), 1.0)
    network(torch.from_numpy(pixels)[None].float() / 255, frozenset({"pooled"}))
    mean, deviation = (np.array(v)[:, None, None] for v in (contract.pixels.mean, contract.pixels.std))
    expected = (pixels.astype(np.float64) / 255 - mean) / deviation
    np.testing.assert_allclose(seen[0][0].numpy(), expected, atol=2e-6)
