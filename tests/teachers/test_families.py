"""The shelf of teachers says what the reference says of the eleven families."""

import subprocess
import sys

import pytest

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import Components, Teacher, parse_student, resolve_student

FAILS = {"beitv2", "clip", "dinov2", "dinov2_reg"}
TRANSFERS = {"augreg", "deit", "dino", "ibot", "mae", "mocov3", "siglip2"}

NATIVE = {
    "augreg": Components(),
    "beitv2": Components(layer_scale=0.1, relative_position_bias=True, position="none", qkv_bias="qv"),
    "clip": Components(norm_pre=True, activation="quick_gelu", patch_bias=False, norm_eps=1e-5),
    "deit": Components(),
    "dino": Components(),
    "dinov2": Components(layer_scale=1e-5),
    "dinov2_reg": Components(layer_scale=1e-5, position_on_prefix=False),
    "ibot": Components(),
    "mae": Components(),
    "mocov3": Components(position="fixed"),
    "siglip2": Components(activation="gelu_tanh"),
}

micro = [teacher for teacher in TEACHERS if teacher.group == "micro"]


def test_eleven_families_have_a_micro_teacher() -> None:
    """One each, four that fail and seven that transfer."""
    assert {t.family: t.outcome for t in micro} == dict.fromkeys(FAILS, "fails") | dict.fromkeys(
        TRANSFERS, "transfers"
    )
    assert len(micro) == 11


def test_a_family_has_one_outcome() -> None:
    """All sizes of a family share what is published of it."""
    for teacher in TEACHERS:
        assert (teacher.outcome == "fails") == (teacher.family in FAILS)


@pytest.mark.parametrize("teacher", micro, ids=lambda t: t.family)
def test_micro_teachers_have_their_family_s_components(teacher: Teacher) -> None:
    """The native components and the token interface are those read off the families' code."""
    architecture = teacher.architecture
    assert architecture.components == NATIVE[teacher.family]
    assert architecture.class_token == (teacher.family != "siglip2")
    assert architecture.registers == (4 if teacher.family == "dinov2_reg" else 0)
    assert architecture.grid == 4


def test_heads_are_those_that_the_families_publish() -> None:
    """Labels for the two label-trained families, class names for the two trained with text, none else."""
    kinds = {t.family: t.head.kind for t in micro if t.head}
    assert kinds == {"deit": "labels", "augreg": "labels", "clip": "text", "siglip2": "text"}


@pytest.mark.parametrize("family", sorted(TRANSFERS - {"mocov3", "siglip2"}))
def test_plain_families_have_one_student(family: str) -> None:
    """Where a family has no component, its native student is the standard one."""
    teacher = TEACHERS.get(f"micro/{family}").architecture
    assert resolve_student(parse_student("native"), teacher) == teacher
    assert resolve_student(parse_student("standard"), teacher) == teacher


def test_the_shelf_needs_no_torch() -> None:
    """Teachers are facts: listing them imports neither torch nor timm."""
    code = (
        "import sys; from vitkd_bench.registry import TEACHERS; TEACHERS.names(); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'timm', 'torchvision')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
