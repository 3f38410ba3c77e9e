"""Writes docs/datasets.md: every data set on the shelf, from the registry alone.

python scripts/datasets_page.py            writes the page
python scripts/datasets_page.py --check    says whether it is stale, and exits 1 if so
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from made_page import write_or_check

from vitkd_bench.registry import DATASETS, DatasetEntry
from vitkd_bench.spec import Dataset, DatasetSettings, alternatives

PAGE = Path(__file__).resolve().parents[1] / "docs" / "datasets.md"
REFRESH = "python scripts/datasets_page.py"

INTRODUCTION = f"""# Data sets

This page is made from the registry by `{REFRESH}`; change `vitkd_bench/datasets/`, not this page.

A data set is read from the files as its source publishes them: nothing is converted, and an archive is
read in place. It is looked for under `--data-root`, `$VITKD_DATA` and the other roots, in a folder of
its own name or of one of the usual ones (*folder*), or where the setting `root` says; a root that is
itself the data set's folder will do. `vitkd datasets show NAME` gives the same facts, `vitkd datasets
check NAME --root DIR` compares the files with them.

*Trained* data sets have train, val and test; *shift* sets have a test part alone and are named under
`evaluate`. Where the labels of a test part are not public, the official validation part is the test
split, and val is carved from train, so that nothing is chosen on what is reported. *Decoded* says when
images are: `once`, kept in memory, or `anew`, each time that they are shown.

## What a layout may be

- **Folders and archives.** A folder, a .tar, a .zip, or a compressed .tar give the same ids, labels and
  bytes in the same order: sorted by class and then by name, whatever a disk lists first. Plain tars and
  zips are read at any place; a compressed tar is unpacked in memory, up to 8 GiB, never on disk. Larger
  ones (iNaturalist's images) are refused with the advice to unpack them once.
- **Ids** are paths inside the data set, so val, subsets and stored outputs are the same on every
  machine.
- **What is wrong** is one line with the path: a member that leads outside or is a link, a file or an id
  that stands twice, a truncated archive, broken or absurdly nested JSON, a pickle that asks for code,
  an annotation of a missing image, a folder that is no class, a label out of range, a class without
  images. Nothing is skipped silently but names that begin with a dot; the setting `skip` names images
  to leave out, and the record counts them.
- **Readers are ours.** torchvision's and timm's unpack archives, sort folders as text, follow the order
  of a disk, or have no split for these layouts; each data set says below where one of them would not
  do.
"""

COLUMNS = ("name", "title", "role", "classes", "images", "decoded", "licence")


def page() -> str:
    """Write the whole page."""
    rows = [_row(entry.facts) for entry in DATASETS]
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    settings = _settings(DatasetSettings, list(DatasetSettings.model_fields))
    every = ["## Settings of every data set", "", *settings, "", "## All of them", ""]
    return "\n".join([INTRODUCTION, *every, table, "", *(_section(entry) for entry in DATASETS)])


def _row(facts: Dataset) -> tuple[str, ...]:
    return (
        f"[`{facts.name}`](#{facts.name})",
        facts.title,
        facts.role,
        str(facts.num_classes or (len(facts.classes) if facts.classes else "as the files say")),
        ", ".join(f"{part} {count:,}" for part, count in facts.counts.items()) or "as the files say",
        facts.decode,
        facts.licence,
    )


def _section(entry: DatasetEntry) -> str:
    facts = entry.facts
    folder, *rest = facts.files or ("",)
    told = {
        "source": facts.source,
        "splits": facts.split_rule,
        "folder": _alternatives(folder),
        "files in it": "; ".join(map(_alternatives, rest)),
        "fetched from": ", ".join(facts.fetch),
        "by hand": facts.manual,
        "shift splits": ", ".join(f"`{facts.name}/{shift}`" for shift in facts.shifts),
        "augmentation": facts.augmentation if facts.role == "trained" else "",
        "text head": ", ".join(f"`{template}`" for template in facts.templates),
    }
    lines = [f"- {name}: {text}" for name, text in told.items() if text]
    return "\n".join([f"## {facts.name}", "", *lines, "", *_notes(entry)])


def _alternatives(line: str) -> str:
    return " or ".join(f"`{name}`" for name in alternatives(line)) if line else ""


def _notes(entry: DatasetEntry) -> list[str]:
    """Give the notes, and what is said of its own settings."""
    own = entry.settings
    said = inspect.getdoc(own) if own is not DatasetSettings else ""
    texts = [entry.facts.notes, " ".join((said or "").split())]
    lines = [line for text in texts if text for line in (text, "")]
    settings = _settings(own, [name for name in own.model_fields if name not in DatasetSettings.model_fields])
    return [*lines, *settings, ""] if settings else lines


def _settings(model: type[DatasetSettings], names: list[str]) -> list[str]:
    fields = {name: model.model_fields[name] for name in names}
    return [
        f"- `{name}`{' (has to be given)' if field.is_required() else ''}: {field.description}"
        for name, field in fields.items()
    ]


def main(arguments: list[str]) -> int:
    """Write or check the page; the exit status."""
    return write_or_check(PAGE, page(), REFRESH, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
