from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from vitkd_bench.contracts import Batch
from vitkd_bench.methods._feature_transfer import on_common_grid, pairs_of_blocks
from vitkd_bench.methods._labels import label_loss_of
from vitkd_bench.methods.kd import kd_loss
from vitkd_bench.registry import METHODS, TEACHERS
from vitkd_bench.spec import SIZES, ResolvedDataset

FEATURES = [
    "at",
    "fsp",
    "manifold",
    "mobilebert",
    "nst",
    "projector",
    "spectral",
    "spectral_mse",
    "vitkd",
    "vkd",
]


def test_published_pairs_come_out() -> None:
    """Counted from the ends, 12 blocks meet 24 as the released code of SpectralKD and Manifold lists them."""
    spectral = pairs_of_blocks((0, 1, 6, 7, 8, 9, 10, 11), "ends", 12, 24)
    assert list(spectral.values()) == [0, 1, 18, 19, 20, 21, 22, 23]
    manifold = pairs_of_blocks((0, 1, 2, 3, 8, 9, 10, 11), "ends", 12, 24)
    assert list(manifold.values()) == [0, 1, 2, 3, 20, 21, 22, 23]
    assert pairs_of_blocks("all", "share", 3, 6) == {0: 1, 1: 3, 2: 5}


@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from(["share", "ends"]))
def test_pairs_exist_keep_their_order_and_end_together(student: int, teacher: int, pairing: str) -> None:
    """Any depths: the last blocks meet, order is kept, no block is invented; equal depths are i with i."""
    pairs = pairs_of_blocks("all", pairing, student, teacher)  # type: ignore[arg-type]
    theirs = list(pairs.values())
    assert list(pairs) == list(range(student))
    assert theirs == sorted(theirs)
    assert set(theirs) <= set(range(teacher))
    assert student == 1 or theirs[-1] == teacher - 1
    assert student != teacher or theirs == list(range(teacher))


def test_the_finer_grid_is_averaged() -> None:
    """A 4 x 4 grid beside a 2 x 2 one becomes the means of its four quarters."""
    fine = torch.arange(16.0).reshape(1, 16, 1)
    ours, theirs = on_common_grid(fine, torch.zeros(1, 4, 3))
    assert ours.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert theirs.shape == (1, 4, 3)
    assert on_common_grid(torch.zeros(1, 4, 3), fine)[1].flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


@pytest.mark.parametrize("name", FEATURES)
def test_parts_of_the_loss(
    name: str, batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Labels alone without kd; with it the two share the task; the features' part scales with its weight."""
    cell = make_cell("micro/deit", "standard")
    assert cell.teacher_architecture is not None
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=4))
    taps = make_method(name, cell, kd=0.25).teacher_taps()
    assert taps - make_method(name, cell).teacher_taps() == {"logits"}
    seen = teacher(batch.pixels, taps)
    runs = {}
    for weight, share in ((1.0, 0.0), (3.0, 0.25)):
        torch.manual_seed(1)
        method = make_method(name, cell, weight=weight, kd=share)
        runs[weight] = method.step(student, seen, batch)
    own = student(batch.pixels)
    assert own.logits is not None
    assert seen.logits is not None
    labels = label_loss_of(own, batch).item()
    assert set(runs[1.0]) == {"labels", name}
    assert runs[1.0]["labels"].item() == pytest.approx(labels)
    assert runs[3.0]["labels"].item() == pytest.approx(0.75 * labels)
    assert runs[3.0]["kd"].item() == pytest.approx(0.25 * kd_loss(own.logits, seen.logits).item())
    assert runs[1.0][name].item() > 0
    assert runs[3.0][name].item() == pytest.approx(3 * runs[1.0][name].item(), rel=1e-4)


@pytest.mark.parametrize("name", [name for name in FEATURES if name != "mobilebert"])
def test_prefix_tokens_play_no_part(
    name: str, batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """What the teacher's class token and registers hold changes nothing; what a patch holds does."""
    cell = make_cell("micro/dinov2_reg", "standard")
    assert cell.teacher_architecture is not None
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=4))
    method = make_method(name, cell)
    seen = teacher(batch.pixels, method.teacher_taps())

    def value(first: int, last: int) -> float:
        changed = {i: tokens.clone() for i, tokens in seen.tokens.items()}
        for tokens in changed.values():
            tokens[:, first:last, ::2] += 5
        torch.manual_seed(2)
        return method.step(student, replace(seen, tokens=changed), batch)[name].item()

    prefix = cell.teacher_architecture.prefix
    assert prefix > 1
    assert value(0, prefix) == value(0, 0)
    assert value(prefix, prefix + 1) != value(0, 0)


@pytest.mark.parametrize("name", FEATURES)
def test_refusals_are_sentences(name: str, make_cell: MakeCell) -> None:
    """No teacher, kd without a head: each is refused by name; kd with a head and the default are not."""
    entry = METHODS.get(name)
    with_kd = entry.method.Config.parse({"kd": 0.5})
    assert f"{name} needs a teacher" in str(entry.refuses(entry.method.Config(), make_cell(None)))
    why = str(entry.refuses(with_kd, make_cell("micro/mae")))
    assert f"{name} needs logits, and teacher micro/mae has no classification head" in why
    assert entry.refuses(entry.method.Config(), make_cell("micro/mae")) is None
    assert entry.refuses(with_kd, make_cell("micro/deit")) is None


@pytest.mark.parametrize("name", ["at", "manifold", "nst", "projector", "spectral", "spectral_mse", "vitkd"])
def test_a_block_beyond_the_depth_is_refused(name: str, make_cell: MakeCell) -> None:
    """A named block that the student lacks is a refusal with its depth, never a smaller set of blocks."""
    entry = METHODS.get(name)
    why = entry.refuses(entry.method.Config.parse({"layers": [0, 9]}), make_cell("micro/deit"))
    assert why == "layers [0, 9] reach beyond the network's 4 blocks (0 to 3)"


@pytest.mark.parametrize("name", FEATURES)
def test_a_narrower_shallower_student_is_taught_or_refused(
    name: str, batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Under a larger teacher every method has a loss that reaches the student, or says what differs."""
    small = TEACHERS.get("micro/deit").architecture.with_(size=SIZES["micro_small"])
    cell = make_cell("micro/deit", small)
    assert cell.teacher_architecture is not None
    entry = METHODS.get(name)
    why = entry.refuses(entry.method.Config(), cell)
    assert (why is not None) == (name in {"fsp", "mobilebert"})
    if why is not None:
        assert "differ: student" in why
        return
    student = network(small, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=4))
    method = make_method(name, cell)
    part = method.step(student, teacher(batch.pixels, method.teacher_taps()), batch)[name]
    part.backward()
    gradient = student.module.get_parameter("patch_embed.proj.weight").grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0
    assert all(p.grad is None for p in teacher.parameters())
