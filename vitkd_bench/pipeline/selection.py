"""Which samples and classes a split takes: by hashes of ids, so that neither machine nor library matters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from vitkd_bench.contracts import KnownClass
from vitkd_bench.spec import (
    BadInputError,
    ClassInfo,
    Dataset,
    DatasetSettings,
    Subset,
    Validation,
    WorldError,
    content_hash,
    nearest,
)


def hash_order(ids: Iterable[str], stream: str, seed: int) -> list[str]:
    """Shuffle ids: sorted by the SHA-256 of stream, seed and id, in whatever order they come."""
    return sorted(ids, key=lambda name: hashlib.sha256(f"{stream}/{seed}/{name}".encode()).digest())


def carve(ids: Sequence[str], rule: Validation, class_name: str) -> tuple[list[str], list[str]]:
    """Split one class's training ids into what stays and its val part, each in its former order.

    Raises:
        BadInputError: nothing would be left to train on.
    """
    if rule.share is not None:
        count = min(max(1, round(len(ids) * rule.share)), max(0, len(ids) - 1))
    else:
        count = rule.per_class or 0
        if count >= len(ids):
            raise BadInputError(
                f"val.per_class: {count} leaves nothing to train on: class {class_name!r} has "
                f"{len(ids)} training images"
            )
    taken = set(hash_order(ids, "val", rule.seed)[:count])
    return [i for i in ids if i not in taken], [i for i in ids if i in taken]


def drawn_counts(sizes: Sequence[int], subset: Subset | None) -> list[int | None]:
    """Count what `subset` draws of each class that has `sizes` training images; None for all of them.

    A long tail falls from the first class to the last (`spec.Subset`); no class is left without an image.

    Raises:
        BadInputError: a long tail of classes that differ in size, without a number for the first of them.
    """
    if subset is None or subset.long_tail is None:
        return [subset.per_class if subset else None] * len(sizes)
    if subset.per_class is None and min(sizes) != max(sizes):
        raise BadInputError(
            f"subset.long_tail: classes have {min(sizes)} to {max(sizes)} training images (val taken off); "
            "per_class says how many the first one keeps"
        )
    most = subset.per_class or sizes[0]
    steps = max(1, len(sizes) - 1)
    return [max(1, int(most * subset.long_tail ** (-k / steps))) for k in range(len(sizes))]


def draw(
    ids: Sequence[str], count: int | None, seed: int, class_name: str, field: str = "subset.per_class"
) -> list[str]:
    """Draw `count` of one class's training ids, all if it is None, in their former order.

    A larger draw contains the smaller one of the same seed, so data set sizes can be compared.

    Raises:
        BadInputError: the class has fewer.
    """
    if count is None:
        return list(ids)
    if count > len(ids):
        raise BadInputError(
            f"{field}: {count} asked for, but class {class_name!r} has {len(ids)} "
            "training images (val taken off)"
        )
    taken = set(hash_order(ids, "subset", seed)[:count])
    return [i for i in ids if i in taken]


def choose_classes(keys: Sequence[tuple[str, ...]], subset: Subset | None) -> list[int]:
    """Give the positions of the classes that `subset` keeps, in the order of the full list.

    `keys` are the words by which each class may be named (name, wnid).

    Raises:
        BadInputError: unknown or ambiguous name, no class, or more than there are.
    """
    wanted = None if subset is None else subset.classes
    if wanted is None:
        return list(range(len(keys)))
    if isinstance(wanted, int):
        if not 2 <= wanted <= len(keys):
            raise BadInputError(f"subset.classes: {wanted} asked for; 2 to {len(keys)} can be had")
        return list(range(wanted))
    found = sorted({_position(name, keys) for name in wanted})
    if len(found) != len(wanted) or len(found) < 2:
        raise BadInputError(f"subset.classes: at least two classes, each named once; got {list(wanted)}")
    return found


def _position(name: str, keys: Sequence[tuple[str, ...]]) -> int:
    found = [i for i, words in enumerate(keys) if name in words]
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInputError(f"subset.classes: {name!r} names {len(found)} classes; name them by wnid")
    raise BadInputError(
        f"subset.classes: unknown class {name!r}{nearest(name, {w for k in keys for w in k})}"
    )


def label_space(facts: Dataset, settings: DatasetSettings, classes: Sequence[ClassInfo]) -> str:
    """Name the label space of `classes`: the suite's name, the data set's own, or one made of a hash of them.

    A subset of classes is another label space: its logits are fewer.
    """
    named = getattr(settings, "label_space", None) or facts.label_space
    if named and (settings.subset is None or settings.subset.classes is None):
        return str(named)
    # the place in a larger list of classes (a key with a colon) does not make the classes others
    known = [[info.name, {k: v for k, v in info.indices.items() if ":" not in k}] for info in classes]
    return f"{named or facts.name}:{content_hash(known)}"


def chosen(
    facts: Dataset, settings: DatasetSettings, known: Sequence[KnownClass]
) -> tuple[list[int], tuple[ClassInfo, ...]]:
    """Apply `settings.subset.classes`: positions of the kept classes and what is known of them.

    A kept class has its index in the full list under the full list's label space, so that a head for all
    classes serves a subset of them.

    Raises:
        WorldError: fewer than two classes.
        BadInputError: a class that is asked for is not there.
    """
    if len(known) < 2:
        told = f"{known[0].info.name!r} alone" if known else "none"
        raise WorldError(f"classes: at least two are needed, and there is {told}")
    subset, classes = settings.subset, [c.info for c in known]
    kept = choose_classes([c.words for c in known], subset)
    if subset is None or subset.classes is None:
        return kept, tuple(classes)
    whole = label_space(facts, settings.model_copy(update={"subset": None}), classes)
    return kept, tuple(
        ClassInfo(name=classes[i].name, indices={**classes[i].indices, whole: i}) for i in kept
    )
