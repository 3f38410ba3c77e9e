"""House rules that a linter has no name for."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

LONGEST_FUNCTION = 60  # lines, without its docstring
LONGEST_FILE = 450
NOT_A_NAME = {"common", "helper", "helpers", "manager", "misc", "util", "utils"}
VENDORED = "vitkd_bench/report/assets/"

# Brackets round a letter, so that this file passes its own tests.
MACHINE_PATH = re.compile(r"(?<![\w.~<>{}$:/-])/(?:[w]ork|[r]oot|[h]ome|[U]sers|[m]nt)/")
REGISTRY_HOST = re.compile(r"[p]ypi\.|[p]ythonhosted|download\.[p]ytorch|registry\.[n]pm")


def committed(root: Path) -> list[Path]:
    """What git holds or would add."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=root,
        capture_output=True,
        check=True,
        text=True,
    )
    paths = (root / name for name in listing.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def lines_matching(root: Path, pattern: re.Pattern[str]) -> list[str]:
    """Where a pattern stands in committed text, as file:line."""
    found = []
    for path in committed(root):
        name = path.relative_to(root).as_posix()
        if name.startswith(VENDORED):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # an image or an archive
        found += [
            f"{name}:{n}: {line}" for n, line in enumerate(text.splitlines(), 1) if pattern.search(line)
        ]
    return found


def package_files(root: Path) -> list[Path]:
    """Every Python file of the package."""
    return sorted((root / "vitkd_bench").rglob("*.py"))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function of a file with its lines, docstring and decorators not counted."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        assert node.end_lineno is not None
        length = node.end_lineno - node.lineno + 1
        if ast.get_docstring(node) is not None:
            docstring = node.body[0]
            assert docstring.end_lineno is not None
            length -= docstring.end_lineno - docstring.lineno + 1
        yield node.name, length


def test_functions_fit_a_screen(root: Path) -> None:
    """No function of the package is longer than sixty lines."""
    long = [
        f"{path.relative_to(root)}: {name} has {length} lines"
        for path in package_files(root)
        for name, length in functions(path)
        if length > LONGEST_FUNCTION
    ]
    assert long == []


def test_files_fit_a_sitting(root: Path) -> None:
    """No file of the package is longer than 450 lines."""
    lengths = {path.relative_to(root): len(path.read_text().splitlines()) for path in package_files(root)}
    assert {str(path): length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def test_modules_are_named_after_what_they_hold(root: Path) -> None:
    """No module is called utils, helpers or the like: such a name takes in everything."""
    modules = [path.relative_to(root).with_suffix("") for path in package_files(root)]
    words = {str(m): {word for part in m.parts for word in part.strip("_").split("_")} for m in modules}
    assert [module for module, found in words.items() if found & NOT_A_NAME] == []


def test_no_path_of_a_machine_is_committed(root: Path) -> None:
    """Committed files name no folder that exists on one machine only."""
    assert lines_matching(root, MACHINE_PATH) == []


def test_no_package_registry_is_named(root: Path) -> None:
    """Where packages come from is the installer's setting, not ours."""
    assert lines_matching(root, REGISTRY_HOST) == []


@pytest.mark.parametrize("line", ["see " + "/wo" + "rk/x", "'/ho" + "me/me/runs'", "/ro" + "ot/.cache"])
def test_the_pattern_finds_paths_of_machines(line: str) -> None:
    """The pattern finds what it is there to find."""
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize("line", ["./work/x", "${HOME}/root/x", "repo/home/page", "https://a.org/home/"])
def test_the_pattern_leaves_other_paths_alone(line: str) -> None:
    """Relative paths and addresses are not paths of a machine."""
    assert not MACHINE_PATH.search(line)
