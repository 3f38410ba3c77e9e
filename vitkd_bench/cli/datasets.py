"""`vitkd datasets`: which there are, where they come from, their splits and settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vitkd_bench.cli.console import show_facts, show_json, show_table

if TYPE_CHECKING:
    from vitkd_bench.spec import Dataset

app = typer.Typer(help="Labelled images that students are trained and tested on.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for a script.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List all data sets."""
    from vitkd_bench.registry import DATASETS

    if as_json:
        show_json([entry.facts.plain() for entry in DATASETS])
        return
    show_table(
        ("name", "title", "classes", "shift splits"),
        [(e.name, e.facts.title, _classes(e.facts), e.facts.shifts) for e in DATASETS],
    )


@app.command("show")
def show_(name: Annotated[str, typer.Argument(help="A data set's name.")], as_json: Json = False) -> None:
    """Show a data set's facts, and the settings that a suite may give."""
    from vitkd_bench.registry import DATASETS

    entry = DATASETS.get(name)
    settings = list(entry.settings.model_fields)
    if as_json:
        show_json({**entry.facts.plain(), "settings": settings})
        return
    facts = entry.facts
    show_facts(
        [
            ("name", facts.name),
            ("title", facts.title),
            ("source", facts.source),
            ("licence", facts.licence),
            ("images", f"{facts.image_size or 'any'} px, {facts.channels} channel(s)"),
            ("classes", _classes(facts)),
            ("splits", facts.split_rule),
            ("templates", facts.templates),
            ("shift splits", [f"{facts.name}/{shift}" for shift in facts.shifts]),
            ("augmentation", facts.augmentation),
            ("settings", settings),
            ("defined in", DATASETS.origin(name)),
            ("notes", facts.notes),
        ]
    )


def _classes(facts: Dataset) -> str:
    return str(len(facts.classes)) if facts.classes else "as the files say"
