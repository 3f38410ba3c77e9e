"""The commands, and the boundary at which every failure becomes one line and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from vitkd_bench.cli import (
    datasets,
    diagnose,
    export,
    methods,
    preflight,
    recipes,
    results,
    running,
    teachers,
)

INTERRUPTED = 130
BAD_INPUT = 2
_UsageError: Any = (
    typer.BadParameter.__base__
)  # click's or typer's own copy of it, depending on typer's version

app = typer.Typer(
    name="vitkd",
    help="What can be passed from a pretrained Vision Transformer to a fresh student, and by which method?",
    epilog="Exit status: 0 done; 1 a run failed or a check does not hold; 2 bad input; 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(running.run)
app.command("plan")(running.plan)
app.command("status")(results.status)
app.command("report")(results.report)
app.command("validate")(results.validate)
app.command("diagnose")(diagnose.diagnose)
app.command("export")(export.export)
teachers.app.command("check")(preflight.check)
teachers.app.command("test")(preflight.conform)
app.add_typer(teachers.app, name="teachers")
app.add_typer(methods.app, name="methods")
app.add_typer(datasets.app, name="datasets")
app.add_typer(recipes.app, name="recipes")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("vitkd_bench"))
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line of this process and end it with the exit status that belongs to the outcome."""
    sys.exit(status(lambda: app(standalone_mode=False)))


def status(command: Callable[[], int | None]) -> int:
    """Run a command; give the exit status that belongs to its outcome, after one line if it failed."""
    try:
        return command() or 0
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            return BAD_INPUT
        return _say(_usage(error), BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # whoever read our output has seen enough; Python would complain once more when it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - whatever it is, a person sees one line
        return _say(*_failure(error))


def _failure(error: Exception) -> tuple[str, int]:
    """Say what went wrong, and the exit status that belongs to it."""
    from vitkd_bench.spec import VitkdError, in_words  # half of the time that --help would take

    if isinstance(error, VitkdError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}", 1
    return f"{in_words(error)} (VITKD_DEBUG=1 shows all of it)", 1


def _usage(error: Any) -> str:
    path = error.ctx.command_path.partition(" ")[2] if error.ctx else ""
    message = error.format_message().rstrip(".")
    return f"{path}: {message}" if path else message


def _say(message: str, code: int) -> int:
    if os.environ.get("VITKD_DEBUG") == "1" and code != INTERRUPTED:
        import traceback

        traceback.print_exc()
    print(f"vitkd: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201 - the one place for it
    return code
