"""The page that lists the data sets is made from the registry, and is not older than it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from vitkd_bench.registry import DATASETS


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script that makes the page."""
    return importlib.import_module("datasets_page")


def test_the_page_is_up_to_date(root: Path, script: ModuleType) -> None:
    """What stands in docs/datasets.md is what the registry gives now."""
    # in a process of its own, where no other test has put data sets on the shelf
    asked = [sys.executable, str(root / "scripts/datasets_page.py"), "--check"]
    checked = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert script.REFRESH not in checked.stdout


def test_every_data_set_has_its_row_and_section(script: ModuleType) -> None:
    """Each name on the shelf opens one row with all columns, and heads a section of its own."""
    lines = script.page().splitlines()
    rows = [line for line in lines if line.startswith("| [`")]
    assert [row.split("`")[1] for row in rows] == DATASETS.names()
    assert {row.count(" | ") + 1 for row in rows} == {len(script.COLUMNS)}
    assert [line for line in lines if line.startswith("## ")][3:] == [f"## {n}" for n in DATASETS.names()]


def test_a_stale_page_is_told(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The check exits 1 on a page that is older than the shelf, says what to run, and 0 after that."""
    monkeypatch.setattr(script, "PAGE", tmp_path / "datasets.md")
    (tmp_path / "datasets.md").write_text("# Data sets\n")
    assert script.main(["--check"]) == 1
    assert script.REFRESH in capsys.readouterr().out
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0
