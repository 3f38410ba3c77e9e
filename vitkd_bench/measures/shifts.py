"""Accuracy on a set of shifted images, and how far it falls from the same classes without the shift."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitkd_bench.measures import standard_errors
from vitkd_bench.measures.arrays import class_indices
from vitkd_bench.measures.class_maps import NO_CLASS, ClassMap, answers_over_all, restricted
from vitkd_bench.measures.classification import classification
from vitkd_bench.spec import VitkdError

CLEAN = (
    "n",
    "top1",
    "top1_se",
    "top5",
    "mean_per_class",
    "nll",
    "ece",
    "brier",
    "top1_over_all",
    "top1_over_all_se",
)
"""What is told of the images without shift, each with `clean_` before its name."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Measures together with what they are of: the class map, and the classes that occur in the labels."""

    metrics: dict[str, float]
    class_map: ClassMap
    occurring: frozenset[int]


def mapped(scores: Tensor, labels: Tensor, class_map: ClassMap) -> Scored:
    """Score a shift set under both rules that are in use, each under its own name.

    *Within*: only the shift set's classes can be chosen, their probabilities are normalised among themselves.
    `n`, `top1`, `top5` (from six classes on), `mean_per_class`, `nll`, `ece`, `brier` and their standard
    errors are of this rule, as `classification` defines them. *Over all*: any training class can be chosen,
    and the answer is right if it is one of the label's: `top1_over_all` with `top1_over_all_se`. The second
    is never above the first where each class has one member (the highest of all is the highest of some).

    Args:
        scores: (N, classes) logits or log-probabilities of all training classes.
        labels: (N,) indices of the shift set's classes, 0 to M - 1.
        class_map: which training classes those are.

    Raises:
        VitkdError: shapes differ, a label is no class of the map, a score is not finite.
    """
    metrics = classification(restricted(scores, class_map), labels)
    truth = class_indices(labels, (len(scores), len(class_map.members)), "class map")
    right = int((answers_over_all(scores, class_map).numpy() == truth).sum())
    error = standard_errors.of_share(right, len(truth))
    over_all = {"top1_over_all": right / len(truth), **standard_errors.told({"top1_over_all": error})}
    return Scored(metrics | over_all, class_map, frozenset(np.unique(truth).tolist()))


def clean(
    scores: Tensor, labels: Tensor, class_map: ClassMap, occurring: frozenset[int] | None = None
) -> Scored:
    """Score images without shift by the rules of a shift set: those of its classes alone, as `mapped` does.

    Args:
        scores: (N, classes) logits or log-probabilities of all training classes.
        labels: (N,) indices of training classes; a sample of a class outside of the map is left out.
        class_map: that of the shift set.
        occurring: classes of the shift set that its images have, where not all do: others are left out.

    Raises:
        VitkdError: shapes differ, a label is no class, a score is not finite, or no sample is left.
    """
    truth = class_indices(labels, (len(scores), class_map.classes), "class map, clean images")
    own = class_map.owners().numpy()[truth]
    kept = np.flatnonzero(own != NO_CLASS if occurring is None else np.isin(own, sorted(occurring)))
    if not len(kept):
        raise VitkdError(f"class map: none of {len(own)} clean images is of a class of the shift set")
    return mapped(scores[torch.from_numpy(kept)], torch.from_numpy(own[kept]), class_map)


def drop(shift: Scored, unshifted: Scored) -> dict[str, float]:
    """Give what accuracy falls by: `drop` within the shift set's classes, `drop_over_all`, with errors.

    A drop is positive where the shifted images are harder, a difference of fractions. The standard errors are
    those of two independent sets of images.

    Raises:
        VitkdError: the two are not of the same classes under the same rule.
    """
    if shift.class_map.digest != unshifted.class_map.digest:
        one, two = shift.class_map, unshifted.class_map
        listed = ", of another list" if one.rule == two.rule else ""
        raise VitkdError(f"drop: shifted images are scored {one.rule}, clean ones {two.rule}{listed}")
    missing = sorted(shift.occurring ^ unshifted.occurring)
    if missing:
        raise VitkdError(f"drop: class {missing[0]} and {len(missing) - 1} more have images on one side only")
    found = {}
    for name, told in (("top1", "drop"), ("top1_over_all", "drop_over_all")):
        found[told] = unshifted.metrics[name] - shift.metrics[name]
        errors = [side.metrics.get(f"{name}_se") for side in (shift, unshifted)]
        if all(error is not None for error in errors):
            found[f"{told}_se"] = math.hypot(*(error or 0.0 for error in errors))
    return found


def shifted(
    scores: Tensor, labels: Tensor, class_map: ClassMap, *, clean_scores: Tensor, clean_labels: Tensor
) -> dict[str, float]:
    """Give all that a record keeps of a shift set, with its drop from clean images of the very same classes.

    What `mapped` gives; `clean_n`, `clean_top1`, ... (`CLEAN`), of the clean images whose class occurs among
    the shifted ones; `drop`, `drop_over_all`.

    Args:
        scores: (N, classes) scores of the shift set over all training classes.
        labels: (N,) its labels, 0 to M - 1.
        class_map: which training classes those are.
        clean_scores: (C, classes) scores of the images without shift.
        clean_labels: (C,) their labels, indices of training classes.

    Raises:
        VitkdError: shapes differ, a label is no class, a score is not finite, or a class of the shift set has
            no clean image.
    """
    there = mapped(scores, labels, class_map)
    here = clean(clean_scores, clean_labels, class_map, there.occurring)
    beside = {f"clean_{name}": here.metrics[name] for name in CLEAN if name in here.metrics}
    return {**there.metrics, **beside, **drop(there, here)}
