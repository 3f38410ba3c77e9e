"""Preflight: is this file of weights what the contract says, as far as a forward or two can tell?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitkd_bench.diagnose.checks import (
    accuracy_check,
    feature_check,
    head_check,
    neighbour_check,
    owner_check,
    position_check,
    token_check,
)
from vitkd_bench.diagnose.counterfactual import Trial, twin_checks
from vitkd_bench.diagnose.labelled import LabelledImages
from vitkd_bench.diagnose.paired import knn_hits
from vitkd_bench.diagnose.probe import read, synthetic_images
from vitkd_bench.diagnose.remedy import others_that_fit
from vitkd_bench.diagnose.scores import Targets
from vitkd_bench.diagnose.twins import twins_of
from vitkd_bench.diagnose.verdict import Check, Verdict, judge
from vitkd_bench.networks import ViTNetwork, load_teacher
from vitkd_bench.spec import Architecture, Backend, BadInputError, DamagedFileError, Head, Teacher

SYNTHETIC = "made-up images (coloured noise)"
NOTHING = "nothing: the check ended before"

Watch = Callable[[str, int, int], None]
"""Told of each step before it is taken: what is read, how many steps are done, and of how many."""


def preflight(
    teacher: Teacher,
    weights: Path,
    images: LabelledImages | None = None,
    backend: Backend | None = None,
    watch: Watch | None = None,
) -> Verdict:
    """Check a file of weights against a teacher's contract; nothing is trained, nothing is written.

    Checked are: keys, shapes and types; heads and tokens of every block; a position embedding that is the
    fixed one where a learned one is claimed, or another where the fixed one is; features (finite, not
    collapsed); the entropy of the head; which other registered teachers the file fits, since shapes do not
    tell them apart; and, on images, the declared reading of the weights against its twins (`diagnose.twins`)
    and accuracy against the published one, or without a head whether features find the class. Without images
    the last two are left out, the others are made on made-up ones, and features or a head that look wrong
    mark rather than refuse. All is done at the contract's image size (`ensure_preflight` says why).

    Args:
        teacher: the contract.
        weights: safetensors or a torch checkpoint under the names of the backend.
        images: with labels; 24 at least for the twins, 100 to 200 to tell half from double the heads.
        backend: which of the contract's sources builds the network; None takes the first.
        watch: told how far the work on images has come, which takes up to minutes.

    Raises:
        WorldError: no such file. What is wrong with the file itself is a finding.
    """
    at = teacher.architecture
    try:
        network = load_teacher(teacher, at, weights, backend)
    except (BadInputError, DamagedFileError) as error:
        found = Check(name="weights", status="refuse", finding=str(error))
        fault = "damaged" if isinstance(error, DamagedFileError) else "other"
        return judge((found,), NOTHING, 0).model_copy(update={"fault": fault})
    loaded = Check(name="weights", status="pass", finding="every key found its place, every place its key")
    tokens = token_check(network, at)
    if tokens.status == "refuse":
        return judge((loaded, tokens), NOTHING, 0)
    position = position_check(network)
    loading = (loaded, tokens, *([position] if position else []))
    if images is None:
        made, seen, n = _without_images(network, at), SYNTHETIC, 0
    else:
        made, seen, n = _with_images(teacher, network, images, watch), _told(images), len(images)
    owner = owner_check(teacher, others_that_fit(teacher, weights), made)
    return judge((*loading, *made, *([owner] if owner else [])), seen, n)


def _told(images: LabelledImages) -> str:
    return f"{len(images)} images of {images.name}"


def _without_images(network: ViTNetwork, architecture: Architecture) -> tuple[Check, ...]:
    reading = read(network, synthetic_images(architecture))
    note = Check(
        name="twins",
        status="note",
        finding="normalisation, head split, queries and keys: not checked, no images",
    )
    head = head_check(reading, photographs=False)
    return (feature_check(reading, photographs=False), *([head] if head else []), note)


def _with_images(
    teacher: Teacher, network: ViTNetwork, images: LabelledImages, watch: Watch | None
) -> tuple[Check, ...]:
    twins = twins_of(teacher, network.architecture)
    tell = watch or (lambda *_: None)
    tell("as declared", 0, len(twins) + 1)
    architecture = network.architecture
    pixels = images.cut(architecture.image_size, teacher.crop, architecture.channels, teacher.interpolation)
    targets = targets_of(teacher.head, images)
    trial = Trial.of(network, pixels, targets)
    head = head_check(trial.declared, photographs=True)
    checks = [feature_check(trial.declared, photographs=True), *([head] if head else [])]
    if all(check.status == "pass" for check in checks):
        outcomes = []
        for i, twin in enumerate(twins, 1):
            tell(twin.name, i, len(twins) + 1)
            outcomes.append(trial.run(twin))
        checks += twin_checks(outcomes)
    if not np.isfinite(trial.declared.pooled).all():
        return tuple(checks)
    return (*checks, _knowledge(teacher, trial, images))


def _knowledge(teacher: Teacher, trial: Trial, images: LabelledImages) -> Check:
    """What the network knows of the images' classes, by its head or by its features."""
    hits = trial.scores().hits
    if trial.targets is None or hits is None:
        finding = (
            "not checked: the head knows not all of these classes, and there is one image of each: give "
            "several, or name the folders by wnid, or each class's index in a classes.json"
            if teacher.head
            else "not checked: this teacher has no head, and features tell nothing of one image a class: "
            "give several of each"
        )
        return Check(name="accuracy", status="note", finding=finding)
    if trial.targets.columns is None:
        knn = knn_hits(trial.declared.directions(), images.labels)
        classes = len(np.unique(images.labels))
        return neighbour_check(hits, knn, classes, images.name)
    side = trial.network.architecture.image_size
    return accuracy_check(teacher, trial.declared, trial.targets, hits, side)


def targets_of(head: Head | None, images: LabelledImages) -> Targets | None:
    """Say what is right for each image: a logit, or its class among the others; None if nothing is."""
    columns = images.logits_of(head) if head else None
    if columns is not None:
        return Targets(images.labels, columns)
    return Targets(_labels(images), None) if images.smallest_class() >= 2 else None


def _labels(images: LabelledImages) -> NDArray[np.int64]:
    return np.asarray(np.unique(images.labels, return_inverse=True)[1])
