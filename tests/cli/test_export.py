"""`vitkd export`: from a suite that was run to a student in plain timm."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch

from vitkd_bench.cli import main
from vitkd_bench.pipeline import open_splits
from vitkd_bench.pipeline.views import plain
from vitkd_bench.records import Preparations, Store
from vitkd_bench.spec import Record

SUITE = """
suite: kept
version: 1
datasets: [digits]
extensions: [{extension}]
recipe: quick
teachers: [quick/deit]
students: [standard, {{as: scaled, components: [layer_scale, norm_pre], layer_scale_init: 0.1}}]
methods: [none, kd, attn_copy, deit_token]
seeds: [0]
evaluate: [test, digits/blur]
exclude:
  - {{teacher: quick/deit, student: scaled, method: attn_copy, because: one is enough}}
  - {{teacher: quick/deit, student: scaled, method: deit_token, because: one is enough}}
keep: student
"""


def vitkd(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Run the command line in this process: exit status, standard output, standard error."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["vitkd", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """The output folder of a micro suite that keeps its students, run inline."""
    folder = tmp_path_factory.mktemp("kept")
    suite, out = folder / "kept.yaml", folder / "runs" / "kept"
    suite.write_text(SUITE.format(extension=root / "tests/fixtures/quick.py"))
    with pytest.MonkeyPatch.context() as patch:
        command = ["vitkd", "run", str(suite), "--out", str(out), "--executor", "inline", "--device", "cpu"]
        patch.setattr("sys.argv", command)
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 0
    return out


def of(out: Path, method: str, student: str = "standard") -> Record:
    """The record of one method."""
    records = Store(out, look_only=True).records().values()
    (found,) = [each for each in records if (each.cell.method, each.cell.student) == (method, student)]
    return found


@pytest.mark.parametrize(("method", "student"), [("kd", "standard"), ("kd", "layer_scale+norm_pre")])
def test_plain_timm_has_the_accuracy_of_the_record(
    capsys: pytest.CaptureFixture[str], ran: Path, tmp_path: Path, root: Path, method: str, student: str
) -> None:
    """In a process without this package the exported student has the predictions and top-1 of its record."""
    record = of(ran, method, student)
    status, said, _ = vitkd(capsys, "export", record.run_id, "--out", ran, "--to", tmp_path / "it", "--json")
    answer = json.loads(said)
    assert (status, answer["run_id"]) == (0, record.run_id)
    assert {Path(file) for file in answer["files"]} == set((tmp_path / "it").iterdir())

    run = Store(ran).read_plan().runs[record.run_id]
    test = open_splits(run.dataset, (), run.student.image_size).test
    np.savez(tmp_path / "pixels.npz", it=plain(test.images).numpy())
    facts = in_plain_timm(root, tmp_path)["it"]
    with np.load(tmp_path / "outputs.npz") as outputs:
        chosen = outputs["it"].argmax(axis=1)
    assert np.mean(chosen == test.labels) == record.metrics["test"]["top1"]
    stored = Store(ran).predictions(record.run_id)
    assert stored is not None
    assert chosen.tolist() == stored["test/top5"][:, 0].tolist()
    assert facts["labels"][:3] == ["zero", "one", "two"]


def in_plain_timm(root: Path, folder: Path) -> dict[str, Any]:
    """What timm says of the exports in a folder, in a process of its own."""
    script, shim = root / "tests/fixtures/plain_timm.py", root / "vitkd_bench/_torchvision.py"
    done = subprocess.run(
        [sys.executable, script, shim, folder], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def test_the_card_says_what_it_is(capsys: pytest.CaptureFixture[str], ran: Path, tmp_path: Path) -> None:
    """Run, teacher, method, data, metrics with their number of images, delta, licences, how to load it."""
    record, baseline = of(ran, "kd"), of(ran, "none")
    to = tmp_path / "student"
    assert vitkd(capsys, "export", record.run_id, "--out", ran, "--to", to)[0] == 0
    card = (to / "README.md").read_text()
    delta = 100 * (record.metrics["test"]["top1"] - baseline.metrics["test"]["top1"])
    for said in (
        f"run `{record.run_id}`",
        "Student of quick/deit on digits, by kd",
        "It needs no teacher at test.",
        f"| test | 450 | {100 * record.metrics['test']['top1']:.1f} % |",
        f"| digits/blur | 450 | {100 * record.metrics['digits/blur']['top1']:.1f} % |",
        f"run `{baseline.run_id}`): ",
        f"test {delta:+.1f}",
        "teacher: Apache-2.0",
        "data: CC-BY-4.0 (UCI)",
        'timm.create_model("local-dir:student", pretrained=True)',
        "minus mean [0.3055], over standard deviation [0.3759]",
        f"sha256 `{record.weights_sha256}`",
    ):
        assert said in card
    assert str(tmp_path) not in card


def test_the_card_of_a_baseline_and_of_one_without(
    capsys: pytest.CaptureFixture[str], ran: Path, tmp_path: Path
) -> None:
    """The baseline says that it is one, and a record whose baseline is elsewhere gives no delta."""
    own, lonely = of(ran, "none"), of(ran, "kd")
    assert vitkd(capsys, "export", own.run_id, "--out", ran, "--to", tmp_path / "own")[0] == 0
    assert "is the baseline `none` itself" in (tmp_path / "own/README.md").read_text()
    out = tmp_path / "out"
    for kind, name in (("records", f"{lonely.run_id}.json"), ("weights", f"{lonely.run_id}.safetensors")):
        (out / kind).mkdir(parents=True)
        shutil.copy(ran / kind / name, out / kind / name)
    assert vitkd(capsys, "export", lonely.run_id, "--out", out, "--to", tmp_path / "lonely")[0] == 0
    card = (tmp_path / "lonely/README.md").read_text()
    assert f"run `{lonely.baseline}`, is not at hand: no delta is given" in card


def test_a_run_is_found_by_its_beginning_its_record_and_in_runs(
    capsys: pytest.CaptureFixture[str], ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine digits, the file of the record, and every folder in runs/ lead to the same student."""
    run_id = of(ran, "kd").run_id
    monkeypatch.chdir(ran.parent.parent)
    asked = ([run_id[:9]], [f"runs/kept/records/{run_id}.json"], [run_id, "--out", "runs/kept"])
    for i, arguments in enumerate(asked):
        status, _, said = vitkd(capsys, "export", *arguments, "--to", tmp_path / str(i))
        assert (status, run_id in said) == (0, True)
    first, *others = (tmp_path / str(i) / "model.safetensors" for i in range(len(asked)))
    assert all(other.read_bytes() == first.read_bytes() for other in others)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("attn_copy", "needs its teacher's attention maps at test, and no timm model takes any"),
        ("deit_token", "its result is more than a student: distillation.head.bias"),
    ],
)
def test_what_has_no_form_in_timm_is_refused(
    capsys: pytest.CaptureFixture[str], ran: Path, tmp_path: Path, method: str, said: str
) -> None:
    """One line with the reason, exit status 2, nothing written."""
    status, out, told = vitkd(capsys, "export", of(ran, method).run_id, "--out", ran, "--to", tmp_path / "no")
    assert (status, out, told.count("\n")) == (2, "", 1)
    assert said in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{id}x", "--out", "{ran}", "--to", "no"], "did you mean '{id}'?"),
        (["../{id}", "--out", "{ran}", "--to", "no"], "cannot be a file name"),
        (["{id}", "--out", "nowhere", "--to", "no"], "--out nowhere: no such folder"),
        (["{id}", "--to", "no"], "no output folder in runs/"),
        (["nowhere/records/{id}.json", "--to", "no"], "no such file"),
        (["{ran}/plan.json", "--to", "no"], "no record: one stands in OUT/records/<run id>.json"),
        (["{id}", "--out", "{ran}"], "--to"),
        (["{id}", "--out", "{ran}", "--to", "{ran}"], "the folder is not empty; --force"),
        (["{id}", "--out", "{ran}", "--to", "{ran}/plan.json"], "a file stands there"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    capsys: pytest.CaptureFixture[str],
    ran: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    """What is asked wrongly is said in one line with what would work; status 2; no file is written."""
    monkeypatch.chdir(tmp_path)
    known = {"id": of(ran, "kd").run_id, "ran": str(ran)}
    status, out, told = vitkd(capsys, "export", *(each.format(**known) for each in arguments))
    assert (status, out, told.count("\n")) == (2, "", 1)
    assert said.format(**known) in told
    assert list(tmp_path.iterdir()) == []


def test_an_ambiguous_beginning_is_refused(
    capsys: pytest.CaptureFixture[str], ran: Path, tmp_path: Path
) -> None:
    """Where two ids begin so, both are named; a whole id that is the beginning of another is clear."""
    record = of(ran, "kd")
    out = Path(shutil.copytree(ran, tmp_path / "out"))
    shutil.copy(out / f"records/{record.run_id}.json", out / f"records/{record.run_id}2.json")
    status, _, told = vitkd(capsys, "export", record.run_id[:-1], "--out", out, "--to", tmp_path / "no")
    assert (status, f"2 runs begin so in {out}: {record.run_id}, {record.run_id}2" in told) == (2, True)
    assert vitkd(capsys, "export", record.run_id, "--out", out, "--to", tmp_path / "yes")[0] == 0


@pytest.fixture
def unkept(ran: Path, tmp_path: Path) -> Path:
    """The same output folder as a suite leaves it that keeps nothing."""
    out = Path(shutil.copytree(ran, tmp_path / "unkept"))
    shutil.rmtree(out / "weights")
    return out


def test_weights_that_were_not_kept_are_asked_for(
    capsys: pytest.CaptureFixture[str], unkept: Path, tmp_path: Path
) -> None:
    """Without weights the answer is the setting that keeps them."""
    status, _, told = vitkd(
        capsys, "export", of(unkept, "kd").run_id, "--out", unkept, "--to", tmp_path / "no"
    )
    assert (status, "set keep: student in the suite and run it again" in told) == (2, True)


def test_weights_are_taken_from_the_preparations(
    capsys: pytest.CaptureFixture[str],
    ran: Path,
    unkept: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that others needed first left its weights in the cache: they serve as well."""
    monkeypatch.setenv("VITKD_CACHE", str(tmp_path / "cache"))
    record = of(ran, "kd")
    kept = Store(ran).weights_path(record.run_id)
    Preparations().write(record, kept.read_bytes())
    assert vitkd(capsys, "export", record.run_id, "--out", unkept, "--to", tmp_path / "yes")[0] == 0
    written = safetensors.torch.load_file(tmp_path / "yes/model.safetensors")
    trained = safetensors.torch.load_file(kept)
    assert {name: tensor.tolist() for name, tensor in written.items()} == {
        name: tensor.tolist() for name, tensor in trained.items()
    }


def test_damaged_weights_and_records_are_not_exported(
    capsys: pytest.CaptureFixture[str], ran: Path, tmp_path: Path
) -> None:
    """A file that is not what the record says, or a record that is not sound, ends with 1 and its name."""
    out = Path(shutil.copytree(ran, tmp_path / "out"))
    store, run_id = Store(out), of(ran, "kd").run_id
    weights = bytearray(store.weights_path(run_id).read_bytes())
    weights[-1] ^= 1
    store.weights_path(run_id).write_bytes(weights)
    status, _, told = vitkd(capsys, "export", run_id, "--out", out, "--to", tmp_path / "no")
    assert (status, "the record says" in told) == (1, True)
    text = store.record_path(run_id).read_text()
    store.record_path(run_id).write_text(text.replace('"seed": 0', '"seed": 1'))
    status, _, told = vitkd(capsys, "export", run_id, "--out", out, "--to", tmp_path / "no")
    assert (status, "does not agree with its digest" in told) == (1, True)
    assert not (tmp_path / "no").exists()
    assert store.record_path(run_id).is_file()  # looked at, not set aside


def test_force_writes_into_a_folder_that_is_not_empty(
    capsys: pytest.CaptureFixture[str], ran: Path, tmp_path: Path
) -> None:
    """--force replaces an export by another and leaves other files where they are."""
    to = tmp_path / "it"
    for record, more in ((of(ran, "kd"), ()), (of(ran, "none"), ("--force",))):
        assert vitkd(capsys, "export", record.run_id, "--out", ran, "--to", to, *more)[0] == 0
        to.joinpath("mine.txt").write_text("mine")
    assert of(ran, "none").run_id in (to / "README.md").read_text()
    assert (to / "mine.txt").read_text() == "mine"
