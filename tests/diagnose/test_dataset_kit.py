"""Data sets of other people's, as a file and as an installed package; what is broken in one is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from vitkd_bench.cli import main
from vitkd_bench.diagnose.dataset_conformance import DATASET_CHECKS
from vitkd_bench.registry import DATASETS

QUICK = Path(__file__).parents[1] / "fixtures" / "quick.py"
MODULE = '''
import numpy as np
from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.registry import DATASETS
from vitkd_bench.spec import ClassInfo, Dataset, DatasetSettings, PixelStats, Validation

class Settings(DatasetSettings):
    """Settings of bars: `val` is a fifth of each class of train."""
    val: Validation = Validation(share=0.2)

class Bars:
    def classes(self, facts, settings, roots):
        return tuple(KnownClass(info, info.name) for info in facts.classes)

    def parts(self, facts, settings, roots):
        return {"train": made("train", 40, seed=0), "test": made("test", 20, seed=1)}

def made(name, count, seed):
    from vitkd_bench.pipeline.images import PixelImages
    labels = np.arange(count) % 2
    pixels = np.random.default_rng(seed).integers(0, 99, (count, 1, 8, 8), np.uint8)
    for image, label in zip(pixels[:, 0], labels):
        (image.T if label else image)[3] = 255
    return Part(PixelImages(pixels, "bars"), labels, tuple(f"{name}/{i}" for i in range(count)))

READER = Bars()
DATASETS.register(Dataset(
    name="NAME", title="Bars on noise", source="our own", licence="CC0", channels=1, image_size=8,
    reader=f"{__name__}:READER", pixels=PixelStats(mean=(0.3,), std=(0.3,)), split_rule="as made",
    classes=(ClassInfo(name="across"), ClassInfo(name="down"))), Settings)
'''
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "stranger-data"
version = "1.0"
[project.entry-points."vitkd_bench.datasets"]
stranger = "stranger_data"
[tool.hatch.build.targets.wheel]
only-include = ["stranger_data.py"]
"""
SUITE = """
suite: stranger
version: 1
datasets: [bars_of_a_package]
extensions: [{quick}]
recipe: quick
teachers: [quick/deit]
students: [standard]
methods: [none]
seeds: [0]
evaluate: [test]
"""


def in_process(*arguments: str | Path, path: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in a fresh process, that finds what is installed under `path`."""
    found = [str(path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(found), "VITKD_CACHE": str(cache)}
    command = [sys.executable, "-c", "from vitkd_bench.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, text=True, env=environment)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of under thirty lines, built into a wheel and installed into a folder of its own."""
    source = tmp_path_factory.mktemp("stranger_data")
    module = MODULE.replace("NAME", "bars_of_a_package").strip()
    assert len(module.splitlines()) < 30
    (source / "stranger_data.py").write_text(module + "\n")
    (source / "pyproject.toml").write_text(textwrap.dedent(PROJECT).strip() + "\n")
    target = source / "installed"
    run = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(source), str(source)]
    subprocess.run(run, check=True, capture_output=True, text=True)
    (wheel,) = source.glob("*.whl")
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    base = getattr(sys, "_base_executable", sys.executable)  # has pip where an environment of uv's has none
    pip = [uv, "pip", "install", "--python", sys.executable] if uv else [base, "-m", "pip", "install"]
    install = [*pip, "--quiet", "--no-index", "--no-deps", "--target", target, wheel]
    subprocess.run(install, check=True, capture_output=True, text=True)
    return target


def test_an_installed_data_set_is_listed_tested_checked_and_trained_on(
    installed: Path, tmp_path: Path
) -> None:
    """By its entry point: every command knows it, the kit finds nothing wrong, a suite trains on it."""
    name = "bars_of_a_package"
    said = {}
    for command in ("list", "show", "test", "check"):
        arguments = ["datasets", command, *([] if command == "list" else [name])]
        done = in_process(*arguments, path=installed, cache=tmp_path)
        assert done.returncode == 0, done.stderr
        said[command] = done.stdout
    assert "Bars on noise" in said["list"]
    assert "stranger_data.py" in said["show"]
    assert said["test"].count("holds") == len(DATASET_CHECKS) + 1  # and in a fresh process
    assert "60 decoded" in said["check"]
    (tmp_path / "suite.yaml").write_text(SUITE.format(quick=QUICK))
    arguments = ["run", str(tmp_path / "suite.yaml"), "--out", str(tmp_path / "out"), "--executor", "inline"]
    ran = in_process(*arguments, path=installed, cache=tmp_path)
    assert ran.returncode == 0, ran.stderr
    (record,) = [json.loads(path.read_text()) for path in (tmp_path / "out/records").glob("*.json")]
    assert record["cell"]["dataset"] == name


# --- in this process ---

Tested = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tested(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tested:
    """Write a file of data sets and test it, on a shelf that is put back: status, output, errors."""
    DATASETS.names()
    for held in ("_entries", "_origin"):
        monkeypatch.setattr(DATASETS, held, dict(getattr(DATASETS, held)))

    def run(text: str, *options: str, name: str = "theirs.py") -> tuple[int, str, str]:
        (tmp_path / "theirs.py").write_text(text)
        monkeypatch.setattr("sys.argv", ["vitkd", "datasets", "test", str(tmp_path / name), *options])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def test_a_file_is_tested(tested: Tested) -> None:
    """Both of its data sets, and no other; all holds."""
    second = MODULE.split("DATASETS.register")[1]
    text = MODULE.replace("NAME", "bars") + f"DATASETS.register{second.replace('NAME', 'more_bars')}"
    code, out, err = tested(text, "--json")
    found = json.loads(out)
    assert (code, list(found)) == (0, ["bars", "more_bars"])
    assert {check["status"] for checks in found.values() for check in checks} == {"pass"}
    assert "2 data set(s), all checks hold" in err


IDS = 'tuple(f"{name}/{i}" for i in range(count))'
LABELS = "np.arange(count) % 2"
KEYS = "KnownClass(info, info.name)"
SHUFFLED = """
def shuffled(images, labels, ids):
    at = np.random.default_rng().permutation(len(ids))
    return Part(images, labels[at], tuple(ids[i] for i in at))
"""


@pytest.mark.parametrize(
    ("replaced", "by", "check", "said"),
    [
        (IDS, 'tuple(f"{name}/{i // 2}" for i in range(count))', "parts", "stand twice: 'test/0'"),
        (IDS, 'tuple(f"{i}" for i in range(count))', "parts", "stand twice"),
        (IDS, 'tuple(f"{name}\\\\{i}" for i in range(count))', "parts", "id 'train\\\\0'"),
        (IDS, 'tuple(f"/data/{name}/{i}" for i in range(count))', "parts", "id '/data/train/0'"),
        (IDS, 'tuple(f"{name}/{i}" for i in range(count - 1))', "parts", "39 ids"),
        (LABELS, "np.arange(count) % 3", "parts", "class 2 is none of 2"),
        (LABELS, "(np.arange(count) % 2).astype(np.int32)", "parts", "labels of int32"),
        (LABELS, "np.arange(count) % 2 * (seed == 0)", "splits", "test: class 'down' has no image"),
        (LABELS, "np.arange(count) * 0", "splits", "class 'down' has no image"),
        ("seed=1)}", 'seed=1), "extra": made("extra", 2, 2)}', "parts", "parts ['extra', 'test', 'train']"),
        ('"train": made("train", 40, seed=0), ', "", "parts", "a trained set has ['test', 'train']"),
        (LABELS, "np.random.default_rng().permutation(count) % 2", "stable", "other ids or labels"),
        (IDS, 'tuple(f"{name}/{id(pixels)}-{i}" for i in range(count))', "stable", "other ids or labels"),
        (IDS, 'tuple({f"{name}/{i}" for i in range(count)})', "fresh", "another process finds another order"),
        ("return Part(", "return shuffled(", "stable", "in another order"),
        ("(count, 1, 8, 8)", "(count, 3, 8, 8)", "images", "3 channels, the facts of the data set say 1"),
        ('"bars"), labels', 'lambda: "bars"), labels', "pickled", "pickle"),
        (KEYS, 'KnownClass(info, "same")', "classes", "two classes have the key 'same'"),
        ('name="down"', 'name="across"', "classes", "two classes have the name 'across'"),
        (
            "for info in facts.classes)",
            "for info in facts.classes[::-1])",
            "classes",
            "not those of the facts",
        ),
        ("mean=(0.3,)", "mean=(0.3, 0.3)", "facts", "of 1 channel(s) are needed"),
        ('licence="CC0"', 'licence=""', "facts", "licence: empty"),
        (":READER", ":REEDER", "facts", "REEDER"),
        ("channels=1,", 'channels=1, files=("bars",),', "facts", "neither fetch nor manual"),
        ("channels=1,", 'channels=1, shifts=("wobble",),', "shifts", "wobble"),
        ('split_rule="', 'role="shift", split_rule="', "parts", "a shift set has ['test']"),
        ("return {", 'raise OSError("no disk"); return {', "classes", "theirs.py:20: OSError: no disk"),
    ],
)
def test_what_is_broken_is_named(tested: Tested, replaced: str, by: str, check: str, said: str) -> None:
    """Each fault fails the check that is there for it, with its reason, and exit status 1."""
    assert replaced in MODULE
    code, out, _ = tested(SHUFFLED + MODULE.replace("NAME", "broken").replace(replaced, by), "--json")
    found = {one["name"]: one for one in json.loads(out)["broken"]}
    assert code == 1
    assert found[check]["status"] == "refuse"
    assert said in found[check]["finding"]


def test_absent_files_are_said_so(tested: Tested) -> None:
    """What its reader does not find fails once by its reason, and all that hangs on it as not checked."""
    code, out, err = tested("", name="pets")
    assert code == 2
    assert "pets" in err
    text = MODULE.replace("NAME", "gone").replace(
        "return {", "from vitkd_bench.spec import WorldError; raise WorldError('no bars here'); return {"
    )
    code, out, err = tested(text)
    assert code == 1
    assert out.count("no bars here") == 1
    assert out.count("not checked: the reader cannot open it") == len(DATASET_CHECKS) - 2
    assert f"{len(DATASET_CHECKS) - 1} check(s) do not hold" in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "registers no data set"),
        ("def broken(:\n", "SyntaxError"),
        (MODULE.replace("NAME", "digits"), "data set 'digits' is defined twice"),
        (MODULE.replace("title=", "titel="), "unknown field; did you mean 'title'?"),
    ],
)
def test_a_file_that_cannot_be_tested_is_bad_input(tested: Tested, text: str, said: str) -> None:
    """One line that names the file, and exit status 2."""
    code, out, err = tested(text)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
