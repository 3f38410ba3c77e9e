"""What a method has to say in the record."""

from __future__ import annotations

from vitkd_bench.api import create_student
from vitkd_bench.contracts import CellFacts
from vitkd_bench.methods.attn_copy import AttentionCopy
from vitkd_bench.pipeline import resolve_dataset
from vitkd_bench.registry import DATASETS, TEACHERS


def test_attention_copy_counts_what_it_leaves_unused() -> None:
    """Query and key rows of the copied blocks: 2 D x D a block, biases aside."""
    teacher = TEACHERS.get("micro/deit")
    student = create_student("standard", "micro/deit", num_classes=10)
    width = student.architecture.size.width
    cell = CellFacts(
        student.architecture, resolve_dataset(DATASETS.get("digits"), {}, ()), teacher, teacher.architecture
    )
    method = AttentionCopy(AttentionCopy.Config(layers="first:3"), cell)
    method.fit(student, None, [])
    (note,) = method.notes()
    assert note.startswith(f"{3 * 2 * width * width} query and key weights")
    assert note.endswith("in blocks 0, 1, 2")
