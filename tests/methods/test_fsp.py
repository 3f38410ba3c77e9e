import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod
from tests.methods.laws import G3_STUDENT, G3_TEACHER, LossLaws, laws_of
from vitkd_bench.methods.fsp import FlowOfSolution, flows, fsp_loss
from vitkd_bench.registry import METHODS, TEACHERS
from vitkd_bench.spec import SIZES


def double(*shape: int, seed: int = 0) -> Tensor:
    """Draw a float64 tensor."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def two_blocks(student: Tensor, teacher: Tensor) -> Tensor:
    """Two blocks a side, the second a fixed change of the first."""
    return fsp_loss([student, student.flip(1) + 1], [teacher, teacher.flip(1) + 1])


test_the_laws_hold = laws_of(
    {
        "equal grids": LossLaws(two_blocks, G3_STUDENT, G3_TEACHER),
        "other grid": LossLaws(two_blocks, double(2, 9, 2), double(2, 4, 2, seed=1)),
    }
)


def test_a_value_by_hand() -> None:
    """Two patches of one channel: flows (1 x 3 + 2 x 4) / 2 and (1 x 1 + 1 x 1) / 2, apart by 4.5."""

    def tokens(*values: float) -> Tensor:
        return torch.tensor(values, dtype=torch.float64).reshape(1, 2, 1)

    value = fsp_loss([tokens(1, 2), tokens(3, 4)], [tokens(1, 1), tokens(1, 1)])
    assert value.item() == pytest.approx(4.5**2)


def test_against_loops() -> None:
    """Inner products of channels over places, block after block, in plain Python; a sum over pairs."""
    ours = [double(2, 4, 3, seed=i) for i in range(3)]
    theirs = [double(2, 9, 3, seed=10 + i) for i in range(3)]

    def flow(a: Tensor, b: Tensor, image: int, i: int, j: int) -> float:
        return sum((a[image, n, i] * b[image, n, j]).item() for n in range(a.shape[1])) / a.shape[1]

    expected = 0.0
    for k in range(2):
        terms = [
            (flow(ours[k], ours[k + 1], b, i, j) - flow(theirs[k], theirs[k + 1], b, i, j)) ** 2
            for b in range(2)
            for i in range(3)
            for j in range(3)
        ]
        expected += sum(terms) / len(terms)
    assert fsp_loss(ours, theirs).item() == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_what_it_forgets_and_sees(seed: int) -> None:
    """One order of one side's places is forgotten; an order of its channels, or a scale, is not."""
    s, t = double(2, 9, 3, seed=seed), double(2, 9, 3, seed=seed + 1000)
    blocks, targets = [s, s.square()], [t, t.square()]
    value = fsp_loss(blocks, targets).item()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
    assert fsp_loss([x[:, order] for x in blocks], targets).item() == pytest.approx(value, abs=1e-12)
    assert fsp_loss([s[:, order], s.square()], targets).item() != pytest.approx(value, abs=1e-9)
    assert fsp_loss([x.roll(1, dims=2) for x in blocks], targets).item() != pytest.approx(value, abs=1e-9)
    assert fsp_loss([2 * x for x in blocks], targets).item() != pytest.approx(value, abs=1e-9)


def test_flows_are_no_half_precision_sums() -> None:
    """Half precision tokens whose products pass its range give finite flows, under autocast too."""
    tokens = torch.full((1, 4, 2), 300.0, dtype=torch.float16)
    with torch.autocast("cpu", torch.bfloat16):
        (flow,) = flows([tokens, tokens])
    assert flow.dtype == torch.float32
    assert flow.unique().tolist() == [90000.0]


def test_one_block_or_uneven_sides_are_errors() -> None:
    """A flow runs between two blocks, as many on both sides."""
    for ours, theirs in ((1, 1), (2, 3)):
        with pytest.raises(ValueError, match=f"as many on both sides: {ours}, {theirs}"):
            fsp_loss([G3_STUDENT] * ours, [G3_TEACHER] * theirs)


def test_flows_run_where_the_setting_says(make_cell: MakeCell, make_method: MakeMethod) -> None:
    """First to last, or through the first blocks of all thirds; of depths of its own on each side."""
    teacher = TEACHERS.get("micro/deit").architecture
    deep = teacher.with_(size=SIZES["micro"].model_copy(update={"depth": 12}))
    cell = make_cell("micro/deit", deep)
    found = {}
    for flow in ("ends", "thirds"):
        method = make_method("fsp", cell, flow=flow)
        assert isinstance(method, FlowOfSolution)
        found[flow] = method.stops
        assert len(method.student_taps()) == len(method.teacher_taps()) == len(method.stops[0])
    assert found == {"ends": ((0, 11), (0, 3)), "thirds": ((0, 4, 8, 11), (0, 1, 2, 3))}


def test_shallow_networks_are_refused(make_cell: MakeCell) -> None:
    """Thirds take four blocks and ends two: said in a sentence, with what the network has."""
    shallow = TEACHERS.get("micro/deit").architecture
    entry = METHODS.get("fsp")
    for depth, flow, least in ((3, "thirds", 4), (1, "ends", 2)):
        cell = make_cell("micro/deit", shallow.with_(size=SIZES["micro"].model_copy(update={"depth": depth})))
        why = entry.refuses(entry.method.Config.parse({"flow": flow}), cell)
        assert why == f"fsp with flow {flow} takes {least} blocks, and a network has {depth}"
