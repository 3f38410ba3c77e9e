"""Finding and reading suites."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitkd_bench.plan import read_suite, shipped_suites
from vitkd_bench.spec import BadInputError

TEXT = """suite: x
version: 1
datasets: [digits]
recipe: micro_short
teachers: [micro/deit]
students: [standard]
methods: [none]
seeds: [0, 1]
"""


def written(folder: Path, text: str = TEXT, name: str = "x.yaml") -> str:
    """Write a suite file and give its path."""
    path = folder / name
    path.write_text(text)
    return str(path)


def test_every_shipped_suite_reads() -> None:
    """What is shipped is valid, and smoke is among it."""
    assert "smoke" in shipped_suites()
    for name in shipped_suites():
        assert read_suite(name).suite.suite == name


def test_a_place_names_its_line(tmp_path: Path) -> None:
    """The line of the entry, or of the nearest field above it; none for what was overridden."""
    path = written(tmp_path)
    assert read_suite(path).place("methods", 0) == f"{path}:7: methods.0"
    assert read_suite(path).place("methods", 3) == f"{path}:7: methods.3"
    assert read_suite(path, ["methods=[none]"]).place("methods", 0) == f"{path}: methods.0"


def test_overrides_reach_any_field(tmp_path: Path) -> None:
    """Dotted paths change fields, entries of lists, and a recipe given by name."""
    overrides = ["recipe.epochs=3", "seeds=[7]", "teachers.0=micro/dino", "keep=student"]
    suite = read_suite(written(tmp_path), overrides).suite
    assert suite.recipe.changes == {"epochs": 3}
    assert suite.seeds == (7,)
    assert suite.teachers[0].name == "micro/dino"
    assert suite.keep == "student"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seeds", "write it as path=value"),
        ("teachers.3=micro/dino", "no '3' there"),
        ("sedes=[1]", "sedes: unknown field; did you mean 'seeds'"),
        ("suite.x=1", "suite is a single value"),
        ("methods.none.x=1", "no 'none' there"),
    ],
)
def test_a_wrong_override_is_refused(tmp_path: Path, override: str, said: str) -> None:
    """A path that leads nowhere is bad input."""
    with pytest.raises(BadInputError, match=said):
        read_suite(written(tmp_path), [override])


def test_an_including_suite_replaces_whole_keys(tmp_path: Path) -> None:
    """A key that the suite gives replaces the included one; its errors name the line of the right file."""
    written(tmp_path)
    other = written(tmp_path, "include: x.yaml\nsuite: y\nseeds: [3]\n", "y.yaml")
    suite = read_suite(other).suite
    assert (suite.suite, suite.seeds, suite.teachers[0].name) == ("y", (3,), "micro/deit")
    written(tmp_path, "include: z.yaml\n", "z.yaml")
    with pytest.raises(BadInputError, match=r"z\.yaml:1: include: z\.yaml includes itself"):
        read_suite(str(tmp_path / "z.yaml"))


@pytest.mark.parametrize(("name", "said"), [("smok", "did you mean 'smoke'"), ("no.yaml", "no such file")])
def test_an_unknown_suite_is_named(name: str, said: str) -> None:
    """A slip in a shipped name gets the nearest one."""
    with pytest.raises(BadInputError, match=said):
        read_suite(name)
