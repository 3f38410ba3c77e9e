"""`vitkd methods`: which there are, and their settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitkd_bench.cli.console import show, show_facts, show_json, show_table

if TYPE_CHECKING:
    from vitkd_bench.registry import MethodEntry

app = typer.Typer(help="Rules by which a student learns from a teacher.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for a script.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List all methods."""
    from vitkd_bench.registry import METHODS

    if as_json:
        show_json([_facts(entry) for entry in METHODS])
        return
    show_table(
        ("name", "kind", "title", "reads a teacher", "paper"),
        [(e.name, e.kind, e.title, e.reads_teacher, e.paper) for e in METHODS],
    )


@app.command("show")
def show_(name: Annotated[str, typer.Argument(help="A method's name.")], as_json: Json = False) -> None:
    """Show a method: what it is, and the settings that a suite may give."""
    from vitkd_bench.registry import METHODS

    entry = METHODS.get(name)
    settings = entry.method.Config.model_fields
    defaults = {key: None if field.is_required() else field.get_default() for key, field in settings.items()}
    if as_json:
        show_json({**_facts(entry), "settings": {key: _plain(value) for key, value in defaults.items()}})
        return
    show_facts([*_facts(entry).items(), ("defined in", METHODS.origin(name))])
    if defaults:
        show_table(
            ("setting", "default", "type"),
            [(key, value, _type(settings[key].annotation)) for key, value in defaults.items()],
        )
    else:
        show("no settings")


def _facts(entry: MethodEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "kind": entry.kind,
        "paper": entry.paper,
        "reads_teacher": entry.reads_teacher,
        "needs_teacher_at_test": entry.needs_teacher_at_test,
        "version": entry.version,
        "budget": entry.budget,
    }


def _type(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | tuple | None) else str(value)
