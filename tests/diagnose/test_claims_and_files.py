"""What a contract says of positions is held against the file, and of a head where there is none."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vitkd_bench.diagnose import Check, LabelledImages, preflight
from vitkd_bench.diagnose.labelled import encoded
from vitkd_bench.networks import create_student
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import ClassInfo, Components, Teacher


def claiming(position: str) -> Teacher:
    """The micro teacher of MoCo v3, its position embedding called `position`."""
    teacher = TEACHERS.get("micro/mocov3")
    components = Components.model_validate({"position": position})
    return teacher.model_copy(update={"architecture": teacher.architecture.with_(components=components)})


def checked(position: str, folder: Path, table: torch.Tensor | None = None) -> dict[str, Check]:
    """The checks of random weights whose table is the sin-cos one, or `table`, under such a claim."""
    made = TEACHERS.get("micro/mocov3")
    state = create_student(made.architecture, 0, made.pixels, seed=0).module.state_dict()
    if table is not None:
        state["pos_embed"] = table.expand(state["pos_embed"].shape)
    save_file({name: t.contiguous() for name, t in state.items()}, folder / "model.safetensors")
    return {check.name: check for check in preflight(claiming(position), folder).checks}


def test_the_fixed_table_is_told_where_a_learned_one_is_claimed(tmp_path: Path) -> None:
    """As a note, since releases store it so (MAE's); there is nothing to say of a fixed claim."""
    assert "position" not in checked("fixed", tmp_path)
    note = checked("learned", tmp_path)["position"]
    assert note.status == "note"
    assert "fixed 2D sin-cos one, row before column" in note.finding


@pytest.mark.parametrize(("value", "apart"), [(0.0, "1 "), (3.0, "3.99 ")])
def test_another_table_is_refused_where_the_fixed_one_is_claimed(
    tmp_path: Path, value: float, apart: str
) -> None:
    """It is not put right without a word, although our own network computes the table by itself."""
    table = torch.full((1, 1, 1), value)
    found = checked("fixed", tmp_path, table)["weights"]
    assert found.status == "refuse"
    assert f"pos_embed is up to {apart}" in found.finding
    assert "position" not in checked("learned", tmp_path, table)


def test_one_image_a_class_tells_nothing_of_a_teacher_without_a_head(tmp_path: Path) -> None:
    """It is not said that a head does not know the classes, where there is none."""
    checked("fixed", tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 1, 8, 8), dtype=np.uint8)
    classes = tuple(ClassInfo(name=str(i)) for i in range(24))
    images = LabelledImages("drawn", encoded(pixels), np.arange(24), classes, "drawn")
    verdict = preflight(claiming("fixed"), tmp_path, images)
    found = next(check for check in verdict.checks if check.name == "accuracy")
    assert found.status == "note"
    assert found.finding.startswith("not checked: this teacher has no head")
