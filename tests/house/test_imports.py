"""What a fresh process has imported: the part of the import rules that no linter sees."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TORCH_AND_KIN = {"torch", "timm", "torchvision", "open_clip", "transformers", "torchmetrics"}
SLOW_TO_IMPORT = {"seaborn", "matplotlib", "sklearn", "statsmodels"}
ROOMS_WITHOUT_TORCH = (
    "spec",
    "contracts",
    "registry",
    "statistics",
    "teachers",
    "datasets",
    "recipes",
    "records",
    "fetch",
    "report",
)
COMMANDS_WITHOUT_TORCH = (["--help"], ["teachers", "list"], ["datasets", "list"])

# Asking for modules by file instead of walking imports them one by one, so that none hides behind another.
IMPORT_ALL = """
import importlib, json, pkgutil, sys
room = importlib.import_module(sys.argv[1])
for found in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
RUN_COMMAND = """
import contextlib, io, json, sys
sys.argv[0] = "vitkd"
from vitkd_bench.cli import main
said, code = io.StringIO(), 0
with contextlib.redirect_stdout(said):
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
assert code == 0, code
assert said.getvalue().strip(), "nothing was printed"
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
WITHOUT_HUB = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("open_clip", "transformers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


def modules_after(code: str, *arguments: str) -> set[str]:
    """Top-level names in sys.modules at the end of a fresh process."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(ran.stdout.splitlines()[-1]))


@pytest.mark.parametrize("room", ROOMS_WITHOUT_TORCH)
def test_room_needs_no_torch(room: str) -> None:
    """All modules of a torch-free room can be imported, and torch and its kin stay out."""
    assert modules_after(IMPORT_ALL, f"vitkd_bench.{room}") & TORCH_AND_KIN == set()


@pytest.mark.parametrize("command", COMMANDS_WITHOUT_TORCH, ids=" ".join)
def test_command_needs_no_torch(command: list[str]) -> None:
    """Commands that only look things up answer without torch, and without what draws figures."""
    assert modules_after(RUN_COMMAND, *command) & (TORCH_AND_KIN | SLOW_TO_IMPORT) == set()


def test_package_needs_no_hub_extra() -> None:
    """Every module can be imported where open_clip and transformers are not installed."""
    assert modules_after(WITHOUT_HUB + IMPORT_ALL, "vitkd_bench") & {"open_clip", "transformers"} == set()


def test_rooms_agree_with_the_contract(root: Path) -> None:
    """The rooms tested here are those that import-linter watches."""
    import tomllib

    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (watched,) = [contract["source_modules"] for contract in contracts if contract["type"] == "forbidden"]
    assert [f"vitkd_bench.{room}" for room in ROOMS_WITHOUT_TORCH] == watched
