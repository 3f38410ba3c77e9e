from typing import Literal

import pytest
import torch
from torch import nn

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.methods.laws import LossLaws, laws_of
from tests.methods.stepping import parts_of, reaches_the_student
from tests.methods.two_steps import two_steps
from vitkd_bench.contracts import Batch
from vitkd_bench.methods.mgd import masked, mgd_loss
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import SIZES, ResolvedDataset

OURS, THEIRS = torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

test_the_laws_hold = laws_of({"maps": LossLaws(mgd_loss, OURS, THEIRS)})


def test_mgd_is_the_released_sum_in_mean_units() -> None:
    """The released sum over all but the batch, at 7e-5, is 1.76 of the mean at 512 x 7 x 7."""
    released = 7e-5 * ((OURS - THEIRS) ** 2).sum().item() / len(OURS)
    values = OURS[0].numel()
    assert 7e-5 * values * mgd_loss(OURS, THEIRS).item() == pytest.approx(released)
    assert METHODS.get("mgd").method.Config().plain()["weight"] == pytest.approx(7e-5 * 512 * 49, abs=5e-3)


@pytest.mark.parametrize("what", ["channels", "patches"])
@pytest.mark.parametrize("share", [0.0, 0.15, 0.75])
def test_the_share_is_masked(what: Literal["channels", "patches"], share: float) -> None:
    """Whole channels or whole patches vanish, each image's own, about as many as asked; others stay."""
    grid = torch.rand(50, 30, 6, 6) + 1
    found = masked(grid, share, what)
    gone = found == 0
    assert torch.equal(found[~gone], grid[~gone])
    lines = gone.flatten(2).all(dim=2) if what == "channels" else gone.all(dim=1).flatten(1)
    assert gone.sum() == lines.sum() * (36 if what == "channels" else 30)
    deviation = (share * (1 - share) / lines.numel()) ** 0.5
    assert lines.float().mean().item() == pytest.approx(share, abs=5 * deviation)
    assert share == 0 or not torch.equal(lines[0], lines[1])


def test_everything_learned_moves(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Map and generator move within two steps; a map there is only where widths differ."""
    cell = make_cell("micro/deit", make_cell().student.with_(size=SIZES["micro_small"], class_token=False))
    assert cell.teacher_architecture is not None
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=3))
    method = make_method("mgd", cell, masked="patches")
    assert method.teacher_taps() == {"tokens/3"}
    assert reaches_the_student(parts_of(method, student, teacher, batch)["mgd"], student)
    assert two_steps(method, student, teacher, batch).still == set()
    same = make_method("mgd", make_cell())
    assert isinstance(same, nn.Module)
    assert {name.split(".")[0] for name, _ in same.named_parameters()} == {"generators"}


def test_the_loss_is_that_of_the_generated_tokens(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Patches laid out row by row, nothing masked: two convolutions by hand."""
    cell = make_cell()
    student, teacher = network(cell.student, digits), as_teacher(network(cell.student, digits, seed=3))
    method = make_method("mgd", cell, share=0.0, weight=2.0)
    assert isinstance(method, nn.Module)
    found = parts_of(method, student, teacher, batch)["mgd"]
    ours = student(batch.pixels, frozenset({"tokens/3"})).tokens[3][:, 1:]
    theirs = teacher(batch.pixels, frozenset({"tokens/3"})).tokens[3][:, 1:]
    grid = torch.stack([ours[:, 4 * row : 4 * row + 4] for row in range(4)], dim=1).permute(0, 3, 1, 2)
    weights = dict(method.named_parameters())
    for layer in (0, 2):
        name = f"generators.3.{layer}"
        grid = nn.functional.conv2d(grid, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)
        grid = grid.relu() if layer == 0 else grid
    guess = torch.cat([grid[:, :, row] for row in range(4)], dim=2).transpose(1, 2)
    torch.testing.assert_close(found, 2 * (guess - theirs).square().mean())
