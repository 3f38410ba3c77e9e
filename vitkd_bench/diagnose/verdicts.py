"""Verdicts that were reached before, so that a run of a hundred jobs checks its teacher once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitkd_bench.diagnose.labelled import LabelledImages, read_labelled
from vitkd_bench.diagnose.preflight import preflight
from vitkd_bench.diagnose.verdict import Verdict
from vitkd_bench.records import write_atomically
from vitkd_bench.records.files import check_schema, read_bytes, with_digest, without_digest
from vitkd_bench.spec import (
    Architecture,
    Backend,
    BadInputError,
    DamagedFileError,
    Teacher,
    WorldError,
    cache_folder,
    content_hash,
)

SCHEMA = 1
CHECKS = 2  # rises when the same weights may come to another verdict
AT_HAND = ("imagenet_sample", "tiny_imagenet100")
"""Folders under a data root whose images are taken when a run asks and names none."""

QUICK = 96  # images of a check that a run makes by itself
PER_CLASS = 4  # of these, where classes are told by features


def ensure_preflight(
    teacher: Teacher,
    architecture: Architecture,
    weights: Path,
    sha256: str,
    backend: Backend | None = None,
    roots: Sequence[Path] = (),
) -> Verdict:
    """Give the stored verdict on a file of weights, or reach and store one with the images at hand.

    Weights are checked at the contract's own image size, whatever `architecture` a suite uses them at: far
    from the size of its training a network can prefer a reading that is not its own (DeiT-Ti at 112 px is
    better with 6 heads than with its 3).

    Args:
        teacher: the contract.
        architecture: the contract's own at the image size at which it is used; has to be of this contract.
        weights: the file.
        sha256: its hash, 64 hexadecimal digits, as the caller has it.
        backend: which of the contract's sources builds the network.
        roots: data roots under which `AT_HAND` are looked for.

    Raises:
        WorldError: no such file, or the cache cannot be written.
    """
    if architecture.with_(image_size=teacher.architecture.image_size) != teacher.architecture:
        raise BadInputError(
            f"teacher {teacher.name!r}: the architecture asked for is not that of its contract"
        )
    images = images_at_hand(teacher, roots)
    found = stored_verdict(teacher, sha256, backend, images)
    if found is None:
        found = store_verdict(preflight(teacher, weights, images, backend), teacher, sha256, backend, images)
    return found


def images_at_hand(teacher: Teacher, roots: Sequence[Path], limit: int = QUICK) -> LabelledImages | None:
    """Find labelled images under the data roots: the first set whose classes the teacher's head knows.

    For a teacher without a head it is the first set with several images a class.
    """
    if teacher.architecture.channels != 3:
        return None
    for folder in (root / name for name in AT_HAND for root in roots):
        if not folder.is_dir():
            continue
        images = read_labelled(folder, limit, 1 if teacher.head else PER_CLASS)
        fits = (
            images.smallest_class() > 1
            if teacher.head is None
            else images.logits_of(teacher.head) is not None
        )
        if fits:
            return images
    return None


def stored_verdict(
    teacher: Teacher, sha256: str, backend: Backend | None = None, images: LabelledImages | None = None
) -> Verdict | None:
    """Give the verdict reached before on these weights under this contract with these images, or None.

    A damaged file counts as none: the verdict is reached again.
    """
    path = verdict_path(teacher, sha256, backend, images)
    content = read_bytes(path)
    if content is None:
        return None
    try:
        data = without_digest(content, path)
        check_schema(data, SCHEMA, path)
        return Verdict.parse(data["verdict"], str(path))
    except (DamagedFileError, BadInputError, KeyError):
        return None


def store_verdict(
    verdict: Verdict,
    teacher: Teacher,
    sha256: str,
    backend: Backend | None = None,
    images: LabelledImages | None = None,
) -> Verdict:
    """Store a verdict, atomically, and give it with the weights' hash and the teacher's name in it.

    Raises:
        WorldError: the disk refuses.
    """
    named = verdict.model_copy(update={"sha256": sha256, "subject": teacher.name})
    data = with_digest({"schema": SCHEMA, "verdict": named.plain()})
    write_atomically(verdict_path(teacher, sha256, backend, images), data)
    return named


def verdict_path(
    teacher: Teacher, sha256: str, backend: Backend | None = None, images: LabelledImages | None = None
) -> Path:
    """Name the file of a verdict: `preflight/<sha256[:16]>-<hash>.json` under the cache."""
    if len(sha256) < 16:
        raise WorldError(f"sha256 {sha256!r}: 64 hexadecimal digits are needed")
    source = backend or (teacher.sources[0].backend if teacher.sources else None)
    asked = [CHECKS, teacher.plain(), source, images.digest if images else None]
    return cache_folder() / "preflight" / f"{sha256[:16]}-{content_hash(asked)}.json"
