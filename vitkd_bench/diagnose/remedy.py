"""What to do next about weights that a check refused."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vitkd_bench.diagnose.verdict import Verdict
from vitkd_bench.networks import build_teacher
from vitkd_bench.networks.sources import named_for
from vitkd_bench.networks.weights import misfit, read_weights
from vitkd_bench.registry import TEACHERS, fetch_command, own_file
from vitkd_bench.spec import BadInputError, DamagedFileError, Teacher, WeightSource

SHOWN = 4  # teachers that are named
OWN_CONTRACT = (
    "register a contract that says so in a file of your own, and check that: vitkd teachers test FILE"
)
_NEXT = {
    "tokens": OWN_CONTRACT,
    "normalisation": OWN_CONTRACT,
    "head split": OWN_CONTRACT,
    "queries and keys": "exchange queries and keys when these weights are stored, and check them again",
    "head": "give a file with a trained head, or register a contract without one: vitkd teachers test FILE",
}


def next_step(teacher: Teacher, verdict: Verdict, weights: Path) -> str:
    """Say in one line what would work where a verdict is `refuse`.

    Weights of another network are compared with all registered teachers by names and shapes, which takes
    seconds; so this is for who asks, and not part of a verdict.
    """
    if verdict.fault == "other":
        return _whose(teacher, weights)
    if verdict.fault == "damaged":
        return f"get the file again{_fetching(teacher)}"
    refused = next((check.name for check in verdict.checks if check.status == "refuse"), "")
    return _NEXT.get(refused, f"compare the file with the one of its source{_fetching(teacher)}")


def _whose(teacher: Teacher, weights: Path) -> str:
    try:
        fitting = teachers_that_fit(weights)
    except BadInputError as error:  # it is no file of tensors, and says what form is wanted
        return f"{error}; then vitkd teachers check {teacher.name} --weights FILE{own_file(teacher)}"
    if not fitting:
        return (
            "no registered teacher has these names and shapes: give this teacher's own file (vitkd teachers "
            f"show {teacher.name}{own_file(teacher)}), or register theirs: vitkd teachers test FILE"
        )
    more = f" and {len(fitting) - SHOWN} more" if len(fitting) > SHOWN else ""
    named = ", ".join(fitting[:SHOWN]) + more
    return f"its shapes are those of {named}: vitkd teachers check {fitting[0]} --weights {weights}"


def _fetching(teacher: Teacher) -> str:
    command = fetch_command(teacher)
    return f" ({command})" if command else ""


def teachers_that_fit(weights: Path) -> tuple[str, ...]:
    """List the registered teachers whose names and shapes are those of a file, the likest name first.

    Raises:
        BadInputError: it holds code, or no tensors by name. DamagedFileError: it cannot be read.
    """
    shapes = read_weights(weights).shapes
    widths = {tensor.shape[0] for tensor in shapes.values() if tensor.dim() == 1}
    near = [teacher for teacher in TEACHERS if teacher.architecture.size.width in widths]
    return tuple(teacher.name for teacher in _fitting(near, shapes, weights.stem))


def others_that_fit(teacher: Teacher, weights: Path) -> tuple[Teacher, ...]:
    """List the other registered teachers whose weights a file that fits a teacher may be as well.

    Raises:
        BadInputError: it holds code, or no tensors by name. DamagedFileError: it cannot be read.
    """

    def outline(one: Teacher) -> tuple[object, ...]:
        """What shapes show of a network, but for its components."""
        at = one.architecture
        return at.channels, at.patch, at.size.width, at.size.depth, at.size.mlp_ratio, at.prefix

    near = [one for one in TEACHERS if one.name != teacher.name and outline(one) == outline(teacher)]
    return _fitting(near, read_weights(weights).shapes, weights.stem) if near else ()


def _fitting(near: list[Teacher], shapes: Mapping[str, Tensor], file: str) -> tuple[Teacher, ...]:
    fitting = [t for t in near if any(_fits(t, source, shapes) for source in (t.sources or (None,)))]
    return tuple(sorted(fitting, key=lambda teacher: -_alike(teacher, file)))


def _alike(teacher: Teacher, name: str) -> float:
    """Say how much of a file's name is that of one of a teacher's sources, from 0 to 1."""
    models = [source.model for source in teacher.sources] or [teacher.name]
    return max(difflib.SequenceMatcher(None, name, model).ratio() for model in models)


def _fits(teacher: Teacher, source: WeightSource | None, shapes: Mapping[str, Tensor]) -> bool:
    at = teacher.architecture
    try:
        module = build_teacher(teacher, at, source.backend if source else None, unfilled=True)
        return not misfit(module, named_for(module, shapes, teacher, source, at, teacher.name))
    except (BadInputError, DamagedFileError):
        return False
