"""`datasets check`: what is missing, miscounted, unreadable, doubled or leaking is found and named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.layouts.every_layout import FORMS, write
from tests.pipeline.layouts.pictures import picture, write_files
from vitkd_bench.cli import main
from vitkd_bench.diagnose.dataset_checks import Checked, check_dataset
from vitkd_bench.pipeline import open_splits, resolve_dataset
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import BadInputError

CLASSES = ("crane", "drake", "heron")
OWN: dict[str, Any] = {"train": "train", "test": "test", "val": {"per_class": 2}}


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """Eight training images and three test images of each of three classes."""
    for part, count in (("train", 8), ("test", 3)):
        names = [f"{part}/{name}/{i}.jpg" for name in CLASSES for i in range(count)]
        write_files(tmp_path, {name: picture(name) for name in names})
    return tmp_path


def checked(root: Path, jobs: int = 1, **other: Any) -> Checked:
    """What is found of a folder of birds."""
    return check_dataset(DATASETS.get("folder"), {**OWN, **other}, (root,), jobs=jobs)


def status(found: Checked) -> dict[str, str]:
    """What does not simply hold, by check."""
    return {c.name: c.status for c in found.checks if c.status not in {"pass", "note"}}


def said(found: Checked, name: str) -> str:
    """The finding of one check."""
    return next(check.finding for check in found.checks if check.name == name)


def test_sound_files_are_sound(birds: Path) -> None:
    """Every check holds, all images are looked at, sizes and hash are those of the opened splits."""
    seen: list[tuple[int, int]] = []
    found = check_dataset(
        DATASETS.get("folder"), OWN, (birds,), watch=lambda done, total: seen.append((done, total))
    )
    splits = open_splits(resolve_dataset(DATASETS.get("folder"), OWN, (birds,)), (birds,), 8)
    assert (found.sound, status(found)) == (True, {})
    assert seen[-1] == (33, 33)
    assert found.sizes == {"train": 18, "val": 6, "test": 9}
    assert found.split_hash == splits.split_hash
    assert splits.split_hash in said(found, "splits")


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_every_layout_is_checked(name: str, form: str, tmp_path: Path) -> None:
    """In every official form: images and ids hold, and only counts differ, as the sets are small ones."""
    written = write(name, form, tmp_path)
    found = check_dataset(DATASETS.get(name), written.settings, (tmp_path,))
    facts = DATASETS.get(name).facts
    refused = {check.name for check in found.checks if check.status == "refuse"}
    assert refused <= {"classes", "counts"}
    assert ("counts" in status(found)) == (bool(facts.counts) and "subset" not in written.settings)
    assert found.unreadable == ()
    assert bool(found.repeated) == (name == "webdataset")  # whose train and test were written alike
    for part, count in facts.counts.items():
        assert f"published are {count:,}" in said(found, "counts") or part not in written.parts


def test_counts_may_differ_where_a_subset_is_asked_for(tmp_path: Path) -> None:
    """A part of CIFAR is no fault if the suite wants a subset only: it is a note."""
    written = write("cifar10", "folder", tmp_path)
    found = check_dataset(
        DATASETS.get("cifar10"), {**written.settings, "subset": {"per_class": 1}}, (tmp_path,)
    )
    assert "counts" not in status(found)
    assert "a subset is asked for" in said(found, "counts")


@pytest.mark.parametrize("jobs", [1, 4])
def test_unreadable_images_are_named(birds: Path, jobs: int) -> None:
    """Truncated, empty and foreign files are refused by id and path; the others are still looked at."""
    whole = (birds / "train/crane/1.jpg").read_bytes()
    (birds / "train/crane/1.jpg").write_bytes(whole[: len(whole) // 2])
    (birds / "train/drake/2.jpg").write_bytes(b"")
    (birds / "test/heron/0.jpg").write_bytes(b"no image")
    found = checked(birds, jobs)
    assert status(found) == {"images": "refuse"}
    assert {one.id for one in found.unreadable} == {
        "train/crane/1.jpg",
        "train/drake/2.jpg",
        "test/heron/0.jpg",
    }
    assert all(str(birds / one.id) in one.reason for one in found.unreadable)
    assert "3 of 33" in said(found, "images")


def test_copies_are_marks(birds: Path) -> None:
    """A copy in a split, one in another split, and one under another label: each named, none a failure."""
    shutil.copy(birds / "train/crane/0.jpg", birds / "train/crane/copy.jpg")
    shutil.copy(birds / "train/drake/0.jpg", birds / "test/drake/leak.jpg")
    shutil.copy(birds / "train/heron/0.jpg", birds / "train/crane/other.jpg")
    found = checked(birds, val={"per_class": 1})
    assert found.sound
    assert status(found)["one label"] == "mark"
    assert "train/heron/0.jpg" in said(found, "one label")
    assert "train/drake/0.jpg" in said(found, "disjoint")
    assert "test/drake/leak.jpg" in said(found, "disjoint")
    assert len(found.repeated) == 3


@settings(max_examples=20, deadline=None)
@given(copies=st.lists(st.tuples(st.integers(0, 23), st.sampled_from(CLASSES)), max_size=6))
def test_every_copy_is_found(tmp_path_factory: pytest.TempPathFactory, copies: list[tuple[int, str]]) -> None:
    """However images are copied, groups of one content are those of the same bytes."""
    root = tmp_path_factory.mktemp("copies")
    names = [f"train/{name}/{i}.jpg" for name in CLASSES for i in range(8)]
    content = {name: picture(name) for name in names}
    for k, (i, label) in enumerate(copies):
        content[f"test/{label}/c{k}.jpg"] = content[names[i]]
    content |= {f"test/{name}/0.jpg": picture(f"t{name}") for name in CLASSES}
    write_files(root, content)
    by_bytes: dict[bytes, set[str]] = {}
    for name, data in content.items():
        by_bytes.setdefault(data, set()).add(name)
    wanted = {frozenset(group) for group in by_bytes.values() if len(group) > 1}
    found = checked(root)
    assert {frozenset(id_.partition(": ")[2] for id_ in group) for group in found.repeated} == wanted
    assert found.sound


def test_classes_without_images_are_told(birds: Path) -> None:
    """A class that test lacks makes the splits fail."""
    shutil.rmtree(birds / "test/heron")
    found = checked(birds)
    assert status(found) == {"splits": "refuse"}
    assert "test: 1 of 3 classes have no image" in said(found, "splits")


def test_missing_files_say_where_to_get_them(tmp_path: Path) -> None:
    """All that is missing at once, and the command or the steps that bring it."""
    found = check_dataset(DATASETS.get("flowers102"), {}, (tmp_path,))
    assert not found.sound
    for text in ("jpg | 102flowers.tgz", "setid.mat", "vitkd datasets fetch flowers102", "https://"):
        assert text in said(found, "files")
    assert "register at https://image-net.org" in said(
        check_dataset(DATASETS.get("imagenet1k"), {}, (tmp_path,)), "files"
    )


def test_bad_settings_are_bad_input(birds: Path) -> None:
    """What a suite could not say is no finding."""
    with pytest.raises(BadInputError, match="leaves nothing to train on"):
        checked(birds, val={"per_class": 50})
    with pytest.raises(BadInputError, match="unknown field"):
        checked(birds, vall=1)


def test_known_copies_of_real_sets_are_found(real_data: Path) -> None:
    """Tiny ImageNet as published: two pictures stand in two classes each, one of train is in val as well."""
    classes = ["n02231487", "n02236044", "n07747607", "n07753592"]
    told = {
        "train": "train.tar.xz",
        "test": "val.tar.xz",
        "classes": "classes.json",
        "val": {"per_class": 20},
        "subset": {"classes": classes},
    }
    found = check_dataset(DATASETS.get("folder"), told, (real_data / "tiny_imagenet100",), jobs=2)
    names = {frozenset(id_.rpartition("/")[2] for id_ in group) for group in found.repeated}
    assert found.sound
    assert found.sizes == {"train": 720, "val": 80, "test": 200}
    assert names == {
        frozenset({"n02231487_227.JPEG", "n02236044_366.JPEG"}),
        frozenset({"n07747607_20.JPEG", "n07753592_63.JPEG"}),
        frozenset({"n07753592_446.JPEG", "val_5035.JPEG"}),
    }
    assert status(found) == dict.fromkeys(("repeated", "disjoint", "one label"), "mark")


# --- the commands ---

Vitkd = Callable[..., tuple[int, str, str]]


@pytest.fixture
def vitkd(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Vitkd:
    """Run a command on data sets: exit status, standard output, standard error."""
    monkeypatch.delenv("VITKD_DATA", raising=False)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["vitkd", "datasets", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def of_birds(root: Path) -> list[str | Path]:
    """How the command is told of the birds."""
    sets = ("train=train", "test=test", "val.per_class=2")
    return ["check", "folder", "--data-root", root, *(part for one in sets for part in ("--set", one))]


def test_skipping_what_is_unreadable_makes_it_sound(birds: Path, vitkd: Vitkd) -> None:
    """The list that is written, named by `skip`, leaves nothing to complain of and goes on as it is."""
    (birds / "train/crane/1.jpg").write_bytes(b"no image")
    code, out, err = vitkd(*of_birds(birds), "--write-skip", birds / "skip.txt")
    assert (code, (birds / "skip.txt").read_text()) == (1, "train/crane/1.jpg\n")
    assert f"cannot be used: {birds}/train/crane/1.jpg" in out
    assert "skip: skip.txt" in err
    again = (*of_birds(birds), "--set", "skip=skip.txt", "--write-skip", birds / "more.txt")
    code, out, _ = vitkd(*again)
    assert (code, (birds / "more.txt").read_text()) == (0, "train/crane/1.jpg\n")
    assert "1 skipped" in out


def test_a_class_that_has_no_image_at_all_is_missed(birds: Path, vitkd: Vitkd) -> None:
    """A class of the list of which no part has an image fails the check, as it fails a run."""
    names = [{"name": name} for name in (*CLASSES, "zebra")]
    (birds / "classes.json").write_text(json.dumps(names))
    shown = ("--set", "test=test", "--set", "classes=classes.json", "--data-root", birds)
    code, out, _ = vitkd("check", "shift_folder", *shown)
    assert code == 1
    assert "test: 1 of 4 classes have no image, such as 'zebra'" in out


def test_a_list_to_skip_is_written_where_one_is_needed(birds: Path, vitkd: Vitkd) -> None:
    """Into a folder that is there, and not where nothing has to be skipped."""
    code, _, err = vitkd(*of_birds(birds), "--write-skip", birds / "none" / "skip.txt")
    assert (code, (birds / "none").exists()) == (2, False)
    assert f"--write-skip {birds}/none: no such folder" in err
    code, _, err = vitkd(*of_birds(birds), "--write-skip", birds / "skip.txt")
    assert (code, (birds / "skip.txt").exists()) == (0, False)
    assert "no image has to be skipped" in err


def test_the_answer_in_json(birds: Path, vitkd: Vitkd) -> None:
    """Checks, sizes, hash, unreadable images and copies, whole."""
    (birds / "test/heron/0.jpg").write_bytes(b"")
    code, out, err = vitkd(*of_birds(birds), "--json", "--jobs", "2")
    answer = json.loads(out)
    assert (code, err, answer["sound"]) == (1, "", False)
    assert answer["splits"] == {"train": 18, "val": 6, "test": 9}
    assert [one["id"] for one in answer["unreadable"]] == ["test/heron/0.jpg"]


@pytest.mark.parametrize("nested", [True, False])
def test_root_is_the_folder_or_what_holds_it(tmp_path: Path, vitkd: Vitkd, *, nested: bool) -> None:
    """`--root` takes the data set's own folder, whatever its name, and a data root."""
    write("pets", "folder", tmp_path)
    (home,) = tmp_path.iterdir()
    if not nested:
        home = home.rename(tmp_path / "any_name")
    code, out, _ = vitkd("check", "pets", "--root", tmp_path if nested else home)
    assert code == 1  # a small set: its counts are not the published ones
    assert "published are 3,680" in out
    assert "35 decoded" in out


def test_lists_say_what_is_here(tmp_path: Path, vitkd: Vitkd) -> None:
    """A folder under the data root is here; own files and none needed are told apart; facts are shown."""
    write("pets", "folder", tmp_path)
    broken = tmp_path / "flowers102"  # as a fetch that failed leaves it
    broken.mkdir()
    (broken / ".102flowers.tgz.lock").touch()
    (broken / "102flowers.tgz.part").write_bytes(b"half")
    (broken / "setid.mat").touch()  # one of its files is not all of them
    rows = {
        one["name"]: one["here"] for one in json.loads(vitkd("list", "--data-root", tmp_path, "--json")[1])
    }
    assert rows["flowers102"] is False
    assert [rows[name] for name in ("pets", "imagenet1k", "folder", "digits")] == [True, False, None, True]
    listed = vitkd("list", "--data-root", tmp_path)[1].splitlines()
    assert next(line for line in listed if line.startswith(" pets")).endswith("yes")
    shown = vitkd("show", "imagenet1k")[1]
    for text in (
        "1,000",
        "train 1,281,167, test 50,000",
        "register at",
        "{per_class: 10}",
        "once | anew",
        "how val is carved from train",
        "ILSVRC2012_img_val.tar",
    ):
        assert text in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "foldr"), "did you mean 'folder'"),
        (("check", "folder"), "this field is required"),
        (("check", "pets", "--root", "nowhere"), "--root nowhere: no such folder"),
        (("check", "pets", "--data-root", "nowhere"), "--data-root nowhere: no such folder"),
        (("check", "pets", "--set", "val"), "write it as setting=value"),
        (("check", "pets", "--set", "val=1", "--set", "val.share=0.1"), "val is a single value"),
        (("check", "pets", "--set", "vall=1"), "did you mean 'val'"),
        (("check", "pets", "--extension", "none.py"), "no such file"),
    ],
)
def test_bad_input_is_one_line(vitkd: Vitkd, arguments: tuple[str, ...], said: str) -> None:
    """Exit status 2, one line on standard error, nothing else."""
    code, out, err = vitkd(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
