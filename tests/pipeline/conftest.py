"""Small image folders that tests of the pipeline write and read."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitkd_bench.pipeline import Splits, open_splits, resolve_dataset
from vitkd_bench.registry import DATASETS

CLASSES = ("crane", "drake", "heron")


@pytest.fixture(scope="session")
def digits() -> Splits:
    """The digits at their native size."""
    return open_splits(resolve_dataset(DATASETS.get("digits"), {}, ()), ())


def write_class(folder: Path, count: int, seed: int, size: tuple[int, int] = (12, 10)) -> None:
    """Write `count` images of noise as PNG files."""
    folder.mkdir(parents=True)
    drawn = np.random.default_rng(seed)
    for i in range(count):
        pixels = drawn.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """A root with `train` (12 images of each of three classes) and `test` (4 of each)."""
    for i, name in enumerate(CLASSES):
        write_class(tmp_path / "train" / name, 12, seed=i)
        write_class(tmp_path / "test" / name, 4, seed=100 + i)
    return tmp_path


@pytest.fixture
def pack() -> Callable[..., Path]:
    """Put a folder into an archive, its members in an order that is not sorted."""

    def packed(folder: Path, archive: Path, mode: str = "w") -> Path:
        files = sorted((p for p in folder.rglob("*") if p.is_file()), reverse=True)
        with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
            for path in files:
                tar.add(path, arcname=f"./{path.relative_to(folder).as_posix()}")
        return archive

    return packed


@pytest.fixture
def archive_of(tmp_path: Path) -> Callable[..., Path]:
    """Write an archive of given member names, each with the same small image unless told otherwise."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")

    def made(*members: tarfile.TarInfo | str, name: str = "made.tar") -> Path:
        path = tmp_path / name
        with tarfile.open(path, "w") as tar:
            for member in members:
                info = tarfile.TarInfo(member) if isinstance(member, str) else member
                data = buffer.getvalue() if info.isreg() else b""
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return path

    return made
