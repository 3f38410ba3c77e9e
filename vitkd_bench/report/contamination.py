"""Which pictures a teacher has seen in its own training, and the mark of it wherever its numbers stand."""

from __future__ import annotations

from collections.abc import Iterable

from vitkd_bench.report.gather import Gathered
from vitkd_bench.spec import SELF, TeacherFacts

MARK = "†"
LEGEND = (
    f"{MARK} The teacher was trained on this collection of pictures, as its contract says, so that the "
    "number may be of what it remembers. Of a collection's own test part it need not have seen any."
)


def seen_pictures(
    found: Gathered, teacher: TeacherFacts, runs: Iterable[str], pictures: Iterable[str]
) -> tuple[str, ...]:
    """Name those of some collections of pictures that a teacher has seen, by the plan or by a record.

    Runs that read no teacher, such as baselines, have nothing from it; nor have those whose teacher is the
    student itself, trained before. A micro teacher is made here, of the train split alone, and has seen none.

    Args:
        found: all that is known of the runs.
        teacher: what the plan says of it.
        runs: ids of the runs that are told apart by it.
        pictures: collections that the images in question are of.
    """
    ids = list(runs)
    uses = [run.teacher for id_ in ids if (run := found.runs.get(id_))]
    if teacher.group == "micro" or all(use is None or use.name == SELF for use in uses):
        return ()
    records = [record for id_ in ids if (record := found.done(id_))]
    stated = [record.facts.get("teacher") or {} for record in records]
    known = {*teacher.seen, *(name for facts in stated for name in facts.get("seen", ()))}
    return tuple(name for name in pictures if name in known)


def marked(text: str, seen: Iterable[str]) -> str:
    """Put the mark behind a name or a number if anything was seen."""
    return f"{text}{MARK}" if tuple(seen) else text
