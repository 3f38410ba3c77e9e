"""The conformance kit for methods: what holds of every one that trains students, ours or a stranger's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from vitkd_bench.diagnose.method_bench import Bench
from vitkd_bench.diagnose.method_facts import facts_are_told
from vitkd_bench.diagnose.method_overfit import overfits
from vitkd_bench.diagnose.method_pairs import choices_work, unequal_pairs
from vitkd_bench.diagnose.method_runs import exported_weights_score, it_trains, resumed_and_alone
from vitkd_bench.diagnose.method_steps import (
    batch_is_told,
    memory_is_told,
    own_parameters_train,
    student_learns,
    taps_are_read,
)
from vitkd_bench.diagnose.verdict import Check, kit_check
from vitkd_bench.plan import MAKERS
from vitkd_bench.registry import MethodEntry
from vitkd_bench.spec import BadInputError, in_words

METHOD_CHECKS: dict[str, Callable[[Bench], Iterator[str]]] = {
    "facts": facts_are_told,
    "trains": it_trains,
    "pairs": unequal_pairs,
    "settings": choices_work,
    "parameters": own_parameters_train,
    "memory": memory_is_told,
    "batch": batch_is_told,
    "taps": taps_are_read,
    "overfits": overfits,
    "learns": student_learns,  # after the others, all of which the teacher has to bear
    "resumed": resumed_and_alone,
    "exported": exported_weights_score,
}


def method_conformance(entry: MethodEntry) -> tuple[Check, ...]:
    """Run every check on one method at its default settings; one that fails is `refuse`, with the reason.

    Micro networks with drawn weights learn a few digits for two epochs: some five seconds on one core. torch
    is set to one thread in this process, as in the loop.

    Raises:
        BadInputError: a method that makes teachers or heads, and so trains no student.
    """
    if entry.kind in MAKERS:
        raise BadInputError(f"method {entry.name!r} of kind {entry.kind} {MAKERS[entry.kind]}")
    torch.set_num_threads(1)
    with TemporaryDirectory(prefix="vitkd-conformance-") as folder:
        bench = Bench(entry, Path(folder))
        return tuple(checked(name, bench) for name in METHOD_CHECKS)


def checked(name: str, bench: Bench) -> Check:
    """Run one check by its name."""
    check = METHOD_CHECKS[name]
    try:
        wrong = list(check(bench))
    except Exception as error:  # noqa: BLE001  (a stranger's method may raise anything; the finding says what)
        wrong = [in_words(error)]
    return kit_check(name, check, wrong)
