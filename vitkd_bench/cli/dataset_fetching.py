"""`vitkd datasets fetch`: a bar a file, a line for what failed, the others still fetched."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vitkd_bench.cli.console import say, show, show_json
from vitkd_bench.cli.dataset_rows import NONE_NEEDED, here_in_words
from vitkd_bench.cli.fetching import GOES_ON, INTERRUPTED, bar, exit_code

if TYPE_CHECKING:
    from vitkd_bench.fetch import Found
    from vitkd_bench.fetch.dataset_files import Fetchable
    from vitkd_bench.registry import DatasetEntry
    from vitkd_bench.spec import VitkdError


def fetch(entry: DatasetEntry, to: Path | None, *, accept_new_hash: bool, as_json: bool) -> int:
    """Fetch what may be fetched of a data set into its folder under `to`; the exit status."""
    from vitkd_bench.fetch.dataset_files import fetchable, folder_of, stands_for

    facts = entry.facts
    if not facts.fetch or to is None:
        return _nothing_to_fetch(entry, as_json=as_json)
    folder, files = folder_of(facts, to.absolute()), fetchable(facts)
    here = {} if accept_new_hash else {file.url: stands_for(facts, file, folder) for file in files}
    wanted = [file for file in files if here.get(file.url) is None]
    try:
        found, failed = _fetched(wanted, folder, accept_new_hash=accept_new_hash)
    except KeyboardInterrupt:
        say(GOES_ON)
        return INTERRUPTED
    kept = {url: str(path) for url, path in here.items() if path is not None}
    if as_json:
        show_json(
            {
                "name": facts.name,
                "folder": str(folder),
                "fetched": {url: {**asdict(one), "path": str(one.path)} for url, one in found.items()},
                "here": kept,
                "failures": {url: str(error) for url, error in failed.items()},
                "manual": facts.manual,
            }
        )
    else:
        for place in (*kept.values(), *(str(one.path) for one in found.values())):
            show(f"{facts.name}: {place}")
        if facts.manual:
            show(f"{facts.name}: by hand: {facts.manual}")
    return exit_code(failed, some_came=bool(found or kept))


def _fetched(
    files: list[Fetchable], folder: Path, *, accept_new_hash: bool
) -> tuple[dict[str, Found], dict[str, VitkdError]]:
    from vitkd_bench.fetch.dataset_files import DatasetFiles
    from vitkd_bench.spec import VitkdError

    keeper, found, failed = DatasetFiles(), {}, {}
    for file in files:
        try:
            with bar(file.name) as watch:
                found[file.url] = keeper.fetch(file, folder, watch, accept_new_hash=accept_new_hash)
        except VitkdError as error:
            failed[file.url] = error
            say(f"failed: {error}")
    return found, failed


def _nothing_to_fetch(entry: DatasetEntry, *, as_json: bool) -> int:
    """Say what a person has to do: of a set that comes with a library nothing, and the exit status is 0."""
    needs_none = here_in_words(entry, ()) == NONE_NEEDED
    told = "" if needs_none else entry.facts.manual or f"its source: {entry.facts.source}"
    if as_json:
        show_json(
            {"name": entry.name, "folder": None, "fetched": {}, "here": {}, "failures": {}, "manual": told}
        )
    elif needs_none:
        show(f"{entry.name}: {NONE_NEEDED}; it comes with a library")
    else:
        show(f"{entry.name}: nothing of it can be fetched from here: {told}")
    return 0 if needs_none else 1
