"""Which student and which method, from what a model is made of and what is known of its family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vitkd_bench.diagnose.model import ModelFacts
from vitkd_bench.registry import TEACHERS

PUBLISHED = "arXiv:2605.07191"
Outcome = Literal["transfers", "fails"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that is known of a family under attention transfer: who says it, and of which student.

    `outcome` is the sign only; None where the own records decide nothing.
    """

    source: str
    student: str
    method: str
    outcome: Outcome | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to use: `student` and `method`, why, and what the suite that would show it compares."""

    student: str
    method: str
    reason: str
    students: tuple[str, ...]
    methods: tuple[str, ...]
    evidence: tuple[Evidence, ...]


def published(family: str | None) -> Evidence | None:
    """Give the published outcome of a family, sign only; None where none is published."""
    outcomes = {teacher.outcome for teacher in TEACHERS if teacher.family == family and teacher.outcome}
    if family is None or len(outcomes) != 1:
        return None
    return Evidence(PUBLISHED, "standard", "attention transfer", outcomes.pop(), "sign only")


def advise(facts: ModelFacts, own: Sequence[Evidence] = ()) -> Advice:
    """Recommend a student and a method; what is not known is to be found out by the suite.

    Own records of a standard student under attention copy outweigh what is published, since they were made
    with the data at hand.

    Args:
        facts: what the model is made of.
        own: verdicts of own records on its family.
    """
    told = published(facts.family)
    evidence = (*own, *([told] if told else []))
    decided = [e for e in own if e.student == "standard" and e.method == "attn_copy" and e.outcome]
    outcome = decided[0].outcome if decided else told.outcome if told else None
    whose = "own records say" if decided else "it is published"
    head = facts.teacher is not None and facts.teacher.head_kind == "labels"
    methods = ("none", "attn_copy", "attn_distill", *(["kd"] if head else []))
    kinds = ("standard", "native") if _parts(facts) else ("standard",)
    student, method, reason = _chosen(facts, outcome, whose, head=head)
    return Advice(student, method, reason, kinds, methods, evidence)


def _parts(facts: ModelFacts) -> tuple[str, ...]:
    """Name the components that a native student is worth building for: the norms' epsilon alone is none."""
    return tuple(facts.lacking) if set(facts.lacking) != {"norm_eps"} else ()


def _chosen(facts: ModelFacts, outcome: Outcome | None, whose: str, *, head: bool) -> tuple[str, str, str]:
    student, method, reason = _by_outcome(facts, outcome, whose, head=head)
    if facts.lacking and not _parts(facts):
        value = facts.lacking["norm_eps"]
        reason += (
            f"; norm_eps={value} is how {facts.backend} computes this model, and no part to be native for"
        )
    if facts.not_run and not facts.unnamed:
        reason += f"; no contract and no suite can be written of it: {facts.not_run}"
    return student, method, reason


def _by_outcome(
    facts: ModelFacts, outcome: Outcome | None, whose: str, *, head: bool
) -> tuple[str, str, str]:
    parts = _parts(facts)
    family, lacking = facts.family, ", ".join(parts)
    if facts.unnamed:
        return (
            "standard",
            "attn_distill",
            (
                f"a native student cannot be built ({facts.unnamed}), nor can a contract or a suite be "
                "written of it: whether a standard one can use its attention cannot be found out here yet"
            ),
        )
    if outcome == "fails" and parts:
        return (
            "native",
            "attn_copy",
            (
                f"{whose} that attention of {family} fails in a standard student, and that students with the "
                f"teacher's own components turn it positive; these are {lacking}"
            ),
        )
    if outcome == "fails":
        other = "kd" if head else "none"
        return (
            "standard",
            other,
            (
                f"{whose} that attention of {family} fails, and this model has no component that a standard "
                "student lacks: a native student is the standard one"
            ),
        )
    if outcome == "transfers":
        beside = f"; its components ({lacking}) are not needed for it" if parts else ""
        return "standard", "attn_copy", f"{whose} that attention of {family} transfers{beside}"
    known = f"nothing is published of {family}" if family else _unknown(facts)
    if len(facts.families) > 1:
        several = " and ".join(facts.families)
        known = f"its name is shared by {several}, so nothing published is claimed of it"
    way = "run the suite, which compares each student with and without the teacher's attention"
    if facts.not_run:
        way = "whether its attention is of use cannot be found out here yet"
    return "native" if parts else "standard", "attn_copy", f"{known}: {way}"


def _unknown(facts: ModelFacts) -> str:
    """Say what a model of no known family is like, of which nothing published is claimed."""
    alike = " and ".join(like.family for like in facts.likenesses if like.parts)
    return f"it is of no family that is known here{f', like {alike} in components only' if alike else ''}"
