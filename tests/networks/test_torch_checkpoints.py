"""A torch checkpoint gives its weights, whatever its format, and costs the memory of these alone."""

import math
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vitkd_bench.networks import build_teacher
from vitkd_bench.networks.weights import read_weights
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec import BadInputError, DamagedFileError, VitkdError

TEACHER = "deit/s"
"""Of 84 MiB: what a process takes by chance while it loads is far from a fifth of it."""
LOAD = f"""
import sys, vitkd_bench
from pathlib import Path
from vitkd_bench.networks import build_teacher, load_teacher
from vitkd_bench.registry import TEACHERS

def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

teacher, path = TEACHERS.get({TEACHER!r}), Path(sys.argv[1])
build_teacher(teacher, teacher.architecture, unfilled=True)  # what is imported on the way is no part of it
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = memory("VmRSS")
network = load_teacher(teacher, teacher.architecture, path)
print(memory("VmHWM") - before, str(path) in Path("/proc/self/maps").read_text())
"""
FRESH = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write_archive(content: object, path: Path) -> None:
    """Write torch's own format."""
    torch.save(content, path)


def write_legacy(content: object, path: Path) -> None:
    """Write the format of torch before 1.6, a sequence of pickles."""
    torch.save(content, path, _use_new_zipfile_serialization=False)


def repacked(compression: int) -> Callable[[object, Path], None]:
    """Write an archive as common tools pack it again: records moved, and perhaps compressed."""

    def write(content: object, path: Path) -> None:
        torch.save(content, path)
        with zipfile.ZipFile(path) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, data in records.items():
                archive.writestr(name, data)

    return write


FORMATS = {
    "archive": write_archive,
    "legacy": write_legacy,
    "repacked": repacked(zipfile.ZIP_STORED),
    "compressed": repacked(zipfile.ZIP_DEFLATED),
}


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """A tensor of any shape, type and memory layout that a release may store."""
    shape = draw(st.lists(st.integers(0, 5), max_size=3))
    kind = draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool]))
    start = draw(st.integers(-9, 9))
    whole = torch.arange(start, start + math.prod(shape) * 2).to(kind)
    tensor = whole[len(whole) // 2 :].reshape(shape)  # a part of a storage twice as large
    if draw(st.booleans()):
        tensor = tensor.permute(tuple(reversed(range(tensor.dim()))))
    if tensor.is_floating_point() and draw(st.booleans()):
        tensor = nn.Parameter(tensor)
    return tensor


@pytest.mark.parametrize("form", FORMATS)
@FRESH
@given(stored=st.dictionaries(st.text("abc.", min_size=1), tensors(), min_size=1))
def test_every_format_gives_what_was_stored(tmp_path: Path, form: str, stored: dict[str, Tensor]) -> None:
    """Values, shapes and names are the stored ones, floats as float32, plain and without gradients."""
    path = tmp_path / "weights.pth"
    FORMATS[form]({"model": stored, "optimizer": {0: torch.full((50,), 7.0)}, "epoch": 3}, path)
    found = dict(read_weights(path))
    assert list(found) == list(stored)
    for name, tensor in stored.items():
        kind = torch.float32 if tensor.is_floating_point() else tensor.dtype
        assert found[name].dtype == kind
        assert found[name].is_contiguous()
        assert torch.equal(found[name], tensor.detach().to(kind))


@pytest.mark.parametrize("form", ["archive", "repacked"])
def test_what_is_read_has_memory_of_its_own(tmp_path: Path, form: str) -> None:
    """A tensor may be written to, the file replaced: neither is seen by the other."""
    path, stored = tmp_path / "weights.pth", {name: torch.ones(3, 4) for name in "abc"}
    FORMATS[form](stored, path)
    weights = read_weights(path)
    first = weights["a"]
    first += 1
    assert torch.equal(weights["a"], stored["a"])
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(first, stored["a"] + 1)
    assert first.untyped_storage().nbytes() == first.nbytes


@FRESH
@given(data=st.data())
def test_a_changed_archive_loads_or_says_why(tmp_path: Path, data: st.DataObject) -> None:
    """Cut anywhere it is damaged; with any byte changed it is read or refused in one line, and no more."""
    path = tmp_path / "weights.pth"
    torch.save({"model": {name: torch.ones(3, 4) for name in "abc"}, "epoch": 3}, path)
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:place])
    with pytest.raises(DamagedFileError, match=r"weights\.pth: cannot be read: [^\n]+$"):
        read_weights(path)
    whole[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    with suppress(VitkdError):
        assert {tensor.shape for tensor in read_weights(path).values()} == {(3, 4)}


def test_a_file_that_is_cut_after_it_was_opened_is_damaged(tmp_path: Path) -> None:
    """It is not mapped while nothing is read: reading what is gone would end the process."""
    path = tmp_path / "weights.pth"
    torch.save({name: torch.ones(1000, 100) for name in "abc"}, path)
    weights = read_weights(path)
    path.write_bytes(path.read_bytes()[:200_000])
    with pytest.raises(DamagedFileError, match=r"weights\.pth: cannot be read"):
        weights["c"]
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(DamagedFileError, match=r"weights\.pth: cannot be read"):
        weights["c"]


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.ones(1)], torch.ones(1), {"model": {"a": 1}}])
@pytest.mark.parametrize("form", FORMATS)
def test_a_checkpoint_without_tensors_by_name_is_refused(tmp_path: Path, form: str, content: Any) -> None:
    """Of every format alike."""
    path = tmp_path / "weights.pth"
    FORMATS[form](content, path)
    with pytest.raises(BadInputError, match="no tensors by name"):
        read_weights(path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_optimiser_beside_the_weights_costs_no_memory(tmp_path: Path) -> None:
    """Of a file thrice as large as the weights, loading takes 1.2 times these at most, mapped pages included.

    Private memory is a part of what is measured (the peak of the resident set), so it is under that too.
    """
    teacher, path = TEACHERS.get(TEACHER), tmp_path / "weights.pth"
    state = build_teacher(teacher, teacher.architecture).state_dict()
    moments = {i: {name: torch.zeros_like(t) for name in ("m", "v")} for i, t in enumerate(state.values())}
    torch.save({"model": state, "optimizer": {"state": moments}}, path)
    size = sum(tensor.nbytes for tensor in state.values())
    try:
        assert path.stat().st_size > 3 * size
        ran = subprocess.run(
            [sys.executable, "-c", LOAD, str(path)], capture_output=True, check=False, text=True
        )
    finally:
        path.unlink()
    assert ran.returncode == 0, ran.stderr
    peak, mapped = ran.stdout.split()
    assert size <= int(peak) <= 1.2 * size
    assert mapped == "False"
