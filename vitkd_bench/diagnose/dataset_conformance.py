"""The conformance kit for data sets: what holds of every one, ours or a stranger's."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch

from vitkd_bench.diagnose.dataset_bench import DatasetBench, of_parts, spread
from vitkd_bench.diagnose.dataset_checks import how_to_get, some, whole_ids
from vitkd_bench.diagnose.dataset_fresh import same_elsewhere
from vitkd_bench.diagnose.dataset_images import look
from vitkd_bench.diagnose.verdict import Check, kit_check
from vitkd_bench.measures import classification
from vitkd_bench.pipeline import TrainStream, eval_batches
from vitkd_bench.pipeline.parts import refuse_misfit
from vitkd_bench.pipeline.shifts import shifted
from vitkd_bench.registry import DatasetEntry
from vitkd_bench.spec import Augmentation, Recipe, VitkdError, in_words

ROLES = {"trained": ({"train", "test"}, {"train", "val", "test"}), "shift": ({"test"}, {"test"})}
"""Parts that a reader gives by role: at least, and at most."""


def facts_are_told(bench: DatasetBench) -> Iterator[str]:
    """Title, source, licence and split rule are told, the facts fit each other, the reader is there."""
    facts = bench.facts
    if not re.fullmatch(r"[a-z][a-z0-9_]*", facts.name):
        yield f"name {facts.name!r}: lower case, digits and _ are needed"
    told = ("title", "source", "licence", "split_rule")
    if empty := [fact for fact in told if not getattr(facts, fact).strip()]:
        yield f"{', '.join(empty)}: empty"
    if not len(facts.pixels.mean) == len(facts.pixels.std) == facts.channels:
        yield f"pixels: mean and std of {facts.channels} channel(s) are needed"
    if min(facts.pixels.std, default=1) <= 0:
        yield f"pixels: std {facts.pixels.std}: each is above 0"
    if unknown := set(facts.counts) - ROLES[facts.role][1]:
        yield f"counts: a {facts.role} set has no {some(sorted(unknown))}"
    if facts.classes and facts.num_classes not in {None, len(facts.classes)}:
        yield f"num_classes {facts.num_classes}, but classes lists {len(facts.classes)}"
    if facts.files and not how_to_get(facts):
        yield "files: neither fetch nor manual says where they may be had"
    if wrong := [place for place in facts.fetch if not place.startswith("https://")]:
        yield f"fetch: {some(wrong)}: an address that begins with https:// is needed"
    reader = bench.reader
    if missing := [name for name in ("classes", "parts") if not callable(getattr(reader, name, None))]:
        yield f"reader {facts.reader!r}: has no {' and no '.join(missing)}"


def classes_are_listed(bench: DatasetBench) -> Iterator[str]:
    """Classes are listed in one order, each with a key and a name of its own."""
    known = bench.known
    if len(known) < 2:
        yield f"{len(known)} class(es); two are the fewest"
    for what, words in (
        ("key", [c.key for c in known]),
        ("name", [c.info.spoken.casefold() for c in known]),
    ):
        if twice := _repeated(words):
            yield f"two classes have the {what} {some(twice)}"
    if bench.facts.classes is not None and bench.facts.classes != tuple(c.info for c in known):
        yield f"the reader lists {len(known)} classes that are not those of the facts, in their order"
    if tuple(bench.list_classes()) != known:
        yield "asked again, the reader lists them otherwise"


def parts_hold(bench: DatasetBench) -> Iterator[str]:
    """Each part has an image, a label of a class and an id of its own for every sample."""
    least, most = ROLES[bench.facts.role]
    names = set(bench.parts)
    if not least <= names <= most:
        yield f"parts {sorted(names)}; a {bench.facts.role} set has {sorted(least)}, at most {sorted(most)}"
    for name, part in bench.parts.items():
        try:
            refuse_misfit(part, len(bench.known), name)
        except VitkdError as error:
            yield str(error)
    ids = [id_ for part in bench.parts.values() for id_ in whole_ids(part)]
    if twice := _repeated(ids):
        yield f"{len(twice)} id(s) stand twice: {some(twice)}"
    if wrong := [id_ for id_ in ids if not _is_id(id_)]:
        yield f"id {some(wrong)}: a path inside the data set is needed, with /, the same on every machine"


def order_is_stable(bench: DatasetBench) -> Iterator[str]:
    """Opened a second time, ids and labels are the same in the same order."""
    first, second = of_parts(bench.parts), of_parts(bench.find_parts())
    for name in first.keys() | second.keys():
        one, other = first.get(name), second.get(name)
        if one is None or other is None:
            yield f"{name}: found once, and not again"
        elif one != other:
            same = sorted(zip(*one, strict=True)) == sorted(zip(*other, strict=True))
            yield f"{name}: {'in another order' if same else 'other ids or labels'} the second time"


def images_decode(bench: DatasetBench) -> Iterator[str]:
    """Images of every part decode, with the channels that the facts tell."""
    for name, part in bench.parts.items():
        looked = [look(part.images, int(i), bench.facts.channels) for i in spread(len(part.images))]
        wrong = [found for found in looked if isinstance(found, str)]
        if wrong:
            yield f"{name}: {len(wrong)} of {len(looked)} fail: {wrong[0]}"


def images_can_be_sent(bench: DatasetBench) -> Iterator[str]:
    """Images can be pickled, and another process reads the same of them."""
    for name, part in bench.parts.items():
        sent = pickle.loads(pickle.dumps(part.images))  # noqa: S301 - made in this line
        for i in spread(len(part.images), 4).tolist():
            one, other = part.images.read(i), sent.read(i)
            if not np.array_equal(one, other):
                yield f"{name}: {part.images.place(i)}: another image once it is pickled"


def splits_are_whole(bench: DatasetBench) -> Iterator[str]:
    """Train, val and test share no id, and every class is in train and in test."""
    splits = bench.choice.parts
    ids = [id_ for part in splits.values() for id_ in whole_ids(part)]
    if twice := _repeated(ids):
        yield f"id {some(twice)} in two splits"
    for name in sorted({"train", "test"} & splits.keys()):
        missing = sorted(set(range(len(bench.kept))) - set(splits[name].labels.tolist()))
        if missing:
            yield f"{name}: class {some(bench.kept[label].name for label in missing)} has no image"


def predictors_score(bench: DatasetBench) -> Iterator[str]:
    """A predictor that always says one class scores its share, one that knows every label scores 1."""
    test = bench.shown("test")
    labels = torch.cat([batch.labels for batch in eval_batches(test, 7)])
    if not np.array_equal(labels.numpy(), test.labels):
        yield "evaluation shows other labels than the split has"
    own = torch.nn.functional.one_hot(labels, len(bench.kept)).float()
    if (best := classification(own * 1000, labels)["top1"]) != 1:
        yield f"an oracle scores {best:g}"
    for label, count in Counter(labels.tolist()).most_common(5):
        constant = torch.nn.functional.one_hot(torch.full_like(labels, label), len(bench.kept)).float()
        found = classification(constant, labels)["top1"]
        if found != count / len(labels):
            yield f"always class {label}: scores {found:g}, of {count} in {len(labels)}"


def batches_train(bench: DatasetBench) -> Iterator[str]:
    """A batch of training views has the shape and the range that the facts tell."""
    if "train" not in bench.choice.parts:
        return
    train = bench.shown("train")
    size, side = min(16, len(train)), train.look.side
    rule = Augmentation(shift=1, noise=0.1)
    batch = TrainStream(train, Recipe(epochs=1, batch_size=size, lr=1e-3, augmentation=rule), 0).batch(0)
    wanted = (size, bench.facts.channels, side, side)
    if tuple(batch.pixels.shape) != wanted:
        yield f"a batch has the shape {tuple(batch.pixels.shape)}, {wanted} is wanted"
    low, high = float(batch.pixels.min()), float(batch.pixels.max())
    if not 0 <= low < high <= 1:
        yield f"pixels are {low:g} to {high:g}; they differ, and lie in [0, 1]"


def shifts_pair(bench: DatasetBench) -> Iterator[str]:
    """Every shift of test changes images and no id; classes of a shift set can be found elsewhere."""
    if bench.facts.role == "shift":
        infos = [known.info for known in bench.known]
        space = getattr(bench.settings, "label_space", None) or bench.facts.label_space
        if not space and not any(info.indices or not info.name.isdecimal() for info in infos):
            yield "its classes have no label space, no index and no name by which others know them"
        return
    for name in bench.facts.shifts:
        test = bench.shown("test")
        changed = shifted(test, name)
        if changed.ids != test.ids or np.array_equal(changed.images, test.images):
            yield f"shift {name!r} changes ids, or no image"


DATASET_CHECKS: dict[str, Callable[[DatasetBench], Iterator[str]]] = {
    "facts": facts_are_told,
    "classes": classes_are_listed,
    "parts": parts_hold,
    "stable": order_is_stable,
    "images": images_decode,
    "pickled": images_can_be_sent,
    "splits": splits_are_whole,
    "scores": predictors_score,
    "batches": batches_train,
    "shifts": shifts_pair,
}


def dataset_conformance(
    entry: DatasetEntry, settings: Mapping[str, Any], roots: tuple[Path, ...], *, fresh: bool = False
) -> tuple[Check, ...]:
    """Run every check on one data set; one that fails is `refuse`, with the reason.

    What needs files that are not there fails and says so. Up to 64 images of each part are decoded.

    Args:
        entry: the data set.
        settings: plain data, as a suite gives it.
        roots: folders in which its files are looked for.
        fresh: whether, if all else holds, another process is asked for the order too: some seconds.

    Raises:
        BadInputError: a setting is wrong.
    """
    bench = DatasetBench(entry, entry.settings.parse(dict(settings), f"data set {entry.name!r}"), roots)
    found = [checked("facts", bench)]
    try:
        bench.known, bench.parts  # noqa: B018 - found here once; what cannot be opened is told once
    except Exception as error:  # noqa: BLE001  (a stranger's reader may raise anything; the finding says what)
        absent = how_to_get(entry.facts) if isinstance(error, VitkdError) else ""
        return (*found, *_unchecked("; ".join(filter(None, (in_words(error), absent)))))
    found += [checked(name, bench) for name in DATASET_CHECKS if name != "facts"]
    if fresh and all(check.status == "pass" for check in found):
        found.append(checked("fresh", bench, same_elsewhere))
    return tuple(found)


def checked(
    name: str, bench: DatasetBench, check: Callable[[DatasetBench], Iterator[str]] | None = None
) -> Check:
    """Run one check, that of this name unless another is given."""
    check = check or DATASET_CHECKS[name]
    try:
        wrong = list(check(bench))
    except Exception as error:  # noqa: BLE001  (a stranger's reader may raise anything; the finding says what)
        wrong = [in_words(error)]
    return kit_check(name, check, wrong)


def _unchecked(why: str) -> Iterator[Check]:
    """Say that nothing can be checked without what its reader did not find."""
    first, *others = (name for name in DATASET_CHECKS if name != "facts")
    yield kit_check(first, DATASET_CHECKS[first], [why])
    for name in others:
        yield kit_check(name, DATASET_CHECKS[name], [f"not checked: the reader cannot open it, see {first}"])


def _repeated(words: Iterable[str]) -> list[str]:
    return sorted(word for word, count in Counter(words).items() if count > 1)


def _is_id(id_: object) -> bool:
    if not isinstance(id_, str) or not id_ or "\\" in id_ or len(id_.splitlines()) != 1:
        return False
    absolute = PurePosixPath(id_).is_absolute() or bool(PureWindowsPath(id_).drive)
    return not absolute and ".." not in id_.split("/")
