"""A file of stored outputs that is written an epoch at a time."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import safetensors
import torch
from torch import Tensor

from vitkd_bench.engine.outputs_file import OutputsFile
from vitkd_bench.methods.stored_outputs import packed
from vitkd_bench.spec import WorldError


def epoch_of(seed: int, images: int = 5, k: int = 3, classes: int = 10) -> tuple[Tensor, Tensor]:
    """Draw what is kept of an epoch."""
    draw = torch.Generator().manual_seed(seed)
    return packed(
        torch.rand(images, k, generator=draw), torch.randint(0, 10, (images, k), generator=draw), classes
    )


@pytest.mark.parametrize("classes", [10, 40_000])
@pytest.mark.parametrize(("epochs", "images"), [(1, 1), (3, 5), (12, 7)])
def test_any_reader_of_safetensors_reads_it(tmp_path: Path, epochs: int, images: int, classes: int) -> None:
    """Every epoch is there as it was added; size and hash are those of the file."""
    path = tmp_path / "outputs.safetensors"
    added = [epoch_of(epoch, images, classes=classes) for epoch in range(epochs)]
    with OutputsFile(path, epochs, added[0]) as file:
        for each in added:
            file.add(*each)
        file.finish()
    content = path.read_bytes()
    assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    with safetensors.safe_open(path, framework="pt") as read:
        assert len(read.keys()) == 2 * epochs
        for epoch, each in enumerate(added):
            for what, tensor in zip(("probabilities", "classes"), each, strict=True):
                assert torch.equal(read.get_tensor(f"{what}/{epoch}"), tensor)


def test_only_what_was_announced_is_taken(tmp_path: Path) -> None:
    """Another shape, an epoch too many, an end too early."""
    with OutputsFile(tmp_path / "a", 1, epoch_of(0)) as file:
        with pytest.raises(ValueError, match="epoch 0 of 1"):
            file.add(*epoch_of(0, images=6))
        with pytest.raises(ValueError, match="0 of 1 epochs"):
            file.finish()
        file.add(*epoch_of(0))
        with pytest.raises(ValueError, match="not what was announced"):
            file.add(*epoch_of(0))


def test_a_disk_that_refuses_is_named(tmp_path: Path) -> None:
    """No folder, or a file that is there already."""
    with pytest.raises(WorldError, match="none/a: cannot be written: No such file"):
        OutputsFile(tmp_path / "none" / "a", 1, epoch_of(0))
    (tmp_path / "a").touch()
    with pytest.raises(WorldError, match="a: cannot be written: File exists"):
        OutputsFile(tmp_path / "a", 1, epoch_of(0))
