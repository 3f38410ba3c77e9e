"""What a person types, and what comes back: answers, errors in one line, exit status."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from vitkd_bench.cli import main
from vitkd_bench.records import Store

SUITE = """
suite: tiny
version: 1
datasets: [digits]
recipe: {base: micro_short, epochs: 2}
teachers: [micro/deit]
students: [standard]
methods: [none]
seeds: [0, 1]
evaluate: [test, digits/blur]
"""


class Answer:
    """Exit status, standard output and standard error of one command."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


def vitkd(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Answer:
    """Run the command line in this process."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["vitkd", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
    captured = capsys.readouterr()
    return Answer(int(end.value.code or 0), captured.out, captured.err)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of two runs that read no teacher."""
    path = tmp_path_factory.mktemp("suites") / "tiny.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def ran(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of that suite, run inline with the real engine."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITKD_CACHE", str(out.parent / "cache"))
        patch.setattr(
            "sys.argv",
            ["vitkd", "run", str(tiny), "--out", str(out), "--executor", "inline", "--device", "cpu"],
        )
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 0
    return out


@pytest.fixture
def copied(ran: Path, tmp_path: Path) -> Path:
    """A copy of the output folder, to be damaged."""
    return Path(shutil.copytree(ran, tmp_path / "copied"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], "did you mean 'run'"),
        (["run", "smoke", "--jbos", "3"], "--jobs"),
        (["run", "smoke", "--jobs", "0"], "--jobs"),
        (["run", "smoke", "--executor", "slrum"], "inline"),
        (["run", "smok"], "did you mean 'smoke'"),
        (["run", "smoke", "--set", "recipe.epohs=3"], "did you mean 'epochs'"),
        (["run", "smoke", "--set", "recipe"], "path=value"),
        (["run", "smoke", "--set", "seeds=0"], "a list is needed, such as [0]"),
        (["run", "smoke", "--only", "zzz:*"], "matches no cell"),
        (["run", "smoke", "--device", "tpu"], "known: auto, cpu, cuda"),
        (["run", "smoke", "--data-root", "not_there"], "no such folder"),
        (["run", "smoke", "--set", "teachers=[micro/din]"], "did you mean 'micro/dino'"),
        (["run", "smoke", "--set", "methods=[none, attn_cop]"], "did you mean 'attn_copy'"),
        (["run", "smoke", "--set", "datasets=[digts]"], "did you mean 'digits'"),
        (["plan", "not_there.yaml"], "no such file"),
        (["status", "not_there"], "no such folder"),
        (["report", "not_there"], "no such folder"),
        (["validate", "."], "is . the output folder of a run?"),
        (["teachers", "show", "micro/din"], "did you mean 'micro/dino'"),
        (["teachers", "fetch", "zzz/*"], "matches no teacher"),
        (["methods", "show", "attn_cop"], "did you mean 'attn_copy'"),
        (["datasets", "show", "digts"], "did you mean 'digits'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_writes_nothing(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    """What is wrong with a request is said in one line with what would work; status 2; no file is written."""
    monkeypatch.chdir(tmp_path)
    answer = vitkd(capsys, *arguments)
    assert (answer.status, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert answer.err.startswith("vitkd: ")
    assert said.lower() in answer.err.lower()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_output_is_refused(
    capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path
) -> None:
    """--out names a folder, and a file that stands there stays as it is."""
    taken = tmp_path / "taken"
    taken.write_text("mine")
    answer = vitkd(capsys, "run", tiny, "--out", taken)
    assert (answer.status, taken.read_text()) == (2, "mine")
    assert "a file stands there" in answer.err


def test_data_that_are_not_here_are_no_slip_of_the_suite(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A suite whose data are elsewhere ends with 1, says what to name, and writes nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VITKD_DATA", raising=False)
    answer = vitkd(capsys, "run", "quick_real")
    assert (answer.status, answer.out, answer.err.count("\n")) == (1, "", 1)
    assert "name the folder that holds it by --data-root or VITKD_DATA" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """VITKD_DEBUG=1 adds the traceback, and without it there is none."""
    told = vitkd(capsys, "teachers", "show", "nobody").err
    assert "Traceback" not in told
    assert "--extension FILE names a file of your own that registers one" in told
    monkeypatch.setenv("VITKD_DEBUG", "1")
    assert "Traceback" in vitkd(capsys, "teachers", "show", "nobody").err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints the package's version alone."""
    from importlib.metadata import version

    assert vitkd(capsys, "--version").out == f"{version('vitkd_bench')}\n"


@pytest.mark.parametrize("group", ["teachers", "methods", "datasets", "recipes"])
def test_lists_and_entries_agree(capsys: pytest.CaptureFixture[str], group: str) -> None:
    """Whatever a list names can be shown, for people and in JSON."""
    listed = json.loads(vitkd(capsys, group, "list", "--json").out)
    assert listed
    rows = vitkd(capsys, group, "list").out.splitlines()
    assert [row.split()[0] for row in rows[2:]] == [entry["name"] for entry in listed]
    for entry in listed[:2]:
        shown = json.loads(vitkd(capsys, group, "show", entry["name"], "--json").out)
        assert entry.items() <= shown.items()
        assert entry["title"] in vitkd(capsys, group, "show", entry["name"]).out


def test_a_teacher_not_yet_made_says_how_to_make_it(capsys: pytest.CaptureFixture[str]) -> None:
    """A micro teacher that is not in the cache names the command that makes it."""
    assert (
        "not made yet: vitkd teachers fetch micro/dino" in vitkd(capsys, "teachers", "show", "micro/dino").out
    )


def test_a_dry_run_is_the_plan(
    capsys: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--dry-run shows what `plan` shows, and leaves nothing behind."""
    monkeypatch.chdir(tmp_path)
    plan = vitkd(capsys, "plan", tiny, "--json")
    assert vitkd(capsys, "run", tiny, "--dry-run", "--json").out == plan.out
    assert len(json.loads(plan.out)["runs"]) == 2
    assert "\nruns          2, 4 epochs\n" in vitkd(capsys, "plan", tiny).out
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_is_reported_and_not_repeated(
    capsys: pytest.CaptureFixture[str], tiny: Path, ran: Path
) -> None:
    """A second `run` trains nothing, and ends with the same leaderboard and its files."""
    before = {path: path.stat().st_mtime_ns for path in (ran / "records").iterdir()}
    answer = vitkd(capsys, "run", tiny, "--out", ran, "--device", "cpu")
    assert answer.status == 0
    assert "none" in answer.out
    assert str(ran / "report" / "index.html") in answer.out
    assert "2 of 2 runs done, 0 failed" in answer.err
    assert before == {path: path.stat().st_mtime_ns for path in (ran / "records").iterdir()}


def test_run_names_what_it_sets_aside(capsys: pytest.CaptureFixture[str], tiny: Path, copied: Path) -> None:
    """A damaged record is named on stderr and in JSON, kept, and made again; the next run is silent."""
    record = next((copied / "records").iterdir())
    sound = record.read_bytes()
    record.write_bytes(sound[:-100])
    answer = vitkd(capsys, "run", tiny, "--out", copied, "--executor", "inline", "--device", "cpu", "--json")
    assert answer.status == 0
    assert f"damaged: {record}: truncated" in answer.err
    (named,) = json.loads(answer.out)["damaged"]
    assert named.endswith(f"set aside as {copied / 'damaged' / record.name}")
    assert (copied / "damaged" / record.name).read_bytes() == sound[:-100]
    again = vitkd(capsys, "run", tiny, "--out", copied, "--executor", "inline", "--device", "cpu")
    assert "damaged" not in again.err


def test_status_counts_what_is_there(capsys: pytest.CaptureFixture[str], copied: Path) -> None:
    """`status` tells done runs from missing ones."""
    assert vitkd(capsys, "status", copied).out == "tiny: 2 done; 0 cells refused\n"
    next((copied / "records").iterdir()).unlink()
    assert vitkd(capsys, "status", copied).out == "tiny: 1 done, 1 missing; 0 cells refused\n"
    assert json.loads(vitkd(capsys, "status", copied, "--json").out)["counts"]["missing"] == 1


def test_a_sound_folder_is_valid(capsys: pytest.CaptureFixture[str], ran: Path) -> None:
    """What the engine left passes every check."""
    answer = vitkd(capsys, "validate", ran)
    assert (answer.status, answer.out) == (0, "2 records checked, 0 problem(s)\n")


def test_validate_finds_a_changed_byte(capsys: pytest.CaptureFixture[str], copied: Path) -> None:
    """A record that somebody edited is named, and stays where it is."""
    record = next((copied / "records").iterdir())
    record.write_bytes(record.read_bytes().replace(b'"status": "done"', b'"status": "dome"'))
    answer = vitkd(capsys, "validate", copied)
    assert answer.status == 1
    assert f"{record}: altered" in answer.out
    assert record.exists()


def test_validate_compares_metrics_with_predictions(capsys: pytest.CaptureFixture[str], copied: Path) -> None:
    """A record that is sound in itself, but says more than its predictions show, is named."""
    store = Store(copied)
    run_id, record = next(iter(store.records().items()))
    arrays = store.predictions(run_id)
    assert arrays is not None
    better = {**record.metrics, "test": {**record.metrics["test"], "top1": 0.999}}
    store.write(record.model_copy(update={"metrics": better, "seed": 7}), arrays)
    said = vitkd(capsys, "validate", copied)
    assert said.status == 1
    assert "metrics.test.top1: 0.999, its predictions say" in said.out
    assert "seed: 7, the plan says" in said.out


def test_validate_misses_splits_and_predictions(capsys: pytest.CaptureFixture[str], copied: Path) -> None:
    """A split without predictions, and a record without any, are named."""
    store = Store(copied)
    first, second = store.records()
    arrays = store.predictions(first) or {}
    kept: dict[str, np.ndarray] = {k: v for k, v in arrays.items() if not k.startswith("digits/blur/")}
    store.write(store.records()[first], kept)
    store.predictions_path(second).unlink()
    answer = vitkd(capsys, "validate", copied)
    assert answer.status == 1
    assert f"{first}.json: predictions: digits/blur is missing" in answer.out
    assert f"{second}.json: its predictions are missing" in answer.out


def test_report_goes_where_it_is_sent(capsys: pytest.CaptureFixture[str], ran: Path, tmp_path: Path) -> None:
    """`report --to` writes there, names its files, and needs no run."""
    answer = vitkd(capsys, "report", ran, "--to", tmp_path / "elsewhere")
    assert answer.status == 0
    files = [Path(line) for line in answer.out.splitlines()]
    assert {"leaderboard.md", "leaderboard.csv", "leaderboard.tex", "index.html"} <= {
        path.name for path in files
    }
    assert all(path.is_file() and path.is_relative_to(tmp_path) for path in files)
