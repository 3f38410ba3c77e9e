"""Can the attention maps of this teacher and this student be set side by side?"""

from __future__ import annotations

from vitkd_bench.contracts import CellFacts
from vitkd_bench.methods._layers import blocks_of
from vitkd_bench.spec import Architecture, BadInputError


def maps_differ(layers: str | tuple[int, ...], cell: CellFacts) -> str | None:
    """Say in one sentence why the maps do not correspond one to one, or nothing.

    A map of block l and head h, queries x keys, meets the map of the same l and h: depth, heads and tokens
    must be equal: cross-size pairs are refused, and every block of `layers` must exist.
    """
    teacher, student = cell.teacher_architecture, cell.student
    if cell.teacher is None or teacher is None:
        return "attention transfer needs a teacher"
    for what, of_student, of_teacher in (
        ("depth", student.size.depth, teacher.size.depth),
        ("heads", student.size.heads, teacher.size.heads),
        ("tokens", student.tokens, teacher.tokens),
        ("token layout", _layout(student), _layout(teacher)),
    ):
        if of_student != of_teacher:
            return f"{what} differ: student {of_student}, teacher {cell.teacher.name} {of_teacher}"
    try:
        blocks_of(layers, student.size.depth)
    except BadInputError as error:
        return str(error)
    return None


def _layout(architecture: Architecture) -> str:
    class_token = "a class token" if architecture.class_token else "no class token"
    grid = architecture.grid
    return f"{class_token}, {architecture.registers} registers, {grid} x {grid} patches"
