"""What `vitkd datasets list` and `show` say of a data set; torch-free, and no folder is walked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitkd_bench.spec import alternatives

if TYPE_CHECKING:
    from vitkd_bench.registry import DatasetEntry
    from vitkd_bench.spec import Dataset

OWN, NONE_NEEDED = "files of one's own", "needs none"


def is_here(entry: DatasetEntry, roots: tuple[Path, ...]) -> bool | None:
    """Say whether all of a data set's files lie where its reader looks for them; None: files of one's own.

    A shift set may also lie unpacked in its folder, by class.
    """
    facts = entry.facts
    if not facts.files:
        return None if any(field.is_required() for field in entry.settings.model_fields.values()) else True
    names, *lines = map(alternatives, facts.files)
    folders = [root / name for root in roots for name in names]
    if facts.role == "shift" and any(map(_holds_files, folders)):
        return True
    return any(_holds_all(places, lines) for places in (folders, *([root] for root in roots)))


def _holds_all(folders: list[Path], lines: list[tuple[str, ...]]) -> bool:
    return all(any((folder / name).exists() for folder in folders for name in line) for line in lines)


def _holds_files(folder: Path) -> bool:
    """Say whether a folder holds anything but what a broken fetch leaves: locks and parts of files."""
    if not folder.is_dir():
        return folder.exists()
    return any(not (one.name.startswith(".") or one.suffix == ".part") for one in folder.iterdir())


def here_in_words(entry: DatasetEntry, roots: tuple[Path, ...]) -> str:
    """Say the same for people."""
    here = is_here(entry, roots)
    if here is None:
        return OWN
    if not entry.facts.files:
        return NONE_NEEDED
    return "yes" if here else "no"


def row(entry: DatasetEntry, roots: tuple[Path, ...]) -> tuple[object, ...]:
    """Give a line of the list."""
    facts = entry.facts
    return entry.name, facts.title, classes(facts), counts(facts), facts.role, here_in_words(entry, roots)


def plain_row(entry: DatasetEntry, roots: tuple[Path, ...]) -> dict[str, Any]:
    """Give all facts and whether it is here, as plain data."""
    return {**entry.facts.plain(), "here": is_here(entry, roots)}


def facts_of(entry: DatasetEntry, origin: str, roots: tuple[Path, ...]) -> list[tuple[str, object]]:
    """Give all facts for people, by name."""
    facts = entry.facts
    folder, *files = (" or ".join(alternatives(line)) for line in facts.files or ("",))
    return [
        ("name", facts.name),
        ("title", facts.title),
        ("role", facts.role),
        ("source", facts.source),
        ("licence", facts.licence),
        ("images", f"{facts.image_size or 'any'} px, {facts.channels} channel(s)"),
        ("pixels", f"mean {_numbers(facts.pixels.mean)}, std {_numbers(facts.pixels.std)}"),
        ("classes", classes(facts)),
        ("label space", facts.label_space),
        ("counts", counts(facts)),
        ("splits", facts.split_rule),
        ("here", here_in_words(entry, roots)),
        ("folder", folder),
        ("files in it", "; ".join(files)),
        ("fetched from", facts.fetch),
        ("by hand", facts.manual),
        ("decoded", facts.decode),
        ("templates", facts.templates),
        ("shift splits", [f"{facts.name}/{shift}" for shift in facts.shifts]),
        ("augmentation", facts.augmentation),
        ("reader", facts.reader),
        ("version", facts.version),
        ("defined in", origin),
        ("notes", facts.notes),
    ]


def classes(facts: Dataset) -> str:
    """Count the classes, where that is known beforehand."""
    known = facts.num_classes or (len(facts.classes) if facts.classes else None)
    return f"{known:,}" if known else "as the files say"


def counts(facts: Dataset) -> str:
    """Count the images of each part, where that is known beforehand."""
    return ", ".join(f"{part} {count:,}" for part, count in facts.counts.items()) or "as the files say"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
