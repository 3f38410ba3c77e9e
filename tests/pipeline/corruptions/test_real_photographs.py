"""What corruptions do to a real teacher on real photographs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitkd_bench.contracts.taps import LOGITS
from vitkd_bench.networks import ViTNetwork, load_teacher
from vitkd_bench.pipeline.corruptions import corrupt
from vitkd_bench.pipeline.decode import decode
from vitkd_bench.pipeline.tree import open_files
from vitkd_bench.registry import TEACHERS
from vitkd_bench.spec.corruptions import FAMILIES

COUNT = 20

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def photographs(real_data: Path) -> tuple[list[Pixels], list[int]]:
    """Twenty photographs of twenty classes of ImageNet, and their labels."""
    folder = real_data / "imagenet_sample"
    rows = json.loads((folder / "classes.json").read_text())
    rows = (rows if isinstance(rows, list) else rows["classes"])[:: 1000 // COUNT]
    files = open_files(folder / "images.tar")
    return [decode(files.read(row["file"]), row["file"], 224) for row in rows], [row["index"] for row in rows]


@pytest.fixture(scope="module")
def teacher(real_data: Path) -> ViTNetwork:
    """DeiT-Ti with its own head."""
    contract = TEACHERS.get("deit/ti")
    weights = real_data / "weights" / "deit_tiny_patch16_224.safetensors"
    return load_teacher(contract, contract.architecture, weights)


@torch.no_grad()
def right(teacher: ViTNetwork, images: list[Pixels], labels: list[int]) -> int:
    """Count the images whose class is found."""
    pixels = torch.from_numpy(np.stack(images)).float() / 255
    logits = teacher(pixels, frozenset({LOGITS})).logits
    teacher.clear()
    assert logits is not None
    return int((logits.argmax(1) == torch.tensor(labels)).sum())


def test_accuracy_falls_with_severity(
    teacher: ViTNetwork, photographs: tuple[list[Pixels], list[int]]
) -> None:
    """No family helps at severity 5, most hurt, and in sum severity 5 costs more than severity 1."""
    images, labels = photographs
    clean = right(teacher, images, labels)
    assert clean > COUNT * 0.6
    lost = {}
    for severity in (1, 5):
        lost[severity] = {
            family: clean
            - right(teacher, [corrupt(f"{family}@{severity}")(x, k) for k, x in enumerate(images)], labels)
            for family in FAMILIES
        }
    assert min(lost[5].values()) >= 0
    assert sum(loss > COUNT * 0.1 for loss in lost[5].values()) >= 12
    assert sum(lost[5].values()) > sum(lost[1].values()) + len(FAMILIES) * COUNT * 0.15
