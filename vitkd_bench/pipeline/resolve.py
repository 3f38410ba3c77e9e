"""From a data set's entry and a suite's settings to the data set as its runs use it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitkd_bench.pipeline.parts import ids_to_skip
from vitkd_bench.pipeline.readers import reader_of
from vitkd_bench.pipeline.selection import chosen, label_space
from vitkd_bench.registry import DatasetEntry
from vitkd_bench.spec import BadInputError, ResolvedDataset, content_hash

IN_NO_ID = ("pictures_of", "templates")
"""Settings that change no number of a run by themselves."""


def resolve_dataset(
    entry: DatasetEntry, settings: Mapping[str, Any], roots: tuple[Path, ...], where: str = ""
) -> ResolvedDataset:
    """Check the settings, find the files under `roots` and list the classes; decodes no image.

    Settings equal to their default are left out of the result, so that a new one does not rename old runs.

    Args:
        entry: the data set on the shelf.
        settings: plain data, as the suite gives it.
        roots: folders in which relative file names are looked for, in this order.
        where: the file or place that an error names.

    Raises:
        BadInputError: a setting is wrong; names `where`, the field and what would work.
        WorldError: the files are not there, or their list of classes cannot be read.
    """
    parsed = entry.settings.parse(dict(settings), where)
    facts = entry.facts
    try:
        known = reader_of(facts).classes(facts, parsed, roots)
        classes = chosen(facts, parsed, known)[1]
        skip = ids_to_skip(parsed, roots, facts.name)
    except BadInputError as error:
        raise BadInputError(f"{where}: {error}" if where else str(error)) from None
    decode = parsed.decode or facts.decode
    if parsed.jpeg == "scaled" and decode == "once":
        place = where or f"data set {facts.name!r}"
        raise BadInputError(
            f"{place}: jpeg: scaled is for images that are decoded anew; say decode: anew too"
        )
    declared = {k: v for k, v in parsed.declared().items() if k not in IN_NO_ID}
    if parsed.decode == facts.decode:  # saying what holds anyway renames no run
        declared.pop("decode", None)
    return ResolvedDataset(
        name=facts.name,
        version=facts.version,
        settings=declared,
        pictures=parsed.pictures_of or (entry.facts.name,),
        channels=facts.channels,
        image_size=facts.image_size,
        pixels=facts.pixels,
        classes=classes,
        label_space=label_space(facts, parsed, classes),
        shifts=facts.shifts,
        templates=parsed.templates or facts.templates,
        decode=decode,
        skipped=content_hash(sorted(skip)) if skip else "",
        pool=getattr(parsed, "pool", "sum"),
    )
