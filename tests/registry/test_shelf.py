"""The registry walks its shelves."""

from __future__ import annotations

from pathlib import Path

import pytest

import vitkd_bench
from vitkd_bench.registry import DATASETS, METHODS, RECIPES, TEACHERS, Shelf, load_extension
from vitkd_bench.spec import BadInputError

PACKAGE = Path(vitkd_bench.__file__).parent


@pytest.mark.parametrize(
    ("shelf", "folder", "pattern"),
    [
        (METHODS, "methods", "*.py"),
        (TEACHERS, "teachers", "*.py"),
        (DATASETS, "datasets", "*.py"),
        (RECIPES, "recipes", "*.yaml"),
    ],
)
def test_every_file_of_a_shelf_is_an_entry(shelf: Shelf, folder: str, pattern: str) -> None:
    """A new file is found without a list being edited, and no file stands there for nothing."""
    files = {p.stem for p in (PACKAGE / folder).glob(pattern) if not p.name.startswith("_")}
    origins = [Path(shelf.origin(name)) for name in shelf.names()]
    assert files == {path.stem for path in origins if path.is_relative_to(PACKAGE)}


def test_an_extension_registers_once_and_is_named_when_it_fails(tmp_path: Path) -> None:
    """A file named in a suite adds entries; a second loading changes nothing; a broken one is bad input."""
    good = tmp_path / "mine.py"
    good.write_text(
        "from vitkd_bench.contracts import Method\n"
        "from vitkd_bench.registry import METHODS\n"
        "@METHODS.register('mine_of_the_test', title='t', kind='logit', paper='none')\n"
        "class Mine(Method):\n    pass\n"
    )
    load_extension(good)
    first = METHODS.get("mine_of_the_test").method
    load_extension(good)
    assert METHODS.get("mine_of_the_test").method is first
    METHODS._entries.pop("mine_of_the_test")
    bad = tmp_path / "bad.py"
    bad.write_text("1 / 0\n")
    with pytest.raises(BadInputError, match=r"bad\.py:1: ZeroDivisionError"):
        load_extension(bad)
    with pytest.raises(BadInputError, match="no such file"):
        load_extension(tmp_path / "none.py")


def test_a_name_from_two_files_is_refused() -> None:
    """Two entries of one name are told apart by where they stand."""
    shelf: Shelf[int] = Shelf("number", "vitkd_bench.methods", {"a": 1}, {"a": "one.py"}, _walked=True)
    with pytest.raises(BadInputError, match=r"'a' is defined twice: in one\.py and in two\.py"):
        shelf.add("a", 2, "two.py")
