"""Methods of other people's: an installed package and a file; listed, run in a suite, tested by the kit."""

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
from vitkd_bench.registry import METHODS

QUICK = Path(__file__).parents[1] / "fixtures" / "quick.py"
MODULE = """
import torch.nn.functional as F
from pydantic import Field
from vitkd_bench.contracts import Method, taps
from vitkd_bench.registry import METHODS
from vitkd_bench.spec import Settings

@METHODS.register(
    "NAME", title="Cosine of pooled features", kind="feature", paper="our own", needs=("width",),
    budget="weight: 6 trials of {0, .1, .3, 1, 3, 10}",
)
class Cosine(Method):
    '''Cross-entropy with labels + weight x one minus the cosine of the pooled features.'''

    class Config(Settings):
        weight: float = Field(default=1.0, ge=0, description="of the cosine, the labels weigh 1")

    def teacher_taps(self):
        return frozenset({taps.POOLED})

    def loss(self, student, teacher, batch):
        apart = 1 - F.cosine_similarity(student.pooled, teacher.pooled).mean()
        return {"labels": F.cross_entropy(student.logits, batch.labels), "cosine": self.config.weight * apart}
"""
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "stranger-methods"
version = "1.0"
[project.entry-points."vitkd_bench.methods"]
stranger = "stranger_methods"
"""
SUITE = """
suite: stranger
version: 1
datasets: [{{name: digits, subset: {{per_class: 20}}}}]
extensions: [{extensions}]
recipe: quick
teachers: [quick/deit]
students: [standard]
methods: [none, {{name: {name}, weight: 2.0}}]
seeds: [0]
evaluate: [test]
"""


def vitkd(*arguments: str | Path, cache: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a fresh process, that finds what is installed under `path`."""
    paths = [str(path)] if path else []
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "VITKD_CACHE": str(cache),
    }
    command = [sys.executable, "-c", "from vitkd_bench.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, text=True, env=environment)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the quick teacher is made, once for both ways in."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of under thirty lines, built into a wheel and installed into a folder of its own."""
    source = tmp_path_factory.mktemp("stranger_methods")
    module = MODULE.replace("NAME", "cosine_of_a_package").strip()
    project = textwrap.dedent(PROJECT).strip()
    assert len(module.splitlines()) < 30
    (source / "stranger_methods.py").write_text(module + "\n")
    (source / "pyproject.toml").write_text(
        project + '\n[tool.hatch.build.targets.wheel]\nonly-include = ["stranger_methods.py"]\n'
    )
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


def test_an_installed_method_is_listed(installed: Path, cache: Path) -> None:
    """A fresh process finds it by its entry point, with its facts; no file of ours was edited."""
    answer = vitkd("methods", "list", "--json", cache=cache, path=installed)
    assert answer.returncode == 0, answer.stderr
    listed = {entry["name"]: entry for entry in json.loads(answer.stdout)}
    assert listed["cosine_of_a_package"]["needs"] == ["width"]
    assert "cosine_of_a_package" not in METHODS.names()


def test_an_installed_method_runs_in_a_suite(installed: Path, cache: Path, tmp_path: Path) -> None:
    """Beside the baseline, with a setting of its own, to a record that tells both parts of its loss."""
    suite = tmp_path / "suite.yaml"
    suite.write_text(SUITE.format(extensions=QUICK, name="cosine_of_a_package"))
    ran = vitkd("run", suite, "--out", tmp_path, "--executor", "inline", cache=cache, path=installed)
    assert ran.returncode == 0, ran.stderr
    assert_ran(tmp_path, "cosine_of_a_package")


def assert_ran(out: Path, name: str) -> None:
    """The method left a finished record, of the settings that the suite gave."""
    records = [json.loads(path.read_text()) for path in (out / "records").glob("*.json")]
    (record,) = [record for record in records if record["cell"]["method"] == name]
    assert record["status"] == "done"
    assert record["config"]["method_settings"] == {"weight": 2.0}
    assert {"loss/labels", "loss/cosine"} <= set(record["curve"][0])


def test_an_installed_method_is_tested_by_its_name(installed: Path, cache: Path) -> None:
    """The kit holds for it."""
    answer = vitkd("methods", "test", "cosine_of_a_package", cache=cache, path=installed)
    assert answer.returncode == 0, answer.stdout
    assert "1 method(s), all checks hold" in answer.stderr
    assert "fails" not in answer.stdout


def test_a_file_runs_in_a_suite_that_names_it(cache: Path, tmp_path: Path) -> None:
    """The same method from a file among the suite's extensions, beside the suite."""
    (tmp_path / "mine.py").write_text(MODULE.replace("NAME", "cosine_of_a_file"))
    suite = tmp_path / "suite.yaml"
    suite.write_text(SUITE.format(extensions=f"{QUICK}, mine.py", name="cosine_of_a_file"))
    ran = vitkd("run", suite, "--out", tmp_path, "--executor", "inline", cache=cache)
    assert ran.returncode == 0, ran.stderr
    assert_ran(tmp_path, "cosine_of_a_file")


# --- in this process ---


class Answer:
    """Exit status, standard output and standard error of one command."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


Tested = Callable[..., Answer]


@pytest.fixture
def tested(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tested:
    """Write a file of methods and test it, on a shelf that is put back."""
    METHODS.names()
    for held in ("_entries", "_origin", "_lines"):
        monkeypatch.setattr(METHODS, held, dict(getattr(METHODS, held)))

    def run(text: str, *options: str, name: str = "theirs.py") -> Answer:
        (tmp_path / "theirs.py").write_text(text)
        monkeypatch.setattr("sys.argv", ["vitkd", "methods", "test", str(tmp_path / name), *options])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return Answer(int(end.value.code or 0), captured.out, captured.err)

    return run


def test_a_file_is_tested(tested: Tested) -> None:
    """All its methods and no other; what does not hold is told with its reason and an exit status of 1."""
    never = MODULE.replace("NAME", "never").replace("apart =", "apart = 3 +")
    maker = MODULE.replace("NAME", "maker").replace('"feature"', '"pretraining"')
    texts = (MODULE.replace("NAME", "sound"), never.replace("Cosine(", "Never("), maker)
    answer = tested("".join(texts), "--json")
    assert answer.status == 1
    found = json.loads(answer.out)
    assert list(found) == ["never", "sound"]
    wrong = {name: [c["name"] for c in checks if c["status"] != "pass"] for name, checks in found.items()}
    assert wrong == {"never": ["overfits"], "sound": []}
    assert "maker is not tested here: of kind pretraining, it makes teachers" in answer.err
    assert "2 method(s), 1 check(s) do not hold" in answer.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "registers no method; @METHODS.register(...) puts a class on the shelf"),
        ("def broken(:\n", "SyntaxError"),
        ("raise RuntimeError('no such thing')\n", "RuntimeError: no such thing"),
        (MODULE.replace("NAME", "kd"), "method 'kd' is defined twice: in "),
        (MODULE.replace("NAME", "twin") * 2, "method 'twin' is defined twice in "),
        (MODULE.replace('"width"', '"widht"'), "unknown need 'widht'; did you mean 'width'?"),
        (MODULE.replace('"feature"', '"featur"'), "unknown kind 'featur'; did you mean 'feature'?"),
        (MODULE.replace('"feature"', '"pretraining"'), "'NAME' of kind pretraining makes teachers"),
    ],
)
def test_a_file_that_cannot_be_tested_is_bad_input(tested: Tested, text: str, said: str) -> None:
    """No method, a broken file, a name twice, an unknown word: one line that names the file, and exit 2."""
    answer = tested(text)
    assert answer.status == 2
    assert said in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert answer.out == ""


def test_a_file_that_is_not_there_is_named(tested: Tested) -> None:
    """With the nearest name in its folder."""
    answer = tested("x = 1\n", name="thiers.py")
    assert answer.status == 2
    assert "thiers.py: no such file; did you mean 'theirs.py'?" in answer.err


def test_a_name_that_is_not_there_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the nearest method; what makes teachers is told apart."""
    told = {"kdd": "unknown method 'kdd'; did you mean 'kd'?", "pretrain_mae": "makes teachers"}
    for name, said in told.items():
        monkeypatch.setattr("sys.argv", ["vitkd", "methods", "test", name])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        assert said in capsys.readouterr().err


def test_a_method_is_shown_with_what_it_needs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Needs, budget, and each setting with its description; the list has the needs too."""
    said = {}
    for command in (["show", "kd"], ["show", "kd", "--json"], ["list"]):
        monkeypatch.setattr("sys.argv", ["vitkd", "methods", *command])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        said[command[-1]] = capsys.readouterr().out
    shown = json.loads(said["--json"])
    assert shown["needs"] == ["logits"]
    assert shown["budget"] in said["kd"]
    assert shown["descriptions"].keys() == shown["settings"].keys()
    assert all(text in said["kd"] for text in shown["descriptions"].values())
    (row,) = [line for line in said["list"].splitlines() if line.split()[:1] == ["crd"]]
    assert "memory, parameters" in row
