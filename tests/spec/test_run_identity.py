"""The id of a run is a hash of what is declared and can change a number, and of nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from vitkd_bench.spec import (
    SIZES,
    Architecture,
    ClassInfo,
    MethodUse,
    PixelStats,
    Recipe,
    ResolvedDataset,
    Run,
    TeacherUse,
)

DATA = ResolvedDataset(
    name="digits",
    version=1,
    channels=1,
    image_size=8,
    pixels=PixelStats(mean=(0.5,), std=(0.5,)),
    classes=(ClassInfo(name="zero"), ClassInfo(name="one")),
    label_space="digits",
    shifts=("rotate",),
)
PARTS: dict[str, Any] = {
    "student": Architecture(image_size=8, patch=2, channels=1, size=SIZES["micro"]),
    "method": MethodUse(name="kd", version=1, settings={"alpha": 0.3}),
    "teacher": TeacherUse(name="micro/deit", pin="run:0", key="k", image_size=8, version=1),
    "dataset": DATA,
    "recipe": Recipe(name="a", epochs=1, batch_size=8, lr=0.1),
    "seed": 0,
}
RUN = Run(**PARTS)


def changed(**parts: Any) -> Run:
    """The run with some parts replaced."""
    return Run(**{**PARTS, **parts})


@pytest.mark.parametrize(
    "other",
    [
        changed(seed=1),
        changed(recipe=Recipe(name="a", epochs=2, batch_size=8, lr=0.1)),
        changed(method=MethodUse(name="kd", version=2, settings={"alpha": 0.3})),
        changed(method=MethodUse(name="kd", version=1, settings={"alpha": 0.4})),
        changed(teacher=TeacherUse(name="micro/deit", pin="run:1", key="k", image_size=8, version=1)),
        changed(student=Architecture(image_size=8, patch=2, channels=1, registers=1, size=SIZES["micro"])),
        changed(dataset=ResolvedDataset(**{**dict(DATA), "classes": DATA.classes[::-1]})),
    ],
)
def test_what_can_change_a_number_changes_the_id(other: Run) -> None:
    """Seed, recipe, settings, method version, teacher's pin, student and class order are declared."""
    assert other.id != RUN.id


@pytest.mark.parametrize(
    "same",
    [
        changed(recipe=Recipe(name="another name", title="t", epochs=1, batch_size=8, lr=0.1)),
        changed(recipe=Recipe(name="a", epochs=1, batch_size=8, lr=0.1, weight_decay=0.05)),
        changed(teacher=TeacherUse(name="an alias", pin="run:0", key="k", image_size=8, version=1)),
        changed(dataset=ResolvedDataset(**{**dict(DATA), "shifts": ()})),
    ],
)
def test_names_defaults_and_evaluation_do_not(same: Run) -> None:
    """A recipe's name, a setting at its default, a teacher's alias and the splits evaluated are not."""
    assert same.id == RUN.id


def test_versions_and_seed_stay_out_of_the_cell_key() -> None:
    """Same key and another id is what stale means."""
    newer = changed(method=MethodUse(name="kd", version=2, settings={"alpha": 0.3}), seed=5)
    remade = changed(teacher=TeacherUse(name="micro/deit", pin="run:9", key="k", image_size=8, version=1))
    assert newer.cell_key == RUN.cell_key == remade.cell_key
    assert newer.id != RUN.id


def test_the_id_is_the_same_after_a_round_trip_and_on_every_machine() -> None:
    """The id survives JSON and is pinned here: a change of it renames all old records, so be sure."""
    assert Run.parse(RUN.plain()).id == RUN.id
    assert RUN.id == "b7609ad949e74f7a"


def test_the_baseline_forgets_method_and_teacher() -> None:
    """Two methods on one student have one baseline."""
    none = MethodUse(name="none", version=1)
    other = changed(method=MethodUse(name="attn_copy", version=1), teacher=None)
    assert RUN.with_method(none).id == other.with_method(none).id
    assert RUN.with_method(none).teacher is None
