"""The data set that docs/own_datasets.md shows passes the kit and the check that the page names."""

import re
from pathlib import Path

import pytest

from tests.house.test_readme import BLOCK, python, shown_files
from tests.pipeline.layouts.pictures import picture, write_files
from vitkd_bench.diagnose.dataset_conformance import DATASET_CHECKS


@pytest.fixture
def written(root: Path, tmp_path: Path) -> Path:
    """A folder with the page's file, and images as it describes them."""
    ((name, text),) = shown_files(root / "docs/own_datasets.md").items()
    (tmp_path / name).write_text(text, encoding="utf-8")
    rows = [
        (f"{part}_{kind}_{i}.jpg", kind, part)
        for part in ("train", "test")
        for kind in ("morel", "bolete", "chanterelle")
        for i in range(5)
    ]
    write_files(tmp_path / "DATA/our_fungi", {file: picture(file) for file, _, _ in rows})
    table = "\n".join(",".join(row) for row in [("file", "class", "part"), *rows])
    (tmp_path / "DATA/our_fungi/table.csv").write_text(table + "\n")
    return tmp_path


def test_the_pages_commands_run_as_shown(root: Path, written: Path) -> None:
    """Every command of the page: the kit finds nothing wrong, and all images decode."""
    text = (root / "docs/own_datasets.md").read_text(encoding="utf-8")
    shells = [match["text"] for match in BLOCK.finditer(text) if match["language"] == "sh"]
    lines = [line.partition("#")[0].split() for shell in shells for line in shell.splitlines()]
    said = [
        python(f"import sys; sys.argv = {line!r}\nfrom vitkd_bench.cli import main\nmain()", written)
        for line in lines
    ]
    assert len(said) == 2
    assert said[0].count("holds") == len(DATASET_CHECKS) + 1  # and in a fresh process
    assert "30 decoded" in said[1]
    assert "fails" not in said[1]


def test_options_that_the_page_names_exist(root: Path, tmp_path: Path) -> None:
    """Whatever begins with two dashes on the page is an option of a command on data sets."""
    text = (root / "docs/own_datasets.md").read_text(encoding="utf-8")
    asked = "import sys\nfrom vitkd_bench.cli.app import app, status\n"
    shown = ""
    for command in ("test", "check", "fetch"):
        run = f"status(lambda: app(['datasets', {command!r}, '--help'], standalone_mode=False))"
        shown += python(f"{asked}{run}", tmp_path)
    assert [option for option in re.findall(r"--[a-z][a-z-]+", text) if option not in shown] == []
