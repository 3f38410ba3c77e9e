"""A twin is the very network that other pixels, other heads or swapped weights would make."""

import copy

import pytest
import torch

from vitkd_bench.contracts.taps import POOLED
from vitkd_bench.diagnose.twins import KNOWN_PIXELS, Twin, twins_of
from vitkd_bench.networks import ViTNetwork, create_student
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import (
    HALF_PIXELS,
    IMAGENET_PIXELS,
    Architecture,
    Components,
    PixelStats,
    Size,
)

POOL = frozenset({POOLED})


def network(heads: int = 3, pixels: PixelStats = IMAGENET_PIXELS) -> ViTNetwork:
    """A small random ViT; of one seed and width, whatever its heads and pixels, all weights are the same."""
    size = Size(width=48, depth=3, heads=heads)
    built = create_student(Architecture(image_size=32, patch=8, size=size), 5, pixels, seed=3)
    with torch.no_grad():
        for name, weight in built.module.named_parameters():
            if "qkv" in name:
                weight.mul_(8)  # so that attention is far from uniform
    return ViTNetwork(copy.deepcopy(built.module), built.architecture, pixels, frozen=True)


def pooled(net: ViTNetwork, pixels: torch.Tensor) -> torch.Tensor:
    """The pooled features of one forward."""
    found = net(pixels, POOL).pooled
    assert found is not None
    return found


@pytest.fixture
def images() -> torch.Tensor:
    """Four images in [0, 1]."""
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_other_pixels_are_another_normalisation(images: torch.Tensor) -> None:
    """The twin fed to a network of ImageNet's statistics is the network of half statistics."""
    twin = Twin("pixels", "half", pixels=HALF_PIXELS)
    own, other = network(), network(pixels=HALF_PIXELS)
    torch.testing.assert_close(pooled(own, twin.feed(images, own.pixels)), pooled(other, images))
    assert not torch.allclose(pooled(own, images), pooled(other, images), atol=1e-3)


@pytest.mark.parametrize("heads", [1, 6, 12])
def test_another_split_is_a_network_of_so_many_heads(images: torch.Tensor, heads: int) -> None:
    """Three heads read as others are what a network built with the others computes, to rounding."""
    own, other = network(), network(heads)
    with Twin("heads", "other", heads=heads).reading():
        read = pooled(own, images)
    torch.testing.assert_close(read, pooled(other, images), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(pooled(own, images), read, atol=1e-4)


def test_swapped_is_a_network_of_swapped_weights(images: torch.Tensor) -> None:
    """Queries and keys exchanged where attention is computed are rows of the weights exchanged."""
    own, other = network(), network()
    with torch.no_grad():
        for name, weight in other.module.named_parameters():
            if "qkv" in name:
                q, k, v = weight.chunk(3)
                weight.copy_(torch.cat([k, q, v]))
    with Twin("queries_keys", "swapped").reading():
        read = pooled(own, images)
    torch.testing.assert_close(read, pooled(other, images), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(pooled(own, images), read, atol=1e-4)


def test_a_reading_ends_with_its_block(images: torch.Tensor) -> None:
    """After a twin, even one that failed, the network is what it was."""
    own = network()
    before = pooled(own, images)
    with pytest.raises(ZeroDivisionError), Twin("queries_keys", "swapped").reading():
        raise ZeroDivisionError
    assert torch.equal(pooled(own, images), before)


def test_heads_are_left_alone_where_something_belongs_to_each() -> None:
    """A relative position bias has one table a head: no other split is tried; half of three is none."""
    teacher = TEACHERS.get("deit/ti")
    size = teacher.architecture.size
    assert [t.heads for t in twins_of(teacher, teacher.architecture) if t.kind == "heads"] == [2 * size.heads]
    biased = teacher.architecture.with_(components=Components(relative_position_bias=True))
    assert [t.kind for t in twins_of(teacher, biased) if t.kind == "heads"] == []


def test_the_declared_pixels_are_no_twin() -> None:
    """Every known statistic but the contract's own is tried; a teacher of grey images has none."""
    deit, micro = TEACHERS.get("deit/ti"), TEACHERS.get("micro/deit")
    tried = [t.pixels for t in twins_of(deit, deit.architecture) if t.kind == "pixels"]
    assert tried == [stats for stats in KNOWN_PIXELS.values() if stats != deit.pixels]
    assert len(tried) == 3
    assert all(t.kind != "pixels" for t in twins_of(micro, micro.architecture))
