"""The wheel works where there is no checkout: `make wheel-test`."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.wheel


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """What a command prints; its stderr where it fails."""
    ran = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
        text=True,
    )
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built with the back end of this environment."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ".", cwd=root)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that has the wheel, and borrows every other package from this one."""
    venv = tmp_path_factory.mktemp("elsewhere") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=venv.parent)
    python = venv / "bin" / "python"
    # A .pth borrows packages but not the .pth files among them, so the editable install stays unseen.
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv:
        run(uv, "pip", "install", "-q", "--no-deps", "--offline", "--python", python, wheel, cwd=venv.parent)
    else:
        base = getattr(sys, "_base_executable", sys.executable)
        run(
            base,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "-q",
            "--no-deps",
            "--no-index",
            wheel,
            cwd=venv.parent,
        )
    return venv / "bin"


def test_wheel_holds_all_that_is_read_at_run_time(root: Path, wheel: Path) -> None:
    """Modules, suites, recipes, templates and assets are in the wheel; tests and docs are not."""
    held = set(zipfile.ZipFile(wheel).namelist())
    listing = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "vitkd_bench", cwd=root)
    package = {name for name in listing.splitlines() if (root / name).is_file()}
    suites = {f"vitkd_bench/benchmarks/{path.name}" for path in root.glob("benchmarks/*.yaml")}
    assert suites, "no suite in benchmarks/"
    shipped = {name for name in held if ".dist-info/" not in name}
    assert package | suites == shipped
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in held)


def test_package_comes_from_the_wheel(elsewhere: Path, tmp_path: Path) -> None:
    """The package that runs elsewhere is the installed one, not this checkout."""
    code = "import vitkd_bench; print(vitkd_bench.__file__)"
    where = Path(run(elsewhere / "python", "-c", code, cwd=tmp_path).strip())
    assert where.is_relative_to(elsewhere.parent)


def test_commands_answer_elsewhere(elsewhere: Path, tmp_path: Path) -> None:
    """`vitkd` lists its shelves away from the checkout."""
    assert "run" in run(elsewhere / "vitkd", "--help", cwd=tmp_path)
    assert "micro/deit" in run(elsewhere / "vitkd", "teachers", "list", cwd=tmp_path)
    assert "digits" in run(elsewhere / "vitkd", "datasets", "list", cwd=tmp_path)


def test_smoke_is_found_by_name_elsewhere(elsewhere: Path, tmp_path: Path) -> None:
    """A shipped suite is found by its name, read and planned."""
    said = run(
        elsewhere / "vitkd", "run", "smoke", "--dry-run", cwd=tmp_path, VITKD_CACHE=str(tmp_path / "cache")
    )
    assert "micro/deit" in said
    assert not (tmp_path / "runs" / "smoke" / "records").exists()
