"""From a teacher and a word to a student's architecture."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitkd_bench.spec import (
    NAMED_COMPONENTS,
    SIZES,
    Architecture,
    BadInputError,
    Components,
    StudentEntry,
    parse_student,
    resolve_student,
)

COMPONENTS = st.builds(
    Components,
    layer_scale=st.sampled_from([None, 1e-5, 0.1]),
    norm_pre=st.booleans(),
    relative_position_bias=st.booleans(),
    position=st.sampled_from(["learned", "fixed", "none"]),
    qkv_bias=st.sampled_from(["full", "qv", "none"]),
    activation=st.sampled_from(["gelu", "gelu_tanh", "quick_gelu"]),
    patch_bias=st.booleans(),
)
TEACHERS = st.builds(
    Architecture,
    image_size=st.just(8),
    patch=st.just(2),
    channels=st.just(1),
    class_token=st.booleans(),
    registers=st.integers(0, 4),
    size=st.just(SIZES["micro"]),
    components=COMPONENTS,
)


@given(TEACHERS)
def test_native_is_the_teacher_and_standard_is_plain(teacher: Architecture) -> None:
    """A native student has all of the teacher's components, a standard one none; both its tokens."""
    assert resolve_student(parse_student("native"), teacher) == teacher
    standard = resolve_student(parse_student("standard"), teacher)
    assert standard.components == Components()
    assert (standard.tokens, standard.prefix, standard.size) == (teacher.tokens, teacher.prefix, teacher.size)


@given(TEACHERS)
def test_native_min_takes_only_what_the_paper_names(teacher: Architecture) -> None:
    """`native_min` has the named three as far as the teacher has them, with its values."""
    least = resolve_student(parse_student("native_min"), teacher).components
    for name in Components.model_fields:
        expected = teacher.components if name in NAMED_COMPONENTS else Components()
        assert getattr(least, name) == getattr(expected, name)


@given(TEACHERS, st.sets(st.sampled_from(sorted(Components.model_fields)), max_size=4))
def test_any_set_of_components_is_present_and_no_other(teacher: Architecture, names: set[str]) -> None:
    """A chosen set is what the student differs in from a plain ViT, whatever the teacher has."""
    entry = StudentEntry.parse({"as": "own", "components": sorted(names)})
    assert set(resolve_student(entry, teacher).components.present()) == names


def test_sizes_and_layer_scale_are_knobs() -> None:
    """`@size` changes width, depth and heads; `layer_scale_init` the initial value."""
    teacher = Architecture(image_size=8, patch=2, size=SIZES["micro"])
    assert resolve_student(parse_student("standard@micro_small"), teacher).size == SIZES["micro_small"]
    entry = StudentEntry.parse({"as": "ls", "components": ["layer_scale"], "layer_scale_init": 0.1})
    assert resolve_student(entry, teacher).components == Components(layer_scale=0.1)


@pytest.mark.parametrize(
    ("text", "said"),
    [("standrd", "did you mean 'standard'"), ("native@x", "unknown size 'x'"), ("", "unknown student ''")],
)
def test_a_wrong_student_is_refused_with_the_nearest_name(text: str, said: str) -> None:
    """An unknown kind or size is bad input."""
    with pytest.raises(BadInputError, match=said):
        parse_student(text)
