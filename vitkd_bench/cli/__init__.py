"""The command line: parses and calls."""

import sys

_LISTS = (["teachers", "list"], ["teachers", "list", "--json"])

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process and end it with the exit status that belongs to the outcome.

    The bare list of teachers is printed before the parser is loaded, which alone takes longer than the list.
    """
    if sys.argv[1:] in _LISTS:
        _list_teachers()
    from vitkd_bench.cli import app

    app.main()


def _list_teachers() -> None:
    try:
        from vitkd_bench.cli.listing import list_teachers

        list_teachers(as_json="--json" in sys.argv)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - the one boundary of all commands says what it is
        from vitkd_bench.cli.app import status

        failure = error

        def fail() -> None:
            raise failure

        sys.exit(status(fail))
    sys.exit(0)
