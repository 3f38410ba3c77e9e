"""What every test may use, and what has to be true before any test is collected."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import vitkd_bench  # noqa: F401 - before timm: it makes torchvision importable beside a CPU torch

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """Keep every library off the network before the first one is imported: it reads this once."""
    os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture
def own_shelf(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test puts on the shelf of teachers is gone after it, so that no other test meets it."""
    from vitkd_bench.registry import TEACHERS

    TEACHERS.names()  # walked, so that what is kept is whole
    for held in ("_entries", "_origin", "_layouts"):
        monkeypatch.setattr(TEACHERS, held, dict(getattr(TEACHERS, held)))


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the repository."""
    return ROOT


def find_real_data() -> Path | None:
    """The folder that VITKD_DATA names, else the one beside the repository, else none."""
    named = os.environ.get("VITKD_DATA")
    if named:
        return Path(named)
    beside = ROOT.parent / "shared" / "data"
    return beside if beside.is_dir() else None


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images and weights; without it a test is skipped, in CI beside a share it fails."""
    found = find_real_data()
    if found is not None and found.is_dir():
        return found
    if found is not None:
        pytest.fail(f"VITKD_DATA={found} is no folder", pytrace=False)
    if os.environ.get("CI") and (ROOT.parent / "shared").is_dir():
        pytest.fail("CI has ../shared but no data in it: real-data tests would not run", pytrace=False)
    pytest.skip("NO REAL DATA: set VITKD_DATA to the folder with imagenet_sample, plankton, weights ...")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test finds preparations that an earlier session, or the user's own runs, left behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITKD_CACHE", str(tmp_path_factory.mktemp("vitkd-cache")))
        yield
