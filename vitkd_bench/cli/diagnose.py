"""`vitkd diagnose`: what a model is made of, and which student and method to use with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitkd_bench.cli.console import say, show, show_facts, show_json, show_table
from vitkd_bench.cli.shelves import load_all

if TYPE_CHECKING:
    from vitkd_bench.diagnose import Advice, ModelFacts
    from vitkd_bench.diagnose.recommendation import Evidence


def diagnose(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help=(
                "A teacher, a hub repository of one, a timm name, open_clip:NAME or open_clip:NAME/TAG, "
                "transformers:CLASS or transformers:config.json."
            ),
        ),
    ],
    suite_out: Annotated[
        Path | None, typer.Option("--suite-out", metavar="FILE", help="Write a suite that tries it.")
    ] = None,
    records: Annotated[
        list[Path] | None,
        typer.Option("--records", metavar="OUT", help="Output folders whose records tell of its family."),
    ] = None,
    extensions: Annotated[
        list[Path] | None,
        typer.Option("--extension", metavar="FILE", help="A file with teachers of your own."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON, for a script.")] = False,
) -> None:
    """Say what a model is made of, what a standard student of it lacks, and what to use.

    It is built from its configuration; no weights are needed.
    """
    from vitkd_bench.diagnose import advise, describe, write_suite

    load_all(extensions)
    facts = describe(model)
    if records and facts.family is None:
        say(f"--records: not read, since the family of {model} is not known")
    advice = advise(facts, _own_evidence(facts.family, records or []))
    written = write_suite(facts, advice, suite_out) if suite_out else ()
    if as_json:
        show_json(_plain(facts, advice, written))
        return
    show_facts(_facts(facts))
    if advice.evidence:
        rows = [(e.source, e.student, e.method, e.outcome or "undecided", e.detail) for e in advice.evidence]
        show_table(("evidence", "student", "method", "outcome", "detail"), rows)
    else:
        show("evidence           none, neither published nor in records")
    show(f"recommended        {advice.student} student, {advice.method}")
    show(f"because            {advice.reason}")
    for path in written:
        say(f"written: {path}")
    if written:
        say(f"next: vitkd plan {written[0]}")


def _own_evidence(family: str | None, folders: Sequence[Path]) -> list[Evidence]:
    """Read the verdicts on a family from output folders."""
    if not folders or family is None:
        return []
    from vitkd_bench.diagnose.recommendation import Evidence
    from vitkd_bench.report.families import family_rows
    from vitkd_bench.report.gather import gather
    from vitkd_bench.report.rows import build_rows
    from vitkd_bench.report.words import points_interval

    found = [row for row in family_rows(build_rows(gather(folders))) if row.family == family]
    return [
        Evidence(
            source="own records",
            student=row.student,
            method=row.method,
            outcome=None if row.verdict == "undecided" else row.verdict,
            detail=f"{row.dataset}, {row.recipe}: {points_interval(row.delta.interval)} pp",
        )
        for row in found
    ]


def _facts(facts: ModelFacts) -> list[tuple[str, object]]:
    at = facts.architecture
    shown: list[tuple[str, object]] = [("model", facts.name), ("built by", facts.backend)]
    if at is None:
        shown.append(("not described", facts.unnamed))
    else:
        size = at.size
        tokens = f"{at.tokens} ({'class token' if at.class_token else 'no class token'}, "
        tokens += f"{at.registers} registers, {at.grid} x {at.grid} patches of {at.patch} px)"
        shown += [
            ("size", f"width {size.width}, depth {size.depth}, heads {size.heads}, MLP x {size.mlp_ratio:g}"),
            ("image", f"{at.image_size} px, {at.channels} channels"),
            ("token interface", tokens),
            ("a standard student lacks", [f"{n}={v}" for n, v in facts.lacking.items()] or "nothing"),
        ]
    likely = [f"{like.family} ({like.reason})" for like in facts.likenesses]
    several = f"unknown: {' and '.join(facts.families)} share its name"
    family = facts.family or (several if facts.families else "unknown")
    if facts.teacher and facts.teacher.name != facts.name:
        shown.insert(1, ("registered as", facts.teacher.name))
    if facts.teacher and facts.teacher.text_encoder:
        shown.append(("logits", "none of its own; head: text in a suite makes them of class names"))
    return [*shown, ("family", family), ("is like", "; ".join(likely))]


def _plain(facts: ModelFacts, advice: Advice, written: Sequence[Path]) -> dict[str, Any]:
    return {
        "model": facts.name,
        "backend": facts.backend,
        "architecture": facts.architecture and facts.architecture.plain(),
        "not_described": facts.unnamed,
        "not_run": facts.not_run,
        "standard_student_lacks": facts.lacking,
        "registered_as": facts.teacher and facts.teacher.name,
        "family": facts.family,
        "families": facts.families,
        "like": [asdict(like) for like in facts.likenesses],
        "evidence": [asdict(evidence) for evidence in advice.evidence],
        "recommended": {"student": advice.student, "method": advice.method, "because": advice.reason},
        "written": [str(path) for path in written],
    }
