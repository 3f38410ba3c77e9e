"""The registry walks its shelves."""

from __future__ import annotations

from pathlib import Path

import pytest

import vitkd_bench
from vitkd_bench.registry import DATASETS, METHODS, RECIPES, TEACHERS, Shelf, fetch_command, load_extension
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


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("PixelStats(mean=(127.5,), std=(0.5,))", "PixelStats: mean.0: .*less than or equal to 1, got 127.5"),
        ("PixelStats(mean=(0.5,), std=(0.0,))", "PixelStats: std.0: .*greater than 0, got 0.0"),
        ("PixelStats(mean=(0.5,), sdt=(0.5,))", "PixelStats: sdt: unknown field; did you mean 'std'"),
    ],
)
def test_a_description_that_is_wrong_is_told_by_line_and_field(tmp_path: Path, code: str, said: str) -> None:
    """One line of ours, and not what pydantic prints, with its addresses."""
    file = tmp_path / "own.py"
    file.write_text(f"from vitkd_bench.spec import PixelStats\n{code}\n")
    with pytest.raises(BadInputError, match=rf"own\.py:2: {said}") as caught:
        load_extension(file)
    assert "\n" not in str(caught.value)
    assert "http" not in str(caught.value)


@pytest.mark.usefixtures("own_shelf")
def test_the_command_that_fetches_knows_the_teachers_file(tmp_path: Path) -> None:
    """Ours needs no file, a stranger's does; without a location there is no command."""
    file = tmp_path / "own_teacher.py"
    file.write_text(
        "from vitkd_bench.registry import TEACHERS\n"
        "TEACHERS.register(TEACHERS.get('deit/ti').model_copy(update={'name': 'deit/own'}))\n"
    )
    load_extension(file)
    assert fetch_command(TEACHERS.get("deit/ti"), "timm") == "vitkd teachers fetch deit/ti --backend timm"
    own = TEACHERS.get("deit/own")
    assert fetch_command(own) == f"vitkd teachers fetch deit/own --extension {file}"
    nowhere = own.sources[0].model_copy(update={"location": None})
    assert fetch_command(own.model_copy(update={"sources": (nowhere,)})) is None


def test_a_name_from_two_files_is_refused() -> None:
    """Two entries of one name are told apart by where they stand."""
    shelf: Shelf[int] = Shelf("number", "vitkd_bench.methods", {"a": 1}, {"a": "one.py"}, _walked=True)
    with pytest.raises(BadInputError, match=r"'a' is defined twice: in one\.py and in two\.py"):
        shelf.add("a", 2, "two.py")
