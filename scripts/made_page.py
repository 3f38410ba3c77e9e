"""What the scripts share that make a page of docs/ from a registry."""

from __future__ import annotations

from pathlib import Path


def write_or_check(page: Path, text: str, refresh: str, arguments: list[str]) -> int:
    """Write a page, or with `--check` say whether it is what would be written.

    Args:
        page: the file.
        text: what it should hold.
        refresh: the command that writes it.
        arguments: of the command line.

    Returns:
        The exit status: 1 where a page that is checked is stale.
    """
    if arguments == ["--check"]:
        stale = not page.is_file() or page.read_text(encoding="utf-8") != text
        print(f"{page.name} is stale: run {refresh}" if stale else f"{page.name} is up to date")
        return int(stale)
    page.write_text(text, encoding="utf-8")
    print(page)
    return 0
