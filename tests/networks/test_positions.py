"""Position tables at another grid: timm's way, and the way of DINO's, iBOT's and DINOv2's own code."""

import math
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from vitkd_bench.networks import load_teacher
from vitkd_bench.networks.positions import resample_position
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import IMAGENET_PIXELS, Architecture, Components, Size, Teacher, WeightSource

A = -0.75  # of the cubic kernel that torch interpolates with


def cubic(x: float, a: float = A) -> float:
    """Weight of a sample at this distance (Keys, 1981)."""
    x = abs(x)
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a if x < 2 else 0.0


def official(table: Tensor, grid: int) -> Tensor:
    """DINO's table at a grid, in plain lines: the sample at i + 1/2 over (grid + 0.1) / old, minus 1/2."""
    old = math.isqrt(table.shape[1] - 1)
    weights = torch.zeros(grid, old, dtype=torch.float64)
    for i in range(grid):
        place = (i + 0.5) * old / (grid + 0.1) - 0.5
        for tap in range(math.floor(place) - 1, math.floor(place) + 3):
            weights[i, min(max(tap, 0), old - 1)] += cubic(place - tap)
    return moved_by(weights, table, prefix=1)


def antialiased(table: Tensor, grid: int) -> Tensor:
    """The table of a model with registers: the kernel (of a = -1/2) as wide as the step, weights normed."""
    old = math.isqrt(table.shape[1])
    step = max(old / grid, 1.0)
    weights = torch.zeros(grid, old, dtype=torch.float64)
    for i in range(grid):
        place = (i + 0.5) * old / grid
        for tap in range(max(int(place - 2 * step + 0.5), 0), min(int(place + 2 * step + 0.5), old)):
            weights[i, tap] = cubic((tap + 0.5 - place) / step, a=-0.5)
    return moved_by(weights / weights.sum(dim=1, keepdim=True), table, prefix=0)


def moved_by(weights: Tensor, table: Tensor, prefix: int) -> Tensor:
    """Weigh rows and columns of the patches alike."""
    old = weights.shape[1]
    patches = table[0, prefix:].double().reshape(old, old, -1)
    moved = torch.einsum("ia,jb,abd->ijd", weights, weights, patches).flatten(0, 1)[None]
    return torch.cat([table[:, :prefix].double(), moved], dim=1)


def draw(old: int) -> Tensor:
    """A table of 37 x 37 or so."""
    return torch.randn(1, 1 + old**2, 5, generator=torch.Generator().manual_seed(old))


@pytest.mark.parametrize(("old", "grid"), [(37, 16), (37, 8), (14, 24), (5, 4)])
def test_official_is_the_formula_of_the_release(old: int, grid: int) -> None:
    """Bicubic without antialiasing, by the factor (grid + 0.1) / old; timm's way is another."""
    moved = resample_position(draw(old), grid, 1, "official")
    torch.testing.assert_close(moved.double(), official(draw(old), grid), atol=1e-5, rtol=1e-4)
    other = resample_position(draw(old), grid, 1, "timm")
    assert other.shape == moved.shape
    assert not torch.allclose(other, moved, atol=1e-2)


@pytest.mark.parametrize(("old", "grid"), [(37, 16), (37, 8), (14, 24), (5, 4)])
def test_official_with_registers_is_antialiased_to_the_size(old: int, grid: int) -> None:
    """The release asks for the size itself, as timm does; no prefix token has a slot in timm's table."""
    table = draw(old)[:, 1:]
    moved = resample_position(table, grid, 0, "official", registers=4)
    torch.testing.assert_close(moved.double(), antialiased(table, grid), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(moved, resample_position(table, grid, 0, "timm"))
    assert not torch.allclose(moved, resample_position(table, grid, 0, "official"), atol=1e-2)


@given(
    old=st.integers(2, 12),
    grid=st.integers(2, 12),
    prefix=st.integers(0, 5),
    way=st.sampled_from(["timm", "official"]),
)
def test_laws_of_resampling(old: int, grid: int, prefix: int, way: str) -> None:
    """The prefix keeps its slots, a constant field stays constant, and the same grid changes nothing."""
    table = torch.randn(1, prefix + old**2, 3, generator=torch.Generator().manual_seed(0))
    moved = resample_position(table, grid, prefix, way)  # type: ignore[arg-type]
    assert moved.shape == (1, prefix + grid**2, 3)
    assert torch.equal(moved[:, :prefix], table[:, :prefix])
    assert torch.equal(resample_position(table, old, prefix, way), table)  # type: ignore[arg-type]
    flat = torch.full_like(table, 0.7)
    torch.testing.assert_close(
        resample_position(flat, grid, prefix, way),  # type: ignore[arg-type]
        torch.full((1, prefix + grid**2, 3), 0.7),
    )


@pytest.mark.parametrize("registers", [0, 4])
def test_a_teacher_is_loaded_its_contracts_way(tmp_path: Path, registers: int) -> None:
    """Without registers `official` is DINOv2's own way; with them it is antialiased, as timm's."""
    name = "vit_small_patch14_reg4_dinov2" if registers else "vit_small_patch14_dinov2"
    size = {"embed_dim": 24, "num_heads": 2, "depth": 1}
    torch.manual_seed(0)
    state = timm.create_model(name, img_size=70, num_classes=0, **size).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    components = Components(layer_scale=1e-5, position_on_prefix=not registers)
    architecture = Architecture(
        image_size=56,
        patch=14,
        registers=registers,
        components=components,
        size=Size(width=24, depth=1, heads=2),
    )
    teacher = Teacher(
        name="t",
        title="t",
        family="test",
        group="reserve",
        paper="none",
        licence="none",
        objective="none",
        pixels=IMAGENET_PIXELS,
        architecture=architecture,
        sources=(WeightSource(backend="timm", model=name, arguments=size),),
    )
    found = {}
    for way in ("timm", "official"):
        asked = teacher.model_copy(update={"position_interpolation": way})
        found[way] = load_teacher(asked, architecture, tmp_path).module.state_dict()["pos_embed"]
    expected = (antialiased if registers else official)(state["pos_embed"], 4)
    torch.testing.assert_close(found["official"].double(), expected, atol=1e-5, rtol=1e-4)
    assert torch.allclose(found["timm"], found["official"]) == bool(registers)


def test_families_whose_release_resamples_so_say_official() -> None:
    """Four releases have this function; what others do is not known here, and timm's way stands for it."""
    ways = {(t.family, t.position_interpolation) for t in TEACHERS if t.group != "micro"}
    official_families = {"dino", "ibot", "dinov2", "dinov2_reg"}
    assert {family for family, way in ways if way == "official"} == official_families
    assert not official_families & {family for family, way in ways if way == "timm"}
