"""The page on the methods is made from the registry, is not older than it, and shows code that works."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vitkd_bench.contracts import NEEDS
from vitkd_bench.plan import MAKERS, read_suite, variants
from vitkd_bench.registry import CONTROLS, KINDS, METHODS

EVERY = {entry.name: entry for entry in METHODS}  # before any test has put one of its own on the shelf


@pytest.fixture(autouse=True)
def _own_methods_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the shelf as it is without the tests."""
    monkeypatch.setattr(METHODS, "_entries", dict(EVERY))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script that makes the page."""
    return importlib.import_module("methods_page")


@pytest.fixture(scope="module")
def shown(root: Path) -> str:
    """The page as it stands."""
    return (root / "docs/methods.md").read_text(encoding="utf-8")


def test_the_page_is_up_to_date(root: Path, script: ModuleType) -> None:
    """What stands in docs/methods.md is what the registry gives now."""
    # in a process of its own, where no other test has put methods on the shelf
    asked = [sys.executable, str(root / "scripts/methods_page.py"), "--check"]
    checked = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert script.REFRESH not in checked.stdout


def test_a_stale_page_is_told(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check exits 1 on a page that is older than the shelf, says what to run, and 0 after that."""
    monkeypatch.setattr(script, "PAGE", tmp_path / "methods.md")
    (tmp_path / "methods.md").write_text("# Methods\n")
    assert script.main(["--check"]) == 1
    assert script.REFRESH in capsys.readouterr().out
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0


def test_every_method_and_control_has_its_row(script: ModuleType) -> None:
    """Each name on either shelf opens one row, which has all columns; every kind has a title of its own.

    What is run for other runs has no row, and is named.
    """
    lines = script.page().splitlines()
    every = [line for line in lines if line.startswith("| `")]
    trained = [entry.name for entry in METHODS if entry.kind not in MAKERS]
    (named,) = [" ".join(lines[i + 2 : i + 6]) for i, line in enumerate(lines) if "named in no suite" in line]
    assert [name for name in METHODS.names() if f"`{name}`" not in named] == trained
    rows = {
        columns: [row.split("`")[1] for row in every if row.count(" | ") + 1 == len(columns)]
        for columns in (script.COLUMNS, script.CONTROL_COLUMNS)
    }
    assert sorted(rows[script.COLUMNS]) == trained
    assert sorted(rows[script.CONTROL_COLUMNS]) == CONTROLS.names()
    assert len(every) == len(trained) + len(CONTROLS.names())
    assert set(script.TITLES) == set(KINDS) - set(MAKERS)


def test_what_a_method_reads_is_said(script: ModuleType) -> None:
    """Taps, a teacher that is made first, none at all, and one that is needed at test."""
    reads = {entry.name: list(script._reads(entry)) for entry in METHODS}
    assert reads["kd"] == ["logits"]
    assert reads["attn_copy"] == ["attention", "teacher at test"]
    assert reads["takd"] == ["logits", "made first: `kd`"]
    assert reads["none"] == ["w/o teacher"]
    assert reads["finetune"] == ["weights"]
    assert all(reads.values())


def test_the_page_explains_every_need(shown: str) -> None:
    """No need stands in a table without its sentence below."""
    explained = shown.partition("## Needs")[2].partition("## The total loss")[0]
    assert [need for need in NEEDS if f"`{need}`" not in explained] == []


def test_the_search_that_the_page_shows_keeps_to_its_budget(shown: str, tmp_path: Path) -> None:
    """Its methods are read as a suite's own are, every value checked and the trials counted."""
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", shown, re.DOTALL | re.MULTILINE)
    rest = "suite: x\nversion: 1\ndatasets: [digits]\nrecipe: micro_short\nteachers: [micro/deit]\n"
    path = tmp_path / "suite.yaml"
    path.write_text(f"{rest}students: [standard]\n{block}", encoding="utf-8")
    found = variants(read_suite(str(path)))
    assert [sum(map(len, variant.search.values())) for variant in found] == [0, 8, 9]


def test_the_method_that_the_page_shows_passes_the_kit(shown: str, tmp_path: Path) -> None:
    """A whole one in under 30 lines; the command beside it finds nothing wrong."""
    ((name, text),) = re.findall(r"^```python title=\"(.*?)\"\n(.*?)^```$", shown, re.DOTALL | re.MULTILINE)
    assert len(text.splitlines()) < 30
    assert f"vitkd methods test {name}" in shown
    (tmp_path / name).write_text(text, encoding="utf-8")
    asked = f"import sys; sys.argv = ['vitkd', 'methods', 'test', {name!r}]"
    command = [sys.executable, "-c", f"{asked}\nfrom vitkd_bench.cli import main\nmain()"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all checks hold" in done.stdout + done.stderr
