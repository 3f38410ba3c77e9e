"""One name, one network: the students of every registered teacher are pinned (HSAKD#11)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.networks.test_student_kinds import NAMES, student_of
from vitkd_bench.networks import ViT, ViTNetwork, fingerprint
from vitkd_bench.registry import TEACHERS

PINS = Path(__file__).with_name("student_fingerprints.json")


def built(name: str) -> dict[str, str]:
    """Build both students for 1,000 classes, without memory, and name what was built."""
    teacher = TEACHERS.get(name)
    with torch.device("meta"):
        return {
            word: fingerprint(ViTNetwork(ViT(student, 1000), student, teacher.pixels))
            for word in ("standard", "native")
            for student in [student_of(teacher, word)]
        }


@pytest.mark.parametrize("name", NAMES)
def test_a_name_stands_for_one_network(name: str) -> None:
    """Both students are those of every board before, by name and shape; another network has another name."""
    pins = json.loads(PINS.read_text())
    assert sorted(pins) == NAMES, (
        f"{PINS.name}: a registered teacher without a pin, or a pin without a teacher"
    )
    assert built(name) == pins[name]
