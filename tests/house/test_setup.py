"""The set-up: quick where nothing changed, and its pins complete."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PIN = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*==[0-9][0-9a-z.]*")
OURS = "vitkd-bench"
# Installers come as they are; torch itself pins the parts of its CUDA build.
NOT_PINNED_BY_US = re.compile(r"pip|wheel|triton|cuda-.*|nvidia-.*")


def canonical(name: str) -> str:
    """The one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(root: Path) -> dict[str, str]:
    """Package to version, from constraints.txt."""
    return dict(line.split("==") for line in (root / "constraints.txt").read_text().splitlines())


def test_constraints_are_names_and_versions(root: Path) -> None:
    """Each line pins one package, in order, with no local build and no place to fetch it from."""
    lines = (root / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not PIN.fullmatch(line)] == []
    assert [line.split("==")[0] for line in lines] == sorted(pins(root))


def test_constraints_name_every_package_of_the_environment(root: Path) -> None:
    """What is installed is pinned, at the version that is installed."""
    pinned = pins(root)
    # in a process of its own: whoever imports setuptools has what it brings along on the path
    asked = (
        "from importlib.metadata import distributions\n"
        "print(*(f'{found.name}=={found.version}' for found in distributions()))"
    )
    listed = subprocess.run([sys.executable, "-c", asked], capture_output=True, check=True, text=True).stdout
    named = dict(found.split("==") for found in listed.split())
    installed = {canonical(name): version.partition("+")[0] for name, version in named.items()}
    differing = {
        name: (version, pinned.get(name))
        for name, version in installed.items()
        if name != OURS and not NOT_PINNED_BY_US.fullmatch(name) and pinned.get(name) != version
    }
    assert differing == {}


def test_every_dependency_is_accounted_for(root: Path) -> None:
    """Each dependency is pinned, and docs/dependencies.md says what it is for."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(d for extra in project["optional-dependencies"].values() for d in extra),
    ]
    names = {canonical(re.split(r"[<>=!~\[; ]", dependency)[0]) for dependency in asked}
    page = (root / "docs" / "dependencies.md").read_text()
    explained = {canonical(name) for name in re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)}
    assert names == explained
    assert names - set(pins(root)) == set()


def test_setting_up_again_does_nothing(root: Path) -> None:
    """Where nothing changed, the second call installs nothing, writes nothing and says nothing."""
    venv = Path(sys.prefix)
    if not (venv / ".stamp").is_file():
        pytest.skip(f"{venv} was not made by scripts/setup-env.sh")
    script = ["sh", str(root / "scripts" / "setup-env.sh")]
    environment = {**os.environ, "VENV": str(venv)}
    check = subprocess.run([*script, "--check"], env=environment, capture_output=True, check=False, text=True)
    assert (check.returncode, check.stderr) == (0, ""), "the environment is out of date: run `make env`"
    before = (venv / ".stamp").stat().st_mtime_ns
    again = subprocess.run(script, env=environment, capture_output=True, check=False, text=True)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert (venv / ".stamp").stat().st_mtime_ns == before


def test_a_check_does_not_make_the_environment(root: Path, tmp_path: Path) -> None:
    """`--check` says what to do and leaves the doing to `make env`."""
    check = subprocess.run(
        ["sh", str(root / "scripts" / "setup-env.sh"), "--check"],
        env={**os.environ, "VENV": str(tmp_path / "absent")},
        capture_output=True,
        check=False,
        text=True,
    )
    assert check.returncode == 1
    assert "make env" in check.stderr
    assert not (tmp_path / "absent").exists()
