"""Shift sets, decoding anew and two image sizes, through plan and engine on pictures written here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.narrow_texts import clip, stored, whole_model
from vitkd_bench.api import load_suite, plan_suite
from vitkd_bench.engine import PackOptions, run_pack
from vitkd_bench.pipeline import splits
from vitkd_bench.records import Preparations, Store
from vitkd_bench.report import write_report
from vitkd_bench.spec import BadInputError, Plan, Record, WorldError

pytestmark = pytest.mark.usefixtures("own_shelf")

CLASSES = ("blue", "green", "red")
EXTENSION = """from tests.fixtures.narrow_texts import clip
from vitkd_bench.registry import RECIPES, TEACHERS
from vitkd_bench.spec import Augmentation, Recipe

TEACHERS.register(clip())
if "narrow" not in RECIPES.names():
    crop = Augmentation(crop_scale=(0.5, 1), flip=True)
    made = Recipe(name="narrow", epochs=1, batch_size=16, lr=1e-3, augmentation=crop)
    RECIPES.add("narrow", made, __file__)
"""
SUITE: dict[str, Any] = {
    "suite": "shifts",
    "version": 1,
    "datasets": [
        {
            "name": "folder",
            "train": "train",
            "test": "test",
            "val": {"per_class": 2},
            "decode": "anew",
            "label_space": "colours",
        }
    ],
    "extensions": ["narrow.py"],
    "recipe": "narrow",
    "teachers": [{"name": "narrow/clip", "weights": "open_clip_model.safetensors", "head": "text"}],
    "students": ["standard"],
    "methods": ["none", "kd"],
    "seeds": [0],
    "evaluate": [
        "test",
        "folder/fog@3",
        {"name": "shift_folder", "as": "dim", "test": "dim", "classes": "coarse.json"},
    ],
}


def write_pictures(folder: Path, names: tuple[str, ...], count: int, light: int, size: int = 40) -> None:
    """Squares of the colours that names begin with, and noise."""
    random = np.random.default_rng(light + count)
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 60, (size, size + 8, 3), dtype=np.uint8)
            pixels[..., "rgb".index(name[0])] += np.uint8(light)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A suite's folder: three colours to train on, a dimmer set of two of them and one that is unknown."""
    write_pictures(tmp_path / "train", CLASSES, 10, 150)
    write_pictures(tmp_path / "test", CLASSES, 4, 150)
    write_pictures(tmp_path / "dim", ("blueish", "grey", "reddish"), 5, 60)
    coarse = [{"name": "reddish", "colours_index": 2}, {"name": "blueish", "colours_index": 0}, "grey"]
    (tmp_path / "coarse.json").write_text(json.dumps(coarse))
    (tmp_path / "narrow.py").write_text(EXTENSION)
    stored(whole_model(clip()), tmp_path)
    return tmp_path


def planned(folder: Path, **changes: Any) -> Plan:
    """Plan the suite with some fields changed."""
    (folder / "suite.yaml").write_text(json.dumps({**SUITE, **changes}))
    return plan_suite(load_suite(str(folder / "suite.yaml")))


def trained(folder: Path, plan: Plan, out: str = "out", workers: int = 0) -> Store:
    """Run all packs of a plan."""
    store, made = Store(folder / out), Preparations(folder / "cache")
    store.write_plan(plan)
    for pack in plan.packs:
        run_pack(plan, pack, store, made, PackOptions(roots=(folder,), data_workers=workers))
    return store


def record_of(store: Store, plan: Plan, method: str) -> Record:
    """The record of a method's cell, which has to be done."""
    (cell,) = (cell for cell in plan.cells if cell.method == method)
    record = store.read(cell.runs["0"])
    assert record is not None
    assert record.error is None
    return record


def test_a_shift_set_that_is_named_later_is_scored_on_the_kept_student(folder: Path) -> None:
    """Its record, notes included, is that of a run that knew the set; other images of test train it anew."""
    some = planned(folder, keep="student", evaluate=["test"])
    whole = planned(folder, keep="student")
    wanted = record_of(trained(folder, whole, "whole"), whole, "kd")
    before = record_of(trained(folder, some), some, "kd")
    grown = record_of(trained(folder, whole), whole, "kd")
    assert "dim" not in before.metrics
    assert grown.result() == wanted.result()
    assert grown.cost == before.cost
    (folder / "test" / "red" / "3.png").unlink()
    splits._opened.cache_clear()  # another process would look at the disk again
    fewer = planned(folder, keep="student", evaluate=[*SUITE["evaluate"], "folder/fog@5"])
    again = record_of(trained(folder, fewer), fewer, "kd")
    assert again.run_id == grown.run_id
    assert again.split_hash != grown.split_hash
    assert "evaluated_again" not in again.provenance


def test_a_shift_set_is_scored_within_the_classes_that_it_shares(folder: Path) -> None:
    """A class that is not trained on is left out, both rules are kept, the drop is from the same classes."""
    plan = planned(folder)
    store = trained(folder, plan)
    record = record_of(store, plan, "kd")
    assert set(record.metrics) == {"val", "test", "folder/fog@3", "dim"}
    found = record.metrics["dim"]
    assert found["n"] == 10
    assert found["clean_n"] == 8
    assert found["drop"] == pytest.approx(found["clean_top1"] - found["top1"])
    assert found["top1_over_all"] <= found["top1"]
    assert record.scoring["dim"]["rule"] == "within 2 of 3 classes"
    assert record.scoring["dim"]["clean_split"] == "test"
    assert record.scoring["dim"]["left_out"] == {"classes": 1, "images": 5, "skipped": 0}
    assert "dim: 5 images of 1 classes that are not trained on are left out" in record.notes
    with np.load(store.predictions_path(record.run_id)) as kept:
        assert kept["dim/log_probs"].shape == (10, 2)
        assert (kept["dim/top5"][:, 0] == kept["dim/label"]).mean() == found["top1"]
        assert (kept["dim/over_all"] == kept["dim/label"]).mean() == found["top1_over_all"]
        of_test = kept["test/label"] != CLASSES.index("green")
        red_or_blue = kept["test/log_probs"][of_test][:, [0, 2]].argmax(axis=1) * 2
        assert (red_or_blue == kept["test/label"][of_test]).mean() == found["clean_top1"]


def test_a_baseline_is_compared_with_what_is_kept_of_its_teacher(folder: Path) -> None:
    """The teacher's predictions on test stand beside the runs' own, and the report reads them."""
    plan = planned(folder)
    store = trained(folder, plan)
    name = plan.runs[record_of(store, plan, "kd").run_id].teacher_predictions
    assert name is not None
    assert store.predictions_path(name).is_file()
    write_report([store.folder], folder / "report")
    table = (folder / "report" / "leaderboard.md").read_text()
    (row,) = (line for line in table.split("Agreement")[-1].splitlines() if "| none" in line)
    assert any(part.strip().replace(".", "").isdigit() for part in row.split("|"))


def test_who_makes_the_batches_changes_nothing(folder: Path) -> None:
    """With processes that make batches ahead the record is the same to the last bit."""
    plan = planned(folder, methods=["none", "kd", "at"])
    alone, helped = trained(folder, plan), trained(folder, plan, "helped", workers=2)
    for id_, record in alone.records().items():
        other = helped.read(id_)
        assert other is not None
        assert record.result() == other.result()
        assert other.cost["data_wait_s"] >= 0


def test_teacher_and_student_each_have_their_own_size(folder: Path) -> None:
    """A teacher at twice the student's size gives logits and features; maps of another grid are refused."""
    teacher = {**SUITE["teachers"][0], "image_size": 64}
    plan = planned(
        folder,
        teachers=[teacher],
        recipe={"base": "narrow", "image_size": 32},
        methods=["none", "kd", "at", "attn_copy"],
    )
    (refused,) = plan.refusals
    assert refused.method == "attn_copy"
    assert "patch" in refused.reason
    store = trained(folder, plan)
    for method in ("none", "kd", "at"):
        record = record_of(store, plan, method)
        run = plan.runs[record.run_id]
        assert run.student.image_size == 32
        assert run.teacher is None or run.teacher.image_size == 64
    both = planned(folder, recipe={"base": "narrow", "image_size": 32}, methods=["none"])
    assert record_of(store, plan, "none").run_id == next(iter(both.runs)), "the baseline reads no teacher"


def test_a_broken_shift_set_is_found_before_training(folder: Path) -> None:
    """An image that cannot be read ends the pack at once, not after the last epoch."""
    (folder / "dim" / "reddish" / "2.png").write_bytes(b"x")
    plan = planned(folder, methods=["none"], datasets=[{**SUITE["datasets"][0], "decode": "once"}])
    with pytest.raises(WorldError, match=r"reddish/2\.png"):
        trained(folder, plan)


def test_what_was_scored_is_a_field(folder: Path) -> None:
    """The record names the output and the weights: last step, or the average of a recipe with `ema`."""
    plan = planned(folder, methods=["none"])
    record = record_of(trained(folder, plan), plan, "none")
    assert record.scored == "the student's head, weights of the last step"
    plan = planned(folder, methods=["none", "deit_token"], recipe={"base": "narrow", "ema": 0.9})
    store = trained(folder, plan, "averaged")
    assert record_of(store, plan, "none").scored.endswith("average of the weights (ema 0.9)")
    assert record_of(store, plan, "deit_token").scored.startswith("the mean of both heads' logits")


def test_what_is_skipped_is_said(folder: Path) -> None:
    """A broken image ends the run by its path; left out by name, the record says how many were."""
    broken = folder / "train" / "red" / "3.png"
    broken.write_bytes(b"x")
    (folder / "skip.txt").write_text("train/red/3.png\n")
    data = {**SUITE["datasets"][0], "skip": "skip.txt"}
    plan = planned(folder, datasets=[data], methods=["none"])
    record = record_of(trained(folder, plan), plan, "none")
    assert "1 images are left out, as the setting skip of the data set says" in record.notes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"evaluate": ["test", "imagenet_z"]},
            "evaluate: unknown split 'imagenet_z'; did you mean 'imagenet_",
        ),
        ({"evaluate": ["folder/fog@6"]}, "evaluate: folder/fog@6: .* its severity is 1 to 5"),
        ({"evaluate": ["folder/frost@3"]}, "frost is made with photographs of its authors"),
        ({"evaluate": ["folder/foog@3"]}, "unknown corruption 'foog@3'; did you mean 'fog'"),
        ({"evaluate": ["folder/gaussian_blur@1"]}, "gaussian_blur@1: at 32 px it changes nothing"),
        ({"evaluate": ["digits"]}, "digits is no shift set"),
        ({"evaluate": [{"name": "shift_folder", "test": "dim"}]}, "shares no two classes with folder"),
        ({"evaluate": ["test", "test"]}, "'test' stands twice"),
        (
            {"evaluate": [{"name": "shift_folder", "test": "dim", "tset": 1}]},
            "tset",
        ),
        ({"datasets": [{"name": "shift_folder", "test": "dim"}]}, "name it under evaluate"),
        (
            {"evaluate": [{"name": "shift_folder", "as": "test", "test": "dim"}]},
            "'test' is how a split of a data set is called",
        ),
        (
            {"evaluate": [{"name": "shift_folder", "as": "folder/fog@3", "test": "dim"}]},
            "'folder/fog@3' is how a split of a data set is called",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused_by_field(
    folder: Path, changes: dict[str, Any], said: str
) -> None:
    """A split, a set or a class map that there is not is refused when the suite is read."""
    with pytest.raises(BadInputError, match=said):
        planned(folder, **changes)


@pytest.mark.parametrize(
    ("classes", "more", "said"),
    [
        (
            ["red", "blue"],
            {"label_space": "colours"},
            "dim: label space 'colours' has 2 classes here, and 3 in",
        ),
        (["red", "RED", "blue"], {}, "dim: classes 'red' and 'RED' are both 'red' of folder"),
    ],
)
def test_a_map_that_contradicts_itself_is_refused_before_training(
    folder: Path, classes: list[str], more: dict[str, str], said: str
) -> None:
    """Shift sets are opened after the last epoch: what cannot be right is said when the suite is read."""
    (folder / "other.json").write_text(json.dumps(classes))
    dim = {"name": "shift_folder", "as": "dim", "test": "dim", "classes": "other.json", **more}
    with pytest.raises(BadInputError, match=said):
        planned(folder, evaluate=["test", dim])


def test_a_data_set_is_called_as_the_suite_calls_it(folder: Path) -> None:
    """`colours/fog@3` is the fog of the data set that stands in the suite `as: colours`."""
    plan = planned(folder, datasets=[{**SUITE["datasets"][0], "as": "colours"}], evaluate=["colours/fog@3"])
    assert set(plan.evaluate["folder"]) == {"val", "folder/fog@3"}


def test_files_that_are_not_here_make_no_split_unknown(folder: Path) -> None:
    """With a mistyped folder the refusal names that folder, not the corruption that is asked for."""
    data = {**SUITE["datasets"][0], "test": "tset"}
    plan = planned(folder, datasets=[data], evaluate=["test", "folder/fog@3"])
    assert {refusal.kind for refusal in plan.refusals} == {"not_fetched"}
    assert all("'tset'" in refusal.reason for refusal in plan.refusals)


def test_an_absent_shift_set_is_planned_and_named(folder: Path) -> None:
    """Where its files are not here the rest is planned, and the plan says what is missing."""
    plan = planned(folder, evaluate=["test", "imagenet_a"], methods=["none"])
    assert "imagenet_a" in plan.absent
    assert plan.splits_of(next(iter(plan.runs))) == ("val", "test")
    trained(folder, plan)
    write_report([folder / "out"], folder / "report")
    for name in ("leaderboard.md", "index.html"):
        assert "not evaluated on imagenet_a" in (folder / "report" / name).read_text()
