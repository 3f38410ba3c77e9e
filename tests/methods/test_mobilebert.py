import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from tests.methods.laws import LossLaws, laws_of
from tests.methods.two_steps import student_gradients
from vitkd_bench.attention import AttentionCall
from vitkd_bench.contracts import Batch
from vitkd_bench.methods.mobilebert import MobileBERT, mobilebert_loss
from vitkd_bench.registry import METHODS, TEACHERS
from vitkd_bench.spec import SIZES, ResolvedDataset


def double(*shape: int, seed: int = 0) -> Tensor:
    """Draw a float64 tensor."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def block(x: Tensor) -> tuple[Tensor, AttentionCall]:
    """Make tokens (B, 4, 6) and an attention call of two heads of them."""
    heads = x.reshape(len(x), 4, 2, 3).transpose(1, 2)
    return x, AttentionCall(heads, heads.flip(-1), heads, None, 0.5)


def two_blocks(student: Tensor, teacher: Tensor) -> Tensor:
    """The loss over a block and its mirror image."""
    return mobilebert_loss([block(student), block(student.flip(1))], [block(teacher), block(teacher.flip(1))])


test_the_laws_hold = laws_of({"two blocks": LossLaws(two_blocks, double(2, 4, 6), double(2, 4, 6, seed=1))})


def test_against_loops() -> None:
    """Tokens one by one; maps by plain exponentials, KL with the teacher first; a sum over blocks."""
    s, t = double(2, 4, 6), double(2, 4, 6, seed=1)

    def row(call: AttentionCall, b: int, h: int, i: int) -> list[float]:
        scores = [math.exp(call.scale * torch.dot(call.q[b, h, i], call.k[b, h, j]).item()) for j in range(4)]
        return [x / sum(scores) for x in scores]

    squares = [(x - y) ** 2 for x, y in zip(s.flatten().tolist(), t.flatten().tolist(), strict=True)]
    rows = [
        sum(p * math.log(p / q) for p, q in zip(row(block(t)[1], *at), row(block(s)[1], *at), strict=True))
        for at in ((b, h, i) for b in range(2) for h in range(2) for i in range(4))
    ]
    one = sum(squares) / len(squares) + sum(rows) / len(rows)
    assert mobilebert_loss([block(s)], [block(t)]).item() == pytest.approx(one, abs=1e-12)
    assert two_blocks(s, t).item() == pytest.approx(2 * one, abs=1e-12)


def test_maps_without_tokens_and_tokens_without_maps() -> None:
    """Either difference alone is seen: equal tokens with other maps, equal maps with other tokens."""
    x, y = double(2, 4, 6), double(2, 4, 6, seed=1)
    assert mobilebert_loss([(x, block(x)[1])], [(x, block(y)[1])]).item() > 1e-3
    assert mobilebert_loss([(x, block(x)[1])], [(y, block(x)[1])]).item() == pytest.approx(
        (x - y).square().mean().item()
    )
    with pytest.raises(ValueError, match="as many blocks on both sides, at least one: 0, 0"):
        mobilebert_loss([], [])


@pytest.mark.parametrize("family", ["deit", "siglip2", "dinov2_reg", "beitv2"])
def test_equal_weights_are_the_floor(
    family: str, batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """A native student with its teacher's weights has no loss, whatever its tokens, bias and norms."""
    cell = make_cell(f"micro/{family}", "native")
    student = network(cell.student, digits)
    teacher = as_teacher(student)
    method = make_method("mobilebert", cell)
    student.eval()
    parts = method.step(student, teacher(batch.pixels, method.teacher_taps()), batch)
    assert parts["mobilebert"].item() == pytest.approx(0, abs=1e-5)


def test_a_student_without_the_teachers_extra_tokens(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """Class token and registers that the student lacks are left out of tokens and maps, and noted."""
    bare = TEACHERS.get("micro/dinov2_reg").architecture.with_(class_token=False, registers=0)
    cell = make_cell("micro/dinov2_reg", bare)
    assert cell.teacher_architecture is not None
    student = network(bare, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=4))
    method = make_method("mobilebert", cell)
    parts = method.step(student, teacher(batch.pixels, method.teacher_taps()), batch)
    assert torch.isfinite(parts["mobilebert"])
    assert "class token" in method.notes()[0]


def test_stages_run_through_all_blocks(make_cell: MakeCell, make_method: MakeMethod) -> None:
    """Progressive transfer gives every block its equal share of the first part, then none."""
    method = make_method("mobilebert", make_cell(), transfer="progressive", transfer_share=0.4)
    assert isinstance(method, MobileBERT)
    assert [method.stage(i / 100) for i in (0, 9, 10, 19, 25, 39, 40, 100)] == [0, 0, 1, 1, 2, 3, None, None]
    plain = make_method("mobilebert", make_cell())
    assert isinstance(plain, MobileBERT)
    assert plain.stage(0.0) is None


def test_progressive_transfer_trains_one_block_at_a_time(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """In its stage a block learns alone, without labels, what is below it frozen; the task comes after."""
    cell = make_cell("micro/deit", "standard")
    assert cell.teacher_architecture is not None
    student = network(cell.student, digits)
    teacher = as_teacher(network(cell.teacher_architecture, digits, seed=4))
    method = make_method("mobilebert", cell, transfer="progressive", kd=0.5)
    seen = teacher(batch.pixels, method.teacher_taps())
    found = {}
    for progress in (0.0, 0.3, 0.9):
        parts = method.step(student, seen, replace(batch, progress=progress))
        reached = student_gradients(torch.stack(list(parts.values())).sum(), student)
        blocks = {int(name.split(".")[1]) for name in reached if name.startswith("blocks.")}
        found[progress] = (set(parts), blocks, "patch_embed.proj.weight" in reached)
    assert found == {
        0.0: ({"mobilebert"}, {0}, True),
        0.3: ({"mobilebert"}, {2}, False),
        0.9: ({"labels", "kd"}, {0, 1, 2, 3}, True),
    }


def test_unequal_networks_are_refused(make_cell: MakeCell) -> None:
    """Depth, heads, width and tokens, each by its numbers."""
    teacher = TEACHERS.get("micro/deit").architecture
    entry = METHODS.get("mobilebert")
    for student, because in (
        (teacher.with_(size=SIZES["micro_large"]), "depths differ: student 6, teacher micro/deit 4"),
        (teacher.with_(patch=4), "grids of patches differ"),
        (teacher.with_(registers=1), "tokens differ: student 18, teacher micro/deit 17"),
    ):
        assert because in str(entry.refuses(entry.method.Config(), make_cell("micro/deit", student)))
