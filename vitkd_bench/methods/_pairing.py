"""Can the attention maps of this teacher and this student be set side by side, and which tokens meet?"""

from __future__ import annotations

from typing import Literal

from vitkd_bench.attention import AttentionCall, select_tokens
from vitkd_bench.contracts import CellFacts, Features
from vitkd_bench.methods._layers import Choice, blocks_of, heads_of, paired_blocks
from vitkd_bench.methods._shared_tokens import common_tokens
from vitkd_bench.spec import Architecture, BadInputError

Match = Literal["exact", "experimental_nearest"]
"""How blocks and heads meet: number by number, or at the same share of the depth with heads in groups."""


def maps_differ(layers: Choice, cell: CellFacts, heads: Choice = "all", match: Match = "exact") -> str | None:
    """Say in one sentence why the maps do not correspond one to one, or nothing.

    A map of block l and head h, queries x keys, meets the map of the same l and h, so depth and heads must
    be equal (cross-size pairs are refused) and every block of `layers` and head of `heads` must exist. Under
    `experimental_nearest` depths may differ, and heads too if one number divides the other. The student's
    tokens must be the teacher's, or these without the class token, without the registers, or without both.
    """
    teacher, student = cell.teacher_architecture, cell.student
    if cell.teacher is None or teacher is None:
        return "attention transfer needs a teacher"
    differing = _sizes_differ if match == "exact" else _heads_share_nothing
    if why := differing(student, teacher, cell.teacher.name):
        return why
    if match != "exact" and heads != "all":
        return f"heads are chosen with match: exact only; with match: {match} all of them are in groups"
    if why := _unpaired_tokens(student, teacher):
        return f"{_tokens_differ(student, teacher, cell.teacher.name)}; {why}"
    try:
        blocks_of(layers, student.size.depth)
        heads_of(heads, student.size.heads)
    except BadInputError as error:
        return str(error)
    return None


def _sizes_differ(student: Architecture, teacher: Architecture, name: str) -> str | None:
    for what, of_student, of_teacher, paired in (
        ("depth", student.size.depth, teacher.size.depth, "block by block"),
        ("heads", student.size.heads, teacher.size.heads, "head by head"),
    ):
        if of_student != of_teacher:
            return (
                f"{what} differ: student {of_student}, teacher {name} {of_teacher}; maps are paired {paired}"
            )
    return None


def _heads_share_nothing(student: Architecture, teacher: Architecture, name: str) -> str | None:
    few, many = sorted((student.size.heads, teacher.size.heads))
    if many % few == 0:
        return None
    return (
        f"heads differ: student {student.size.heads}, teacher {name} {teacher.size.heads}; they are put in "
        "groups, so one number must divide the other"
    )


def matched_blocks(layers: Choice, cell: CellFacts, match: Match = "exact") -> dict[int, int]:
    """Give the teacher's block for each block of the student that `layers` names, ascending.

    Raises:
        BadInputError: a block beyond the student's depth is named.
    """
    depth = cell.student.size.depth
    if match == "exact" or cell.teacher_architecture is None:
        return {block: block for block in blocks_of(layers, depth)}
    return paired_blocks(layers, depth, cell.teacher_architecture.size.depth)


def experimental_note(pairs: dict[int, int], cell: CellFacts, match: Match) -> tuple[str, ...]:
    """Say how blocks and heads met where that was not number by number: one sentence, or none."""
    if match == "exact" or cell.teacher_architecture is None:
        return ()
    blocks = ", ".join(f"{theirs} for {own}" for own, theirs in pairs.items())
    heads = f"{cell.teacher_architecture.size.heads} heads for {cell.student.size.heads}"
    return (f"experimental match of maps: the teacher's blocks {blocks} of the student's; its {heads}",)


def teacher_calls(teacher: Features, blocks: tuple[int, ...], cell: CellFacts) -> dict[int, AttentionCall]:
    """Give the teacher's attention in `blocks`, between the tokens that the student has too.

    Where the student has all of the teacher's tokens these are the calls as they were read.
    """
    if cell.teacher_architecture is None:
        raise TypeError("attention transfer needs a teacher, and none was given")
    kept = common_tokens(cell.teacher_architecture, cell.student)
    return {block: select_tokens(teacher.attention[block], kept) for block in blocks}


def left_out(cell: CellFacts) -> tuple[str, ...]:
    """Say which of the teacher's tokens its maps are used without: one sentence for the record, or none."""
    teacher, student = cell.teacher_architecture, cell.student
    if teacher is None or teacher.prefix == student.prefix:
        return ()
    names = ["class token"] * (teacher.class_token and not student.class_token)
    if teacher.registers != student.registers:
        names.append(f"{teacher.registers} registers")
    note = (
        f"of the teacher's maps the rows and columns of its {' and '.join(names)} are left out, which the "
        "student lacks; what is left of each row is normalised again"
    )
    return (note,)


def _unpaired_tokens(student: Architecture, teacher: Architecture) -> str | None:
    if student.grid != teacher.grid:
        return "maps are paired patch by patch"
    if student.class_token and not teacher.class_token:
        return "the teacher has no row of its maps for the student's class token"
    if student.registers > teacher.registers:
        return f"the teacher has no rows of its maps for {student.registers - teacher.registers} registers"
    if 0 < student.registers < teacher.registers:
        return "a student has all of the teacher's registers or none"
    return None


def _tokens_differ(student: Architecture, teacher: Architecture, name: str) -> str:
    if student.tokens != teacher.tokens:
        return f"tokens differ: student {student.tokens}, teacher {name} {teacher.tokens}"
    return f"token layout differ: student {_layout(student)}, teacher {name} {_layout(teacher)}"


def _layout(architecture: Architecture) -> str:
    class_token = "a class token" if architecture.class_token else "no class token"
    grid = architecture.grid
    return f"{class_token}, {architecture.registers} registers, {grid} x {grid} patches"
