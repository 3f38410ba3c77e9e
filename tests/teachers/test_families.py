"""The shelf of teachers says what the reference says of the eleven families."""

import subprocess
import sys

import pytest

from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import SIZES, Components, Teacher, parse_student, resolve_student

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

every = list(TEACHERS)  # before other tests add teachers of their own
micro = [teacher for teacher in every if teacher.group == "micro"]
published = [teacher for teacher in every if teacher.group == "published"]

CERTAINTY = {  # how sure it is that the paper's list of twenty holds a teacher
    "A": {"deit/s", "dino/s", "dinov2/s14", "dinov2_reg/s14", "clip/b16"},
    "B": {"mae/b", "siglip2/b16", "beitv2/b", "ibot/s"},
    "C": {"mocov3/s", "augreg/s", "deit/b", "dino/b", "augreg/b", "mocov3/b", "ibot/b", "dinov2/b14"}
    | {"dinov2_reg/b14"},
    "D": {"clip/l14", "beitv2/l"},
}


def test_eleven_families_have_two_micro_teachers() -> None:
    """Two sizes each, four families that fail and seven that transfer."""
    outcomes = dict.fromkeys(FAILS, "fails") | dict.fromkeys(TRANSFERS, "transfers")
    assert {t.family: t.outcome for t in micro} == outcomes
    assert {t.name for t in micro} == {f"micro/{f}{size}" for f in outcomes for size in ("", "_large")}
    for family in outcomes:
        small, large = TEACHERS.get(f"micro/{family}"), TEACHERS.get(f"micro/{family}_large")
        assert large.architecture == small.architecture.with_(size=SIZES["micro_large"])
        named = {"name": small.name, "title": small.title, "architecture": small.architecture}
        assert Teacher.model_validate({**dict(large), **named}) == small


def test_the_twenty_are_the_published_list() -> None:
    """Twenty teachers of eleven families, each with its certainty."""
    assert {t.name: t.certainty for t in published} == {
        name: grade for grade, names in CERTAINTY.items() for name in names
    }
    assert len(published) == 20
    assert {t.family for t in published} == FAILS | TRANSFERS


def test_facts_of_released_teachers_are_whole() -> None:
    """What cannot be checked against a library is at least said: data, source of each figure, licence."""
    for teacher in every:
        if teacher.group == "micro":
            continue
        assert teacher.data, teacher.name
        assert all(figure.source for figure in teacher.accuracy), teacher.name
        assert teacher.group == "reserve" or teacher.accuracy, teacher.name
        assert (teacher.certainty is None) == (teacher.group == "reserve"), teacher.name
        located = [source for source in teacher.sources if source.location]
        assert located[:1] in ([], [teacher.source()]), teacher.name
        assert located or "file of one's own" in teacher.notes, teacher.name
        assert len({source.location for source in located}) == len(located), teacher.name


def test_heads_of_released_teachers() -> None:
    """Labels where the release has a head of labels, texts for CLIP and SigLIP, nothing else."""
    kinds = {t.family: t.head_kind for t in published}
    assert kinds == dict.fromkeys(FAILS | TRANSFERS, "none") | {
        "deit": "labels",
        "augreg": "labels",
        "clip": "text",
        "siglip2": "text",
    }


def test_a_family_has_one_outcome() -> None:
    """All sizes of a family share what is published of it."""
    for teacher in every:
        known = {"fails": FAILS, "transfers": TRANSFERS}
        assert teacher.family in known.get(teacher.outcome or "", set()) or teacher.outcome is None
        assert (teacher.outcome is None) == (teacher.family not in FAILS | TRANSFERS)


@pytest.mark.parametrize("teacher", micro, ids=lambda t: t.name)
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
