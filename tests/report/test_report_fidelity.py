"""Agreement and divergence: from records, and for baselines from what is stored of their teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.report.conftest import IMAGES, Bench
from vitkd_bench.measures import fidelity, predictions
from vitkd_bench.records import write_atomically
from vitkd_bench.records.files import pack_arrays
from vitkd_bench.report import MixedError, build_board
from vitkd_bench.report.beside import beside_tables
from vitkd_bench.report.fidelity import stored_fidelity
from vitkd_bench.report.rows import Row
from vitkd_bench.spec import Record, Run

IDS = [f"image-{i}" for i in range(IMAGES)]


def scores(seed: int, classes: int = 10) -> torch.Tensor:
    """Random scores of all images."""
    return 2 * torch.randn(IMAGES, classes, generator=torch.Generator().manual_seed(seed))


def stored(given: torch.Tensor, ids: list[str] = IDS) -> dict[str, np.ndarray[Any, Any]]:
    """What a run's file has of a split `test`."""
    labels = torch.arange(IMAGES) % given.shape[1]
    return {f"test/{name}": array for name, array in predictions(given, labels, ids).items()}


@pytest.mark.parametrize("classes", [3, 10, 100])
def test_stored_predictions_suffice(classes: int) -> None:
    """Agreement comes out exactly, and divergence to a thousandth, of what up to 100 classes keep."""
    student, teacher = scores(0, classes), scores(1, classes)
    expected = fidelity(student, teacher)
    found = stored_fidelity(stored(student), stored(teacher), "test")
    assert found["agreement"] == expected["agreement"]
    assert found["kl"] == pytest.approx(expected["kl"], rel=2e-3)


def test_beyond_100_classes_no_divergence_is_claimed() -> None:
    """The first classes say whether two agree, and nothing of the other probabilities."""
    found = stored_fidelity(stored(scores(0, 101)), stored(scores(1, 101)), "test")
    assert set(found) == {"agreement"}


def test_other_images_or_classes_are_refused() -> None:
    """Predictions of other images, of another order or of other classes are not compared."""
    one = stored(scores(0))
    with pytest.raises(ValueError, match="not of the same images"):
        stored_fidelity(one, stored(scores(1), IDS[::-1]), "test")
    with pytest.raises(ValueError, match="of 10 and of 11 classes"):
        stored_fidelity(one, stored(scores(1, 11)), "test")
    assert stored_fidelity(one, {"val/ids": one["test/ids"]}, "test") == {}


def test_a_split_whose_name_ends_alike_is_another() -> None:
    """Predictions on a shift set that a suite calls `contest` are not those on test."""
    student, teacher = stored(scores(0)), stored(scores(1))
    other = {f"con{name}": array for name, array in stored(scores(2), IDS[::-1]).items()}
    assert stored_fidelity({**student, **other}, teacher, "test") == stored_fidelity(student, teacher, "test")


class Followed(Bench):
    """A folder whose method agrees with its teacher as its record says."""

    def _record(self, run: Run, right: int | None) -> Record:
        record = super()._record(run, right)
        if run.teacher is None or right is None:
            return record
        test = {**record.metrics["test"], "agreement": 0.5 + run.seed / 10, "kl": 0.25}
        return record.model_copy(update={"metrics": {**record.metrics, "test": test}})


def followed(folder: Path, ids: list[str] = IDS, *, teacher: bool = True) -> tuple[Followed, torch.Tensor]:
    """Two seeds of a method and its baseline, with the predictions of the baseline and of the teacher."""
    made = Followed(folder)
    made.add("deit", "standard", "none", {0: 300, 1: 310})
    made.add("deit", "standard", "kd", {0: 305, 1: 315})
    made.save()
    told = scores(9)
    for seed in (0, 1):
        run = made.run("deit", "standard", "none", seed)
        write_atomically(made.store.predictions_path(run.id), pack_arrays(stored(scores(seed))))
    name = made.run("deit", "standard", "kd", 0).teacher_predictions
    assert name
    if teacher:
        write_atomically(made.store.predictions_path(name), pack_arrays(stored(told, ids)))
    return made, told


def rows(made: Followed) -> dict[str, Row]:
    """The report's rows by method, without the bootstrap's file of the method."""
    for seed in (0, 1):
        made.store.predictions_path(made.run("deit", "standard", "kd", seed).id).unlink(missing_ok=True)
    folder = made.store.folder
    return {row.key.method: row for row in build_board([folder], folder / "report").rows}


def test_a_baseline_is_compared_with_its_teacher(tmp_path: Path) -> None:
    """What the engine says of a method stands; of the baseline it is found from the stored predictions."""
    made, told = followed(tmp_path / "out")
    found = rows(made)
    assert found["kd"].fidelity == {"agreement": pytest.approx(0.55), "kl": 0.25}
    expected = [fidelity(scores(seed), told) for seed in (0, 1)]
    for name in ("agreement", "kl"):
        mean = sum(one[name] for one in expected) / 2
        assert found["none"].fidelity[name] == pytest.approx(mean, rel=2e-3)
    board = build_board([made.store.folder], made.store.folder / "report")
    (table,) = [table for table in beside_tables(board) if table.what == "Fidelity"]
    assert [cells[:3] for cells in table.rows] == [
        ("micro/deit", "standard", "kd"),
        ("micro/deit", "standard", "none"),
    ]
    assert table.rows[0][4:] == ("55.0", "0.250")


def test_without_stored_predictions_nothing_is_claimed(tmp_path: Path) -> None:
    """A baseline whose teacher's predictions are not there has no agreement."""
    made, _ = followed(tmp_path / "out", teacher=False)
    assert rows(made)["none"].fidelity == {}


def test_a_teacher_on_other_images_is_an_error(tmp_path: Path) -> None:
    """Predictions of the teacher on another order of images are not compared in silence."""
    made, _ = followed(tmp_path / "out", IDS[::-1])
    with pytest.raises(MixedError, match=r"run \w+ and its teacher micro/deit: .* not of the same images"):
        rows(made)


def test_the_file_is_named_by_what_the_teacher_says_of_the_data(tmp_path: Path) -> None:
    """Methods, students and seeds share it; another file of weights or list of classes has another."""
    made = Followed(tmp_path / "out")
    name = made.run("deit", "standard", "kd", 0).teacher_predictions
    assert name == made.run("deit", "native", "attn_copy", 3).teacher_predictions
    assert name != made.run("mae", "standard", "kd", 0).teacher_predictions
    assert made.run("deit", "standard", "none", 0).teacher_predictions is None
    made.dataset = made.dataset.model_copy(update={"classes": made.dataset.classes[:9]})
    assert name != made.run("deit", "standard", "kd", 0).teacher_predictions
