"""`vitkd teachers list`: fast from its index, and never behind what the index was made from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import vitkd_bench
from vitkd_bench.fetch import WeightCache
from vitkd_bench.fetch.files import sha256_of
from vitkd_bench.fetch.lockfile import Pin, WeightLock
from vitkd_bench.registry import TEACHERS

PACKAGE = Path(vitkd_bench.__file__).parent
EVERY = list(TEACHERS)  # before any test has put one of its own on the shelf
NAMES = [teacher.name for teacher in EVERY]
RUN = """
import sys
watched = [name for name in sys.argv.pop(1).split(",") if name]
try:
    from vitkd_bench.cli import main
    main()
finally:
    loaded = [name for name in watched if name in sys.modules]
    if loaded:
        print("loaded:", *loaded, file=sys.stderr)
"""
PARSED = "from vitkd_bench.cli.app import main; main()"
SLOW = ("pydantic", "typer", "vitkd_bench.registry", "vitkd_bench.spec.teacher", "yaml")
OTHERS = """
from vitkd_bench.registry import TEACHERS
TEACHERS.register(TEACHERS.get("deit/ti").model_copy(update={"name": "others/one", "title": "One"}))
"""


@dataclass
class Machine:
    """A cache, and what is on the path of every process before the installed packages."""

    cache: Path
    path: Path

    def run(self, *arguments: str, code: str = RUN, watched: tuple[str, ...] = ()) -> tuple[int, str, str]:
        """Run `vitkd teachers ...` in a fresh process; exit status, stdout, stderr."""
        first = [",".join(watched)] if code == RUN else []
        done = subprocess.run(
            [sys.executable, "-c", code, *first, "teachers", *arguments],
            capture_output=True,
            check=False,
            text=True,
            cwd=self.path,  # or the checkout that the tests run in would come before the path
            env=self.environment(),
        )
        return done.returncode, done.stdout, done.stderr

    def environment(self) -> dict[str, str]:
        """Without compiled files: Python believes one whose source has the same size and time."""
        return {
            **os.environ,
            "VITKD_CACHE": str(self.cache),
            "PYTHONPATH": f"{self.path}{os.pathsep}{PACKAGE.parent}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def rows(self) -> dict[str, dict[str, Any]]:
        """What the list says, by teacher."""
        status, out, err = self.run("list", "--json")
        assert (status, err) == (0, "")
        return {row["name"]: row for row in json.loads(out)}

    def index(self) -> Path:
        """The one file of the index."""
        (index,) = (self.cache / "index").iterdir()
        return index

    def uses_index(self) -> bool:
        """Whether a list needs none of what builds contracts; the index is there afterwards."""
        return self.run("list", watched=SLOW)[2] == ""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine on which nothing was listed yet."""
    (tmp_path / "path").mkdir()
    return Machine(tmp_path / "cache", tmp_path / "path")


@pytest.mark.parametrize("arguments", [("list",), ("list", "--json")], ids=" ".join)
def test_the_second_list_is_the_first_and_builds_nothing(
    machine: Machine, arguments: tuple[str, ...]
) -> None:
    """From the shelf, from the index and through the parser: the same bytes; the index needs no contract."""
    assert "vitkd_bench.spec.teacher" in machine.run(*arguments, watched=SLOW)[2]
    first, second = machine.run(*arguments), machine.run(*arguments, watched=SLOW)
    assert first == second
    assert (first[0], first[2]) == (0, "")
    assert machine.run(*arguments, code=PARSED) == first
    assert all(name in first[1] for name in NAMES)


def test_the_list_agrees_with_the_contracts(machine: Machine) -> None:
    """A row from the index says what the contract says."""
    machine.run("list")
    assert machine.uses_index()
    rows = machine.rows()
    assert list(rows) == NAMES
    for teacher in EVERY:
        row, plain = rows[teacher.name], teacher.plain()
        facts = row.keys() - {"native_components", "weights"}
        assert len(facts) == 10
        assert {name: row[name] for name in facts} == {name: plain[name] for name in facts}
        assert row["native_components"] == list(teacher.native_components)
        assert list(row["weights"]) == [source.backend for source in teacher.sources]


def test_the_list_follows_the_files_of_the_shelf(machine: Machine) -> None:
    """A contract edited without change of size and time, a family that comes, one that goes: seen at once."""
    copied = machine.path / "vitkd_bench"
    shutil.copytree(PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    assert machine.rows()["deit/ti"]["title"] == "DeiT-Ti/16"
    assert machine.uses_index()
    family = copied / "teachers" / "deit.py"
    before = family.stat()
    family.write_text(family.read_text().replace("DeiT-Ti/16", "DeiT-TI/16"))
    os.utime(family, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert family.stat().st_size == before.st_size
    assert machine.rows()["deit/ti"]["title"] == "DeiT-TI/16"
    new = copied / "teachers" / "others.py"
    new.write_text(OTHERS)
    assert "others/one" in machine.rows()
    assert machine.uses_index()
    new.unlink()
    assert "others/one" not in machine.rows()


def test_teachers_of_other_packages_are_always_asked_anew(machine: Machine) -> None:
    """An installed package appears beside an index, changes, fails as it does elsewhere, and is removed."""
    alone = machine.rows()
    facts = machine.path / "others-1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1\n")
    (facts / "entry_points.txt").write_text("[vitkd_bench.teachers]\nothers = others\n")
    module = machine.path / "others.py"
    module.write_text(OTHERS)
    assert machine.rows()["others/one"]["title"] == "One"
    module.write_text(OTHERS.replace('"One"', '"Two"'))
    assert machine.rows()["others/one"]["title"] == "Two"
    module.write_text("1 / 0")
    failed = machine.run("list")
    assert failed == machine.run("list", code=PARSED)
    assert failed[0] == 1
    assert "division by zero" in failed[2]
    assert failed[2].count("\n") == 1
    shutil.rmtree(facts)
    assert machine.rows() == alone
    assert machine.uses_index()


def _truncate(index: Path) -> None:
    index.write_bytes(index.read_bytes()[:-10])


def _alter(index: Path) -> None:
    index.write_bytes(index.read_bytes().replace(b"DeiT-Ti/16", b"DeiT-XX/16"))


def _empty(index: Path) -> None:
    index.write_bytes(b"")


def _scramble(index: Path) -> None:
    index.write_bytes(b"\xff\xfe\n\x00[]")


@pytest.mark.parametrize("damage", [_truncate, _alter, _empty, _scramble])
def test_a_damaged_index_is_made_again(machine: Machine, damage: Callable[[Path], None]) -> None:
    """It is never believed, never an error, and whole after the next list."""
    sound = machine.run("list")
    content = machine.index().read_bytes()
    damage(machine.index())
    assert machine.index().read_bytes() != content
    assert not machine.uses_index()
    assert machine.index().read_bytes() == content
    assert machine.run("list") == sound


@pytest.mark.parametrize("hindrance", ["a folder where the index goes", "a file where its folder goes"])
def test_an_index_that_cannot_be_kept_is_done_without(machine: Machine, hindrance: str) -> None:
    """The list is whole, and leaves nothing behind."""
    if hindrance.startswith("a folder"):
        (machine.cache / "index" / "teachers.json").mkdir(parents=True)
    else:
        machine.cache.mkdir()
        (machine.cache / "index").write_text("")
    before = sorted(machine.cache.rglob("*"))
    assert machine.rows().keys() == set(NAMES)
    assert sorted(machine.cache.rglob("*")) == before


def test_weights_are_looked_at_each_time(machine: Machine, tmp_path: Path) -> None:
    """Recorded, changed, gone, and the lock file damaged: the list follows while it uses the index."""
    weights, lock_file = tmp_path / "weights.bin", WeightCache(machine.cache).lock_file
    weights.write_bytes(b"weights")
    location = TEACHERS.get("deit/ti").source("timm").location
    assert location is not None
    pin = Pin(
        sha256=sha256_of(weights),
        size=7,
        date="2026-11-01T00:00:00+00:00",
        path=str(weights),
        changed_ns=weights.stat().st_mtime_ns,
    )

    def states() -> list[str]:
        assert machine.uses_index()
        return list(machine.rows()["deit/ti"]["weights"].values())

    machine.run("list")
    assert states() == ["not fetched", "not fetched", "not fetched"]
    lock_file.parent.mkdir(parents=True)
    lock_file.write_bytes(WeightLock().with_pin(location, pin).content())
    assert states() == ["here", "not fetched", "not fetched"]
    assert "here: timm" in machine.run("list")[1]
    weights.write_bytes(b"others!")
    os.utime(weights, ns=(0, 0))
    assert states() == ["changed", "not fetched", "not fetched"]
    weights.unlink()
    assert states() == ["not fetched", "not fetched", "not fetched"]
    lock_file.write_bytes(b"{")
    assert states() == ["changed", "changed", "changed"]


def test_what_fails_is_one_line_as_through_the_parser(machine: Machine) -> None:
    """A lock file that cannot be read: the same sentence and exit status by either way."""
    WeightCache(machine.cache).lock_file.mkdir(parents=True)
    status, out, err = machine.run("list")
    assert (status, out) == (1, "")
    assert "weights.lock.json: cannot be read" in err
    assert err.count("\n") == 1
    assert machine.run("list", code=PARSED) == (status, out, err)


def test_whoever_reads_no_further_ends_it_quietly(machine: Machine) -> None:
    """A closed pipe is no failure."""
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-c", RUN, "", "teachers", "list", "--json"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        check=False,
        env=machine.environment(),
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("arguments", [("list", "--jsn"), ("list", "x"), ("lst",)], ids=" ".join)
def test_other_arguments_go_to_the_parser(machine: Machine, arguments: tuple[str, ...]) -> None:
    """What is not exactly the list is bad input, as before."""
    status, out, err = machine.run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("vitkd: teachers")
