"""Are the files of a data set what its entry says: counts, classes, images, splits, duplicates?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitkd_bench.contracts import KnownClass, Part
from vitkd_bench.diagnose.dataset_images import Watch, look_at
from vitkd_bench.diagnose.verdict import Check
from vitkd_bench.pipeline.parts import Choice, choose, ids_to_skip, refuse_misfit, refuse_unknown
from vitkd_bench.pipeline.places import places_of
from vitkd_bench.pipeline.readers import reader_of
from vitkd_bench.pipeline.selection import chosen
from vitkd_bench.pipeline.splits import hash_of
from vitkd_bench.registry import DatasetEntry
from vitkd_bench.spec import BadInputError, Dataset, DatasetSettings, VitkdError, WorldError, alternatives

SHOWN = 3
"""Examples that a finding names; the answer in JSON has all."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An image that cannot be used: its whole id, and one line with its path that says why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found of a data set's files.

    `repeated` are groups of whole ids (`train: a/1.png`) whose images have the same content; `sizes` are
    images by split after the settings; `skipped` are the ids that the setting `skip` names.
    """

    checks: tuple[Check, ...]
    unreadable: tuple[Unreadable, ...] = ()
    repeated: tuple[tuple[str, ...], ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    split_hash: str | None = None
    skipped: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether every check holds; a mark speaks against none."""
        return all(check.status != "refuse" for check in self.checks)


def check_dataset(
    entry: DatasetEntry,
    settings: Mapping[str, Any],
    roots: tuple[Path, ...],
    *,
    jobs: int = 1,
    watch: Watch | None = None,
) -> Checked:
    """Compare a data set's files with its facts, decode every image and look for duplicates.

    Without a subset all images are looked at, else those that it takes; what `skip` names is left out.

    Args:
        entry: the data set.
        settings: plain data, as a suite gives it.
        roots: folders in which its files are looked for.
        jobs: threads that decode.
        watch: told how many images were looked at, and of how many.

    Raises:
        BadInputError: a setting is wrong, or asks for more than there is.
    """
    where = f"data set {entry.name!r}"
    parsed = entry.settings.parse(dict(settings), where)
    reader = reader_of(entry.facts)
    try:
        known = tuple(reader.classes(entry.facts, parsed, roots))
        parts = reader.parts(entry.facts, parsed, roots)
    except WorldError as error:
        return Checked((_missing(entry.facts, parsed, roots, error),))
    checks = [*_as_published(entry.facts, known, parts, complete=parsed.subset is None)]
    if any(check.name == "contract" for check in checks):
        return Checked(tuple(checks))
    skip = ids_to_skip(parsed, roots, entry.name)
    refuse_unknown(skip, parts, where)
    taken, names, wrong = _taken(entry.facts, parsed, known, parts, skip)
    return _of_images(entry.facts, taken, [*checks, _splits(taken, names, parsed, wrong)], jobs, watch, skip)


def how_to_get(facts: Dataset) -> str:
    """Say how a data set's files may be had; nothing where they are anybody's own."""
    fetched = f"`vitkd datasets fetch {facts.name}` gets {', '.join(facts.fetch)}" if facts.fetch else ""
    return "; ".join(filter(None, (fetched, facts.manual)))


def whole_ids(part: Part) -> tuple[str, ...]:
    """Give the ids of a part as they are unique in the data set."""
    return tuple(f"{part.prefix}{id_}" for id_ in part.ids)


def some(names: Iterable[object], count: int = SHOWN) -> str:
    """Name the first few: `'a', 'b' and 7 more`."""
    listed = list(names)
    more = f" and {len(listed) - count} more" if len(listed) > count else ""
    return ", ".join(map(repr, listed[:count])) + more


def _missing(facts: Dataset, settings: DatasetSettings, roots: tuple[Path, ...], error: WorldError) -> Check:
    """Say what is not there and how it may be had."""
    said = [str(error)]
    if facts.files:
        places = places_of(facts, settings, roots)
        lacking = [line for line in facts.files[1:] if places.look(*alternatives(line)) is None]
        if len(lacking) > 1:
            said.append(f"of its files these are missing: {', '.join(lacking)}")
    return Check(name="files", status="refuse", finding="; ".join(filter(None, (*said, how_to_get(facts)))))


def _as_published(
    facts: Dataset, known: Sequence[KnownClass], parts: Mapping[str, Part], *, complete: bool
) -> Iterator[Check]:
    """Compare what was found with what the source publishes."""
    there = [f"{name} at {part.images.place(0)}" for name, part in parts.items() if len(part.images)]
    yield Check(name="files", status="pass", finding="; ".join(there) or "no image at all")
    wanted = facts.num_classes or (len(facts.classes) if facts.classes else None)
    yield _counted("classes", {"classes": len(known)}, {"classes": wanted} if wanted else {}, complete=True)
    counts = {name: len(part.labels) for name, part in parts.items()}
    yield _counted("counts", counts, facts.counts, complete=complete)
    try:
        for name, part in parts.items():
            refuse_misfit(part, len(known), name)
    except VitkdError as error:
        yield Check(name="contract", status="refuse", finding=str(error))
        return
    ids = Counter(id_ for part in parts.values() for id_ in whole_ids(part))
    twice = sorted(id_ for id_, count in ids.items() if count > 1)
    yield Check(
        name="ids",
        status="refuse" if twice else "pass",
        finding=f"{len(twice)} ids stand twice: {some(twice)}" if twice else f"{len(ids):,} ids, each once",
    )


def _counted(name: str, found: Mapping[str, int], wanted: Mapping[str, int], *, complete: bool) -> Check:
    """Compare counts; what differs is a note where only a part is asked for."""
    figures = {key: float(count) for key, count in found.items()}
    said = ", ".join(f"{key} {count:,}" for key, count in found.items())
    if not wanted:
        return Check(name=name, status="note", finding=f"{said}; none are published", figures=figures)
    keys = [
        key for key in (*found, *(k for k in wanted if k not in found)) if found.get(key) != wanted.get(key)
    ]
    if not keys:
        return Check(name=name, status="pass", finding=f"{said}, as published", figures=figures)
    differ = ", ".join(f"{key} {found.get(key, 0):,}, published are {wanted.get(key, 0):,}" for key in keys)
    if complete:
        return Check(name=name, status="refuse", finding=differ, figures=figures)
    return Check(name=name, status="note", finding=f"{differ}; a subset is asked for", figures=figures)


def _taken(
    facts: Dataset,
    settings: DatasetSettings,
    known: Sequence[KnownClass],
    parts: Mapping[str, Part],
    skip: frozenset[str],
) -> tuple[Choice, list[str], str]:
    """Apply the settings; where that fails by the files, take the parts as published and say why."""
    try:
        kept, infos = chosen(facts, settings, known)
        return choose(parts, settings, known, kept, skip), [info.name for info in infos], ""
    except BadInputError as error:
        raise BadInputError(f"data set {facts.name!r}: {error}") from None
    except WorldError as error:
        return Choice(dict(parts)), [], str(error)


def _splits(choice: Choice, names: Sequence[str], settings: DatasetSettings, wrong: str) -> Check:
    """Check that the splits are whole: the parts of the role, and every class in each."""
    needed = ("train", "val", "test") if "train" in choice.parts else ("test",)
    problems = [wrong] if wrong else [f"there is no {name}" for name in needed if name not in choice.parts]
    sparse = settings.val is not None and settings.val.share is not None
    for name, part in choice.parts.items() if not wrong else ():
        lacking = set(range(len(names))) - set(part.labels.tolist())
        if lacking and not (name == "val" and sparse):
            first = names[min(lacking)]
            problems.append(
                f"{name}: {len(lacking)} of {len(names)} classes have no image, such as {first!r}"
            )
    figures = {name: float(len(part)) for name, part in choice.parts.items()}
    if problems:
        return Check(name="splits", status="refuse", finding="; ".join(problems), figures=figures)
    sizes = ", ".join(f"{name} {len(part):,}" for name, part in choice.parts.items())
    skipped = f", {choice.skipped:,} skipped" if choice.skipped else ""
    return Check(
        name="splits", status="pass", finding=f"{sizes}{skipped}; split hash {_hash(choice)}", figures=figures
    )


def _hash(choice: Choice) -> str:
    return hash_of({name: (whole_ids(part), part.labels) for name, part in choice.parts.items()})


def _of_images(
    facts: Dataset,
    choice: Choice,
    checks: Sequence[Check],
    jobs: int,
    watch: Watch | None,
    skip: frozenset[str],
) -> Checked:
    """Look at every image that is taken, and at what the same content says."""
    total, done = sum(map(len, choice.parts.values())), 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        if watch is not None:
            watch(done, total)

    unreadable, copies = [], _Copies()
    for name, part in choice.parts.items():
        looked = look_at(part.images, facts.channels, jobs, more)
        for id_, label, found in zip(whole_ids(part), part.labels.tolist(), looked, strict=True):
            if isinstance(found, str):
                unreadable.append(Unreadable(id_, found))
            else:
                copies.add(found, name, id_, label)
    return Checked(
        (*checks, _readable(unreadable, total), *copies.checks()),
        tuple(unreadable),
        tuple(tuple(f"{name}: {id_}" for name, id_, _ in group) for group in copies.groups()),
        {name: len(part) for name, part in choice.parts.items()},
        _hash(choice),
        tuple(sorted(skip)),
    )


def _readable(unreadable: Sequence[Unreadable], total: int) -> Check:
    figures = {"images": float(total), "unreadable": float(len(unreadable))}
    if not unreadable:
        return Check(name="images", status="pass", finding=f"{total:,} decoded", figures=figures)
    said = f"{len(unreadable):,} of {total:,} cannot be used, ids {some(one.id for one in unreadable)}"
    return Check(name="images", status="refuse", finding=said, figures=figures)


Sample = tuple[str, str, int]
"""Split, whole id and label of an image."""


class _Copies:
    """Images by content."""

    def __init__(self) -> None:
        self._of: dict[bytes, Sample | list[Sample]] = {}  # most contents are one image's alone

    def add(self, digest: bytes, split: str, id_: str, label: int) -> None:
        before, one = self._of.get(digest), (split, id_, label)
        if before is None:
            self._of[digest] = one
        elif isinstance(before, list):
            before.append(one)
        else:
            self._of[digest] = [before, one]

    def groups(self) -> list[list[Sample]]:
        """Give those that have the same content, two or more each."""
        return [found for found in self._of.values() if isinstance(found, list)]

    def checks(self) -> Iterator[Check]:
        """Say which stand twice in a split, in two splits, and under two labels."""
        groups = self.groups()
        within = [g for g in groups if max(Counter(split for split, _, _ in g).values()) > 1]
        yield _marked("repeated", within, "content(s) stand more than once in a split", "none in a split")
        across = [g for g in groups if len({split for split, _, _ in g}) > 1]
        yield _marked("disjoint", across, _shared(across), "no two splits share an image's content")
        labels = [g for g in groups if len({label for _, _, label in g}) > 1]
        yield _marked("one label", labels, "content(s) stand under two labels", "none under two labels")


def _shared(groups: Sequence[Sequence[Sample]]) -> str:
    """Count by the splits that share: `content(s) are shared by splits (train and test 3)`."""
    pairs = Counter(" and ".join(sorted({split for split, _, _ in g}, reverse=True)) for g in groups)
    return f"content(s) are shared by splits ({', '.join(f'{names} {n}' for names, n in pairs.items())})"


def _marked(name: str, groups: Sequence[Sequence[Sample]], said: str, none: str) -> Check:
    figures = {"contents": float(len(groups)), "images": float(sum(map(len, groups)))}
    if not groups:
        return Check(name=name, status="pass", finding=none, figures=figures)
    first = "; ".join(" = ".join(f"{id_} ({split})" for split, id_, _ in group) for group in groups[:SHOWN])
    more = f"; and {len(groups) - SHOWN} more" if len(groups) > SHOWN else ""
    return Check(name=name, status="mark", finding=f"{len(groups):,} {said}: {first}{more}", figures=figures)
