"""A student without its teacher's registers or class token: the maps it gets, what is said and refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.methods.conftest import MakeCell, MakeMethod, as_teacher, network
from vitkd_bench.attention import plain_distillation, select_tokens
from vitkd_bench.contracts import Batch, CellFacts, Features
from vitkd_bench.registry import METHODS, TEACHERS
from vitkd_bench.spec import SIZES, Architecture, ResolvedDataset, StudentEntry, resolve_student

ATTENTION = ["attn_copy", "attn_distill"]
REGISTERS = "micro/dinov2_reg"  # class token, 4 registers, 16 patches
# positions of the student's tokens among the teacher's
KEPT = {
    ("same", "same"): [*range(21)],
    ("same", "none"): [0, *range(5, 21)],
    ("none", "same"): [*range(1, 21)],
    ("none", "none"): [*range(5, 21)],
}
CHOICES = [(token, registers) for token, registers in KEPT if (token, registers) != ("same", "same")]


def student_of(teacher: str, **entry: Any) -> Architecture:
    """Resolve a student entry under a registered teacher."""
    return resolve_student(
        StudentEntry.parse({"as": "own", "name": "standard", **entry}), TEACHERS.get(teacher).architecture
    )


def without(make_cell: MakeCell, token: str, registers: str) -> CellFacts:
    """The cell of a standard student under the teacher with registers."""
    return make_cell(REGISTERS, student_of(REGISTERS, class_token=token, registers=registers))


def read(cell: CellFacts, batch: Batch, digits: ResolvedDataset, taps: frozenset[str]) -> Features:
    """Read a teacher with random weights, and let the registers draw attention that is worth leaving out."""
    assert cell.teacher_architecture is not None
    made = network(cell.teacher_architecture, digits, seed=5)
    with torch.no_grad():
        made.module.get_parameter("reg_token").normal_()
    return as_teacher(made)(batch.pixels, taps)


def refusal(name: str, cell: CellFacts) -> str | None:
    """Ask a method with its defaults whether it refuses a cell."""
    method = METHODS.get(name).method
    return method.refuses(method.Config(), cell)


@pytest.mark.parametrize(("token", "registers"), CHOICES)
def test_copy_gives_the_students_tokens_their_share(
    token: str,
    registers: str,
    batch: Batch,
    make_cell: MakeCell,
    make_method: MakeMethod,
    digits: ResolvedDataset,
) -> None:
    """What is injected is the teacher's map without the missing tokens, and the student trains under it."""
    cell = without(make_cell, token, registers)
    assert refusal("attn_copy", cell) is None
    method = make_method("attn_copy", cell)
    teacher = read(cell, batch, digits, method.teacher_taps())
    kept = KEPT[token, registers]
    for block, call in method.injected(teacher).items():
        maps = teacher.attention[block].maps()[:, :, kept][..., kept]
        assert float((1 - maps.sum(dim=-1)).max()) > 0.02  # what is left out held some of the attention
        torch.testing.assert_close(call.maps(), maps / maps.sum(dim=-1, keepdim=True), atol=1e-5, rtol=1e-5)
    student = network(cell.student, digits)
    method.fit(student, None, [batch])
    torch.stack(list(method.step(student, teacher, batch).values())).sum().backward()
    width = cell.student.size.width
    for block_ in student.blocks:
        gradient = block_.get_parameter("attn.qkv.weight").grad
        assert gradient is not None
        assert float(gradient[: 2 * width].abs().max()) == 0
        assert float(gradient[2 * width :].abs().max()) > 0


@pytest.mark.parametrize(("token", "registers"), CHOICES)
@pytest.mark.parametrize("loss", ["ce", "kl"])
def test_distillation_aims_at_the_same_maps(
    token: str,
    registers: str,
    loss: Any,
    batch: Batch,
    make_cell: MakeCell,
    make_method: MakeMethod,
    digits: ResolvedDataset,
) -> None:
    """The loss is that of the papers' form against the teacher's maps without the missing tokens."""
    cell = without(make_cell, token, registers)
    assert refusal("attn_distill", cell) is None
    method = make_method("attn_distill", cell, loss=loss, weight=1.0)
    teacher = read(cell, batch, digits, method.teacher_taps())
    student = network(cell.student, digits)
    features = student(batch.pixels, method.student_taps())
    found = method.loss(features, teacher, batch)["attention"]
    kept = KEPT[token, registers]
    parts = [
        plain_distillation(features.attention[i], select_tokens(teacher.attention[i], kept), loss=loss)
        for i in range(4)
    ]
    assert found.item() == pytest.approx(sum(part.item() for part in parts), rel=1e-5)


def test_a_whole_token_interface_reads_the_teacher_as_it_is(
    batch: Batch, make_cell: MakeCell, make_method: MakeMethod, digits: ResolvedDataset
) -> None:
    """By default a student has the teacher's tokens: the very calls are used, and there is nothing to say."""
    for family in ("deit", "siglip2", "dinov2_reg"):
        cell = make_cell(f"micro/{family}", "standard")
        assert cell.teacher_architecture is not None
        method = make_method("attn_copy", cell)
        teacher = as_teacher(network(cell.teacher_architecture, digits))(batch.pixels, method.teacher_taps())
        assert method.injected(teacher) == {i: teacher.attention[i] for i in range(4)}
        assert make_method("attn_distill", cell).notes() == ()
        assert len(method.notes()) == 1
    assert make_method("attn_copy", make_cell("micro/deit")).injected(None) == {}


@pytest.mark.parametrize("name", ATTENTION)
def test_the_record_says_which_tokens_were_left_out(
    name: str, make_cell: MakeCell, make_method: MakeMethod
) -> None:
    """The choice is written down in words, beside the resolved student."""
    for token, registers, named in (
        ("same", "none", "4 registers"),
        ("none", "same", "class token"),
        ("none", "none", "class token and 4 registers"),
    ):
        said = make_method(name, without(make_cell, token, registers)).notes()[-1]
        assert f"of its {named} are left out" in said
        assert said.endswith("normalised again")


@pytest.mark.parametrize("name", ATTENTION)
def test_tokens_that_the_teacher_lacks_are_refused(name: str, make_cell: MakeCell) -> None:
    """There is no map for a token that only the student has, nor for a part of the registers."""
    plain, none = TEACHERS.get("micro/deit").architecture, TEACHERS.get("micro/siglip2").architecture
    four = TEACHERS.get(REGISTERS).architecture
    student_has = "student a class token, 6 registers, 3 x 3 patches"
    teacher_has = "teacher micro/siglip2 no class token, 0 registers, 4 x 4 patches"
    more = none.with_(class_token=True, registers=6, patch=4, image_size=12)
    for teacher, student, differ, because in (
        (
            "micro/deit",
            plain.with_(registers=2),
            "tokens differ: student 19, teacher micro/deit 17",
            "the teacher has no rows of its maps for 2 registers",
        ),
        (
            "micro/siglip2",
            none.with_(class_token=True),
            "tokens differ: student 17, teacher micro/siglip2 16",
            "the teacher has no row of its maps for the student's class token",
        ),
        (
            REGISTERS,
            four.with_(registers=1),
            f"tokens differ: student 18, teacher {REGISTERS} 21",
            "a student has all of the teacher's registers or none",
        ),
        (
            "micro/siglip2",
            more,
            f"token layout differ: {student_has}, {teacher_has}",
            "maps are paired patch by patch",
        ),
    ):
        assert refusal(name, make_cell(teacher, student)) == f"{differ}; {because}"


def test_another_size_is_for_methods_that_read_no_maps(make_cell: MakeCell) -> None:
    """`standard@micro_small` learns from logits; its maps have no partner, and the refusal says which."""
    cell = make_cell("micro/deit", "standard@micro_small")
    assert refusal("kd", cell) is None
    assert refusal("none", cell) is None
    deeper = make_cell("micro/deit", student_of("micro/deit").with_(size=SIZES["ti"]))
    wider = student_of("micro/deit").with_(size=SIZES["micro"].model_copy(update={"heads": 6}))
    for name in ATTENTION:
        assert refusal(name, cell) == (
            "depth differ: student 3, teacher micro/deit 4; maps are paired block by block"
        )
        assert str(refusal(name, deeper)).startswith("depth differ: student 12, teacher micro/deit 4")
        assert refusal(name, make_cell("micro/deit", wider)) == (
            "heads differ: student 6, teacher micro/deit 3; maps are paired head by head"
        )


@pytest.mark.parametrize("teacher", [t.name for t in TEACHERS if t.group != "micro"])
def test_students_of_released_teachers_pair_unless_a_size_is_named(teacher: str, make_cell: MakeCell) -> None:
    """Every kind has maps for every teacher; a tiny student has none, and kd does not mind its size."""
    kinds = [make_cell(teacher, student_of(teacher, name=kind)) for kind in ("standard", "native")]
    facts = TEACHERS.get(teacher).architecture.size
    small = "micro" if (facts.depth, facts.heads) == (12, 3) else "ti"
    other = make_cell(teacher, student_of(teacher, name=f"standard@{small}"))
    for name in ATTENTION:
        assert [refusal(name, cell) for cell in kinds] == [None, None]
        assert str(refusal(name, other)).split(":")[0] in {"heads differ", "depth differ"}
    assert refusal("kd", other) == refusal("kd", kinds[0])


def test_heads_are_the_reason_where_only_they_differ(make_cell: MakeCell) -> None:
    """MoCo v3-S has 12 heads where others of its width have 6."""
    small = next(t for t in TEACHERS if t.family == "mocov3" and t.architecture.size.width == 384)
    assert refusal("attn_copy", make_cell(small.name, student_of(small.name, name="standard@s"))) == (
        f"heads differ: student 6, teacher {small.name} 12; maps are paired head by head"
    )
