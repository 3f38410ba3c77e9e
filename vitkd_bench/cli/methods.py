"""`vitkd methods`: which there are, their settings, and the controls that they can be held against."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitkd_bench.cli.arguments import Extensions, Json
from vitkd_bench.cli.console import say, show_facts, show_json, show_table
from vitkd_bench.cli.settings_table import defaults, plain, show_settings
from vitkd_bench.cli.shelves import entry_of, load_all

if TYPE_CHECKING:
    from vitkd_bench.registry import ControlEntry, MethodEntry
    from vitkd_bench.spec import Settings

app = typer.Typer(help="Rules by which a student learns from a teacher.", no_args_is_help=True)


@app.command("list")
def list_(extensions: Extensions = None, as_json: Json = False) -> None:
    """List all methods."""
    from vitkd_bench.registry import METHODS

    load_all(extensions)
    if as_json:
        show_json([_facts(entry) for entry in METHODS])
        return
    show_table(
        ("name", "kind", "title", "reads a teacher", "needs", "paper"),
        [(e.name, e.kind, e.title, e.reads_teacher, ", ".join(e.needs), e.paper) for e in METHODS],
    )


@app.command("show")
def show_(
    name: Annotated[str, typer.Argument(help="A method's name.")],
    extensions: Extensions = None,
    as_json: Json = False,
) -> None:
    """Show a method: what it is, and the settings that a suite may give."""
    from vitkd_bench.registry import METHODS

    entry = entry_of(METHODS, name, extensions)
    config = entry.method.Config
    if as_json:
        told = {key: field.description for key, field in config.model_fields.items()}
        show_json({**_facts(entry), "settings": _defaults(config), "descriptions": told})
        return
    show_facts([*_facts(entry).items(), ("defined in", METHODS.origin(name))])
    show_settings(config)


@app.command("test")
def conform_(
    what: Annotated[
        str, typer.Argument(metavar="FILE|NAME", help="A Python file that registers methods, or a method.")
    ],
    as_json: Json = False,
) -> None:
    """Run the conformance kit on a method, or on each that a file registers; exit status 1 if one fails.

    Each trains micro networks for some five seconds, at its default settings. A method of an installed
    package is tested by its name.
    """
    from vitkd_bench.cli.conforming import show_checks
    from vitkd_bench.diagnose.method_conformance import method_conformance
    from vitkd_bench.registry import METHODS

    entries = _of_file(Path(what)) if Path(what).suffix == ".py" else [METHODS.get(what)]
    found = {entry.name: method_conformance(entry) for entry in entries}
    failed = show_checks("method", found, as_json=as_json)
    say(f"{len(found)} method(s), " + (f"{failed} check(s) do not hold" if failed else "all checks hold"))
    raise typer.Exit(int(failed > 0))


def _of_file(file: Path) -> list[MethodEntry]:
    """Load a file and give the methods that it registers, those that train students where there are some.

    Raises:
        BadInputError: no such file, it fails while it is run, or it registers none.
    """
    from vitkd_bench.cli.conforming import registered_by
    from vitkd_bench.plan import MAKERS
    from vitkd_bench.registry import METHODS

    none = "registers no method; @METHODS.register(...) puts a class on the shelf"
    own = [METHODS.get(name) for name in registered_by(file, METHODS, none)]
    trained = [entry for entry in own if entry.kind not in MAKERS]
    for entry in own:
        if entry not in trained and trained:
            say(f"{entry.name} is not tested here: of kind {entry.kind}, it {MAKERS[entry.kind]}")
    return trained or own


@app.command("controls")
def controls_(as_json: Json = False) -> None:
    """List what a method can be held against: {name: METHOD, control: NAME} in a suite."""
    from vitkd_bench.registry import CONTROLS

    if as_json:
        show_json([_control_facts(entry) for entry in CONTROLS])
        return
    show_table(
        ("control", "what the student gets", "at stake", "for methods", "settings"),
        [(e.name, e.title, e.claim, _applies_to(e), _settings_of(e)) for e in CONTROLS],
    )


def _control_facts(entry: ControlEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "claim": entry.claim,
        "acts_on": list(entry.acts_on),
        "kinds": list(entry.kinds),
        "needs": list(entry.needs),
        "paper": entry.paper,
        "version": entry.version,
        "settings": _defaults(entry.control.Config),
    }


def _applies_to(entry: ControlEntry) -> str:
    reading = f"that read {' or '.join(entry.acts_on or ('a teacher',))}"
    return f"{reading}, of kind {' or '.join(entry.kinds)}" if entry.kinds else reading


def _settings_of(entry: ControlEntry) -> str:
    return ", ".join(f"{key}: {value}" for key, value in defaults(entry.control.Config).items())


def _defaults(config: type[Settings]) -> dict[str, Any]:
    return {key: plain(value) for key, value in defaults(config).items()}


def _facts(entry: MethodEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "title": entry.title,
        "kind": entry.kind,
        "paper": entry.paper,
        "reads_teacher": entry.reads_teacher,
        "needs": list(entry.needs),
        "needs_teacher_at_test": entry.needs_teacher_at_test,
        "version": entry.version,
        "budget": entry.budget,
    }
