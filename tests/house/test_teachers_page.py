"""The page that lists the teachers is made from the registry, and is not older than it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vitkd_bench.registry import TEACHERS


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script that makes the page."""
    return importlib.import_module("teachers_page")


def test_the_page_is_up_to_date(root: Path, script: ModuleType) -> None:
    """What stands in docs/teachers.md is what the registry gives now."""
    # in a process of its own, where no other test has put teachers on the shelf
    asked = [sys.executable, str(root / "scripts/teachers_page.py"), "--check"]
    checked = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert script.REFRESH not in checked.stdout


def test_every_teacher_has_its_row(script: ModuleType) -> None:
    """Each name on the shelf opens one row of either table, and each row has all columns."""
    every = [line for line in script.page().splitlines() if line.startswith("| `")]
    rows = [row for row in every if row.count(" | ") + 1 == len(script.COLUMNS)]
    shown = [row for row in every if row.count(" | ") + 1 == len(script.SHOWN_COLUMNS)]
    for table in (rows, shown):
        assert sorted(row.split("`")[1] for row in table) == sorted(TEACHERS.names())
    assert len(every) == len(rows) + len(shown)


def test_a_stale_page_is_told(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The check exits 1 on a page that is older than the shelf, says what to run, and 0 after that."""
    monkeypatch.setattr(script, "PAGE", tmp_path / "teachers.md")
    (tmp_path / "teachers.md").write_text("# Teachers\n")
    assert script.main(["--check"]) == 1
    assert script.REFRESH in capsys.readouterr().out
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0
