import cmath
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.methods.conftest import MakeCell
from tests.methods.laws import LossLaws, laws_of
from vitkd_bench.methods.spectral import channels_pooled, spectral_loss
from vitkd_bench.methods.spectral_mse import spectral_mse_loss
from vitkd_bench.registry import METHODS, TEACHERS
from vitkd_bench.spec import SIZES


def double(*shape: int, seed: int = 0) -> Tensor:
    """Draw a float64 tensor."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def golden_maps() -> tuple[Tensor, Tensor]:
    """G4: maps of two channels on a 4 x 4 grid, as patch tokens (1, 16, 2)."""
    grid = [(i, j) for i in range(4) for j in range(4)]
    student = [[math.sin(i + 2 * j + c) for c in range(2)] for i, j in grid]
    teacher = [[math.cos(2 * i - j + c) for c in range(2)] for i, j in grid]
    return torch.tensor([student], dtype=torch.float64), torch.tensor([teacher], dtype=torch.float64)


test_the_laws_hold = laws_of(
    {
        "4 x 4": LossLaws(spectral_loss, *golden_maps()),
        "3 x 3": LossLaws(spectral_loss, double(2, 9, 2), double(2, 9, 2, seed=1)),
        "narrower": LossLaws(spectral_loss, double(2, 9, 2), double(2, 9, 5, seed=1)),
        "one patch": LossLaws(spectral_loss, double(2, 1, 2), double(2, 1, 3, seed=1)),
        "control": LossLaws(spectral_mse_loss, *golden_maps()),
        "control, narrower": LossLaws(spectral_mse_loss, double(2, 9, 2), double(2, 9, 5, seed=1)),
    }
)


def test_the_golden_values() -> None:
    """G4 under both methods."""
    student, teacher = golden_maps()
    assert spectral_loss(student, teacher).item() == pytest.approx(0.4127391829, abs=1e-9)
    assert spectral_mse_loss(student, teacher).item() == pytest.approx(1.0134090086, abs=1e-9)


def test_windows_of_pooled_channels_overlap() -> None:
    """Three channels to two: the middle one is in both windows."""
    assert channels_pooled(torch.tensor([[[1.0, 2.0, 4.0]]]), 2).tolist() == [[[1.5, 3.0]]]


def test_against_the_transform_written_out() -> None:
    """A Fourier sum in plain Python over the half plane of frequencies, real and imaginary parts apart."""
    side, width = 3, 2
    s, t = double(2, 9, width), double(2, 9, 4, seed=5)
    difference = s - (t[..., 0::2] + t[..., 1::2]) / 2
    total, count = 0.0, 0
    for image in difference:
        for c in range(width):
            for u in range(side):
                for v in range(side // 2 + 1):
                    value = sum(
                        image[side * i + j, c].item() * cmath.exp(-2j * cmath.pi * (u * i + v * j) / side)
                        for i in range(side)
                        for j in range(side)
                    )
                    total += abs(value / side) ** 2
                    count += 2
    assert spectral_loss(s, t).item() == pytest.approx(total / count, abs=1e-12)


@given(st.integers(2, 8), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_it_is_plain_error_with_a_known_weighting(side: int, seed: int) -> None:
    """Spectral over plain error is W (1 + r) / (4 (W // 2 + 1)), r the energy in columns 0 and W / 2."""
    s, t = double(2, side**2, 3, seed=seed), double(2, side**2, 3, seed=seed + 1000)
    columns = torch.fft.fft((s - t).reshape(2, side, side, 3), dim=2).abs().square().sum(dim=(0, 1, 3))
    r = (columns[0] + (columns[side // 2] if side % 2 == 0 else 0)) / columns.sum()
    expected = side * (1 + r) / (4 * (side // 2 + 1))
    ratio = spectral_loss(s, t) / spectral_mse_loss(s, t)
    assert ratio.item() == pytest.approx(expected.item(), abs=1e-12)


@given(st.integers(0, 999))
@settings(max_examples=15, deadline=None)
def test_the_spectral_loss_alone_knows_places(seed: int) -> None:
    """One permutation of the grid on both sides keeps plain error, and moves the spectral one."""
    s, t = double(2, 16, 3, seed=seed), double(2, 16, 3, seed=seed + 1000)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(seed))
    plain, moved = spectral_mse_loss(s, t), spectral_mse_loss(s[:, order], t[:, order])
    assert moved.item() == pytest.approx(plain.item(), abs=1e-12)
    assert spectral_loss(s[:, order], t[:, order]).item() != pytest.approx(spectral_loss(s, t).item())


@pytest.mark.parametrize("loss", [spectral_loss, spectral_mse_loss])
def test_the_order_of_the_teachers_channels_changes_the_target(loss: object) -> None:
    """Pooling takes neighbours as they come: a permutation of channels gives another loss."""
    assert callable(loss)
    s, t = double(2, 16, 3), double(2, 16, 6, seed=1)
    assert loss(s, t[..., [5, 0, 3, 1, 4, 2]]).item() != pytest.approx(loss(s, t).item(), rel=1e-3)


@pytest.mark.parametrize("name", ["spectral", "spectral_mse"])
def test_a_wider_student_is_refused(name: str, make_cell: MakeCell) -> None:
    """There is no pooling of fewer channels into more: refused by plan, an error of the function."""
    wide = TEACHERS.get("micro/deit").architecture.with_(size=SIZES["micro_large"])
    entry = METHODS.get(name)
    why = entry.refuses(entry.method.Config(), make_cell("micro/deit", wide))
    assert why == f"widths: student 64, teacher 48; {name} pools the teacher's channels down to the student's"
    with pytest.raises(ValueError, match="2 channels of the teacher cannot be pooled to 3"):
        spectral_loss(double(1, 4, 3), double(1, 4, 2))
