"""Checks of one network on its own: its tokens, its features, its head, what it knows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vitkd_bench.contracts import taps
from vitkd_bench.diagnose.paired import accuracy_interval
from vitkd_bench.diagnose.probe import Reading
from vitkd_bench.diagnose.scores import Targets
from vitkd_bench.diagnose.twins import KNOWN_PIXELS
from vitkd_bench.diagnose.verdict import Check, Status
from vitkd_bench.networks import ViTNetwork
from vitkd_bench.networks.anatomy import anatomy_of, part
from vitkd_bench.networks.components import STORED_PRECISION
from vitkd_bench.networks.positions import apart_from_fixed, position_length
from vitkd_bench.spec import Architecture, Teacher, VitkdError

COLLAPSED = 0.99  # mean cosine between features of different images; trained networks: 0.03 to 0.6
UNTRAINED = 0.97  # of ln K: the entropy of a head that was never trained; trained ones: 0.3 to 0.8
TELLS_OWNERS = ("normalisation", "head split", "accuracy")  # checks in which teachers of one shape differ
FEWEST_IMAGES = 16  # that say anything of a head
ONE_CLASS = "not checked: the images are of one class"
WELL_ABOVE = 0.25  # of what a published accuracy lacks to 1: more is not explained by easier images
PUBLISHED_SHARE = 0.5  # of a published accuracy: below it the weights are not what was published


def token_check(network: ViTNetwork, architecture: Architecture) -> Check:
    """Run two images and compare heads, tokens and widths of every block with the contract."""
    depth, size = architecture.size.depth, architecture.size
    wanted = frozenset(taps.attention(i) for i in range(depth)) | {taps.tokens(depth - 1)}
    side = architecture.image_size
    pixels = torch.linspace(0, 1, 2 * architecture.channels * side * side)
    try:
        seen = network(pixels.reshape(2, architecture.channels, side, side), wanted)
    except (VitkdError, RuntimeError) as error:
        return Check(name="tokens", status="refuse", finding=f"a forward fails: {str(error).splitlines()[0]}")
    finally:
        network.clear()
    head = (2, size.heads, architecture.tokens, size.width // size.heads)
    for i in range(depth):
        found = tuple(seen.attention[i].q.shape)
        if found != head:
            finding = f"block {i} attends in (heads, tokens, width) {found[1:]}, the contract says {head[1:]}"
            return Check(name="tokens", status="refuse", finding=finding)
    finding = (
        f"{size.heads} heads, {architecture.tokens} tokens of which {architecture.prefix} are no patches"
    )
    return Check(name="tokens", status="pass", finding=f"{finding}, in each of {depth} blocks")


def position_check(network: ViTNetwork) -> Check | None:
    """Say of a position embedding that the contract calls learned where it is the fixed sin-cos one.

    Some releases keep a fixed table as a parameter, so that a network that goes on from it learns it: no
    fault. The other way round is refused when the weights are read. None where there is nothing to say.
    """
    at = network.architecture
    table = part(network.module, anatomy_of(network.module).position)
    if at.components.position != "learned" or table is None:
        return None
    apart = apart_from_fixed(table, position_length(at) - at.grid**2)
    orders = ("row before column", "column before row")
    found = [order for order, far in zip(orders, apart or (), strict=False) if far <= STORED_PRECISION]
    if not found:
        return None
    finding = f"stored as learned; the table is the fixed 2D sin-cos one, {found[0]}, not trained so far"
    return Check(name="position", status="note", finding=finding)


def feature_check(reading: Reading, *, photographs: bool) -> Check:
    """Refuse features that are not finite or all the same; on made-up images only mark the latter."""
    pooled = reading.pooled
    if not np.isfinite(pooled).all():
        return Check(name="features", status="refuse", finding="features are not finite")
    directions = reading.directions()
    n = len(directions)
    similar = float((directions.sum(axis=0) ** 2).sum() - (directions**2).sum()) / (n * (n - 1))
    constant = float((pooled.std(axis=0) < 1e-6 * max(float(np.abs(pooled).max()), 1e-12)).mean())
    figures = {
        "mean cosine between images": round(similar, 4),
        "constant channels": round(constant, 4),
        "effective rank": round(_effective_rank(pooled), 1),
    }
    wrong: Status = "refuse" if photographs else "mark"
    if similar > COLLAPSED:
        finding = f"features are nearly the same for every image (mean cosine {similar:.4f})"
        return Check(name="features", status=wrong, finding=finding, figures=figures)
    if constant > 0.5:
        finding = f"{100 * constant:.0f} % of the feature's channels are constant"
        return Check(name="features", status=wrong, finding=finding, figures=figures)
    return Check(
        name="features", status="pass", finding="finite, and different for each image", figures=figures
    )


def _effective_rank(pooled: NDArray[np.float64]) -> float:
    """Give exp of the entropy of the shares of variance (Roy and Vetterli 2007)."""
    values = np.linalg.svd(pooled - pooled.mean(axis=0), compute_uv=False) ** 2
    shares = values[values > 0] / values.sum() if values.sum() > 0 else np.ones(1)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def head_check(reading: Reading, *, photographs: bool) -> Check | None:
    """Tell an untrained head by its entropy near ln K, and a dead one by giving one class for everything."""
    values = reading.normal_logits()
    if values is None:
        return None
    n, classes = values.shape
    if not np.isfinite(values).all():
        return Check(name="head", status="refuse", finding="the head's values are not finite")
    entropy = float(-(np.exp(values) * values).sum(axis=1).mean()) / math.log(classes)
    used = len(np.unique(values.argmax(axis=1)))
    figures = {"entropy / ln K": round(entropy, 4), "classes used": float(used), "images": float(n)}
    wrong: Status = "refuse" if photographs else "mark"
    if entropy > UNTRAINED:
        finding = f"the head is untrained: mean entropy is {100 * entropy:.1f} % of ln {classes}"
        return Check(name="head", status=wrong, finding=finding, figures=figures)
    if photographs and used == 1 and n >= FEWEST_IMAGES:
        return Check(
            name="head",
            status="refuse",
            finding=f"the head gives one class for all {n} images",
            figures=figures,
        )
    finding = f"mean entropy {100 * entropy:.0f} % of ln {classes}, {used} classes on {n} images"
    return Check(name="head", status="pass", finding=finding, figures=figures)


def accuracy_check(
    teacher: Teacher, reading: Reading, targets: Targets, hits: NDArray[np.bool_], side: int
) -> Check:
    """Compare accuracy with the published one, if the images cover the head's classes, and with chance.

    Images that a teacher was trained on lie above what is published, so that is told, and marked where it is
    by more than `WELL_ABOVE`.
    """
    n, right = len(hits), int(hits.sum())
    low, high = accuracy_interval(right, n)
    choices = reading.logits.shape[1] if reading.logits is not None else 0
    offered = len(targets.columns) if targets.columns is not None else choices
    if offered == 1:
        return Check(name="accuracy", status="note", finding=ONE_CLASS)
    figures = {"top1": round(right / n, 4), "low": round(low, 4), "high": round(high, 4), "images": float(n)}
    figures |= _top5(reading, targets)
    said = f"top-1 {100 * right / n:.1f} % of {n} images (99 % interval {100 * low:.1f} to {100 * high:.1f})"
    if low <= 1 / offered and n >= FEWEST_IMAGES:
        return Check(
            name="accuracy", status="refuse", finding=f"{said}: no better than chance", figures=figures
        )
    published = [a for a in teacher.accuracy if a.kind in {"top1", "zero_shot"} and a.image_size == side]
    known = teacher.head is not None and offered == teacher.head.num_classes
    if not published or not known:
        return Check(
            name="accuracy",
            status="note",
            finding=f"{said}: no published figure to set beside it",
            figures=figures,
        )
    figure = published[0]
    beside = f"{said}; published {100 * figure.value:.1f} %"
    if high < PUBLISHED_SHARE * figure.value:
        return Check(name="accuracy", status="refuse", finding=beside, figures=figures)
    if high < figure.value:
        return Check(name="accuracy", status="mark", finding=f"{beside}: below it", figures=figures)
    if low > figure.value + WELL_ABOVE * (1 - figure.value):
        finding = f"{beside}: well above it, as other weights or images of the training are"
        return Check(name="accuracy", status="mark", finding=finding, figures=figures)
    above = low > figure.value
    finding = f"{beside}: above it, as on images of the training" if above else beside
    return Check(name="accuracy", status="note" if above else "pass", finding=finding, figures=figures)


def _top5(reading: Reading, targets: Targets) -> dict[str, float]:
    if reading.logits is None or targets.columns is None or len(targets.columns) < 6:
        return {}
    offered = reading.logits[:, targets.columns]
    own = offered[np.arange(len(offered)), targets.at][:, None]
    return {"top5": round(float(((offered > own).sum(axis=1) < 5).mean()), 4)}


def neighbour_check(mean_hits: NDArray[np.bool_], knn: NDArray[np.bool_], classes: int, name: str) -> Check:
    """Say how well features alone find the class; near chance they know nothing of these images."""
    if classes == 1:
        return Check(name="features know classes", status="note", finding=ONE_CLASS)
    n = len(mean_hits)
    low, _ = accuracy_interval(int(mean_hits.sum()), n)
    figures = {
        "nearest class mean": round(float(mean_hits.mean()), 4),
        "10-NN": round(float(knn.mean()), 4),
        "images": float(n),
        "classes": float(classes),
    }
    said = f"nearest class mean {100 * mean_hits.mean():.1f} %, 10-NN {100 * knn.mean():.1f} % ({name})"
    if low <= 1 / classes:
        return Check(
            name="features know classes",
            status="mark",
            finding=f"{said}: no better than chance",
            figures=figures,
        )
    return Check(name="features know classes", status="pass", finding=said, figures=figures)


def owner_check(teacher: Teacher, others: Sequence[Teacher], found: Sequence[Check]) -> Check | None:
    """Say which other teachers a file fits as well; a mark where another check speaks against this one."""
    if not others:
        return None
    against = [c for c in found if c.name in TELLS_OWNERS and c.status in {"mark", "refuse"}]
    wanted = " ".join(check.finding for check in against)
    pixels = {name for name, stats in KNOWN_PIXELS.items() if name in wanted}
    likely = sorted(others, key=lambda one: not any(KNOWN_PIXELS[name] == one.pixels for name in pixels))
    named = ", ".join(one.name for one in likely)
    told = f"names and shapes fit {named} as well"
    if not against:
        finding = f"{told}, and cannot tell them apart"
        return Check(name="owner", status="note", finding=finding)
    doubts = " and ".join(check.name for check in against)
    return Check(
        name="owner",
        status="mark",
        finding=f"{told}, and {doubts} speaks against {teacher.name}: check the file as {likely[0].name}",
    )
