"""What a suite may choose of a student: tokens, initial values, sizes; and what that does to its run's id."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitkd_bench.spec import (
    SIZES,
    Architecture,
    BadInputError,
    ClassInfo,
    Components,
    InitialValues,
    MethodUse,
    PixelStats,
    Recipe,
    ResolvedDataset,
    Run,
    StudentEntry,
    TeacherUse,
    parse_yaml,
    resolve_student,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "students.md"

BEIT = Architecture(
    image_size=8,
    patch=2,
    channels=1,
    size=SIZES["micro"],
    components=Components(layer_scale=0.1, relative_position_bias=True, position="none", qkv_bias="qv"),
)
REGISTERS = BEIT.with_(registers=4, components=Components(layer_scale=1e-5, position_on_prefix=False))
PLAIN = BEIT.with_(components=Components())
TEACHERS = st.builds(
    lambda layer_scale, norm_pre, token, registers: PLAIN.with_(
        class_token=token,
        registers=registers,
        components=Components(layer_scale=layer_scale, norm_pre=norm_pre),
    ),
    st.sampled_from([None, 1e-5, 0.1, 1.0]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 4),
)
ENTRIES: list[dict[str, Any]] = [
    {"name": "native"},
    {"name": "standard"},
    {"name": "native_min"},
    {"as": "x", "components": ["layer_scale", "norm_pre"], "layer_scale_init": 0.5},
    {"name": "standard@micro_small"},
    {"as": "n", "name": "native", "registers": "none"},
]
# as they were before students had initial values and could leave out the class token
IDS = {
    "beit": ("998e08db3cf1469a", "2a1d3ea23bc9349e", "4fbcc2a85adfbcec", "fdc736be30263033"),
    "registers": ("80de8244ddc6d448", "12608b3da87840e4", "364de0869ea9ac73", "bcf15a1f107fe144"),
}
MORE_IDS = {
    "beit": ("5b07752429c3a56b", "998e08db3cf1469a"),
    "registers": ("57dbc787ff927968", "20aa94ae801f43b8"),
}


def resolved(teacher: Architecture, **entry: Any) -> Architecture:
    """Resolve an entry given by its fields."""
    return resolve_student(StudentEntry.parse({"as": "own", **entry}), teacher)


def run_of(student: Architecture) -> Run:
    """A run that differs from others in its student alone."""
    return Run(
        student=student,
        method=MethodUse(name="attn_copy", version=1),
        teacher=TeacherUse(name="t", pin="sha256:0", key="sha256:0", image_size=8, version=1),
        dataset=ResolvedDataset(
            name="digits",
            version=1,
            channels=1,
            image_size=8,
            pixels=PixelStats(mean=(0.5,), std=(0.5,)),
            classes=(ClassInfo(name="zero"), ClassInfo(name="one")),
            label_space="digits",
        ),
        recipe=Recipe(name="a", epochs=1, batch_size=8, lr=0.1),
        seed=0,
    )


@pytest.mark.parametrize(("case", "teacher"), [("beit", BEIT), ("registers", REGISTERS)])
def test_choices_that_nobody_made_rename_no_run(case: str, teacher: Architecture) -> None:
    """Ids of students that could be asked for before the newer choices are what they were then."""
    found = tuple(run_of(resolve_student(StudentEntry.parse(entry), teacher)).id for entry in ENTRIES)
    assert found == IDS[case] + MORE_IDS[case]


def test_every_choice_is_declared() -> None:
    """Each knob that changes a number gives a run of its own."""
    teacher = BEIT.with_(registers=4)
    entries: list[dict[str, Any]] = [
        {},
        {"layer_scale": "folded"},
        {"layer_scale": "folded", "layer_scale_init": 1.0},
        {"scaled_by_depth": True},
        {"registers": "none"},
        {"class_token": "none"},
        {"registers": "none", "class_token": "none"},
    ]
    students = [resolved(teacher, name=kind, **e) for kind in ("native", "standard") for e in entries]
    assert len({run_of(student).id for student in students}) == len(students)


@settings(deadline=None)
@given(TEACHERS, st.sampled_from(["same", "none"]), st.sampled_from(["same", "none"]))
def test_tokens_are_the_teachers_or_left_out(teacher: Architecture, token: str, registers: str) -> None:
    """Patch and grid are always the teacher's; class token and registers stay or go, and none is invented."""
    for kind in ("standard", "native"):
        student = resolved(teacher, name=kind, class_token=token, registers=registers)
        assert (student.patch, student.grid) == (teacher.patch, teacher.grid)
        assert student.class_token is (teacher.class_token and token == "same")
        assert student.registers == (teacher.registers if registers == "same" else 0)


@settings(deadline=None)
@given(TEACHERS)
def test_folding_moves_layer_scale_into_initial_values(teacher: Architecture) -> None:
    """A folded student has every component of the unfolded one but layer scale, and starts from its value."""
    for entry in ({"name": "native"}, {"components": ["layer_scale", "qkv_bias"]}):
        apart, folded = (resolved(teacher, layer_scale=way, **entry) for way in ("separate", "folded"))
        assert folded.initial == InitialValues(folded_layer_scale=apart.components.layer_scale)
        assert folded.components.layer_scale is None
        left = {**dict(apart.components), "layer_scale": None}
        assert folded.components == Components.model_validate(left)
    standard = resolved(teacher, name="standard", layer_scale="folded")
    assert standard == resolved(teacher, name="standard").with_(
        initial=InitialValues(folded_layer_scale=teacher.components.layer_scale)
    )


def test_a_layer_scale_of_ones_own_is_folded_under_any_teacher() -> None:
    """A value that is given is folded even where the teacher has no layer scale; native stays native."""
    asked: dict[str, Any] = {"layer_scale": "folded", "layer_scale_init": 0.3}
    assert resolved(PLAIN, name="standard", **asked).initial.folded_layer_scale == 0.3
    assert resolved(BEIT, name="standard", **asked).initial.folded_layer_scale == 0.3
    assert resolved(BEIT, name="native", **asked).initial.folded_layer_scale == 0.3
    assert resolved(PLAIN, name="native", **asked) == PLAIN


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"name": "standard", "layer_scale_init": 0.1}, "this student has no layer scale"),
        ({"as": "a", "components": ["norm_pre"], "layer_scale_init": 0.1}, "this student has no layer scale"),
        ({"name": "standard@ti", "size": "s"}, "give the size once"),
        ({"name": "native", "layer_scale": "fold"}, "layer_scale: Input should be 'separate' or 'folded'"),
        ({"name": "native", "registers": 2}, "registers: Input should be 'same' or 'none'"),
    ],
)
def test_a_choice_that_says_nothing_is_refused(entry: dict[str, Any], said: str) -> None:
    """A knob of a part that is not there is a slip, not a student."""
    with pytest.raises(BadInputError, match=said):
        StudentEntry.parse(entry)


def test_gated_and_plain_students_have_as_many_mlp_weights() -> None:
    """Three matrices of two thirds the width weigh what two do: a standard student of EVA-02 has ratio 4."""
    gated = Components(mlp="swiglu")
    eva = PLAIN.with_(size=SIZES["s"].model_copy(update={"mlp_ratio": 4 * 2 / 3}), components=gated)
    assert resolved(eva, name="native") == eva
    assert resolved(eva, name="standard").size == SIZES["s"]
    assert resolved(eva, name="native@ti").size.mlp_ratio == pytest.approx(8 / 3)
    assert resolved(PLAIN, components=["mlp"]).size.mlp_ratio == pytest.approx(8 / 3)
    assert resolved(PLAIN, name="standard@ti").size == SIZES["ti"]


def test_the_students_of_the_page_are_students() -> None:
    """Every entry in the example of docs/students.md is read, and all are told apart under one teacher."""
    block = re.search(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    entries = parse_yaml(block[1], PAGE).data["students"]
    long = [{"name": entry} if isinstance(entry, str) else entry for entry in entries]
    students = [resolve_student(StudentEntry.parse(e), REGISTERS) for e in long]
    least, layer_scale = students[2], students[4]  # the one component that REGISTERS has of the named three
    assert least == layer_scale
    assert len({run_of(student).id for student in students}) == len(students) - 1


def test_the_page_names_every_component_and_size() -> None:
    """A new component or size is told of on the page."""
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in (*Components.model_fields, *SIZES) if f"`{name}`" not in text] == []
