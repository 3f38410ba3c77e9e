"""The declared reading of the weights beside its twins, on the same images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitkd_bench.diagnose.paired import Comparison, compare
from vitkd_bench.diagnose.probe import Reading, read
from vitkd_bench.diagnose.scores import Scores, Targets, paired_t, score
from vitkd_bench.diagnose.twins import Kind, Twin
from vitkd_bench.diagnose.verdict import Check
from vitkd_bench.networks import ViTNetwork

FIRST_LOOK = 24  # images after which a hopeless twin is dropped
HOPELESS = -5.0  # t of the contrast below which it is
CERTAIN = 1e-3  # p of wins, below which a twin is better by more than chance
CERTAIN_T = 4.0  # the same for the fitted loss
CLEAR_T = 6.0  # the same for the contrast, which knows no labels
CLEAR_SHARE = 0.2  # of what the declared contrast lacks to 1, that a twin has to make good

_KINDS: dict[Kind, str] = {
    "pixels": "normalisation",
    "heads": "head split",
    "queries_keys": "queries and keys",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a twin fares beside the declared reading on `n` images; positive `t` speaks for the twin.

    `gain` is the share of the declared contrast's distance to 1 that the twin makes good.
    """

    twin: Twin
    n: int
    hits: Comparison | None
    loss_t: float
    contrast_t: float
    gain: float

    @property
    def better_by_labels(self) -> bool:
        """Whether labels say that the twin is right, and contrast does not speak against it."""
        wins = self.hits is not None and self.hits.p < CERTAIN
        return (wins or self.loss_t > CERTAIN_T) and self.contrast_t > HOPELESS

    @property
    def better_by_contrast(self) -> bool:
        """Whether features say so, without labels."""
        return self.contrast_t > CLEAR_T and self.gain > CLEAR_SHARE

    @property
    def hopeless(self) -> bool:
        """Whether more images would not change anything."""
        return self.contrast_t < HOPELESS and not self.better_by_labels


@dataclass(slots=True)
class Trial:
    """The images, what is right for them, and how the network as declared reads them and their mirrors."""

    network: ViTNetwork
    images: NDArray[np.uint8]
    targets: Targets | None
    declared: Reading
    mirrored: Reading

    @classmethod
    def of(cls, network: ViTNetwork, images: NDArray[np.uint8], targets: Targets | None) -> Trial:
        """Read the images as declared."""
        return cls(network, images, targets, read(network, images), read(network, images, flip=True))

    def scores(self) -> Scores:
        """Score the declared reading on all images."""
        return score(self.declared, self.mirrored, self.targets)

    def run(self, twin: Twin) -> Outcome:
        """Try a twin on the first images, and on all of them unless it is hopeless."""
        looks = [n for n in (FIRST_LOOK, len(self.images)) if n <= len(self.images)]
        seen, mirror = Reading.none(), Reading.none()
        outcome: Outcome | None = None
        for n in looks:
            rest = self.images[len(seen) : n]
            if len(rest):
                seen += read(self.network, rest, twin)
                mirror += read(self.network, rest, twin, flip=True)
            outcome = self._compared(twin, seen, mirror)
            if outcome.hopeless:
                break
        if outcome is None:
            raise ValueError("a trial needs images")
        return outcome

    def _compared(self, twin: Twin, seen: Reading, mirror: Reading) -> Outcome:
        n = len(seen)
        targets = self.targets.first(n) if self.targets else None
        own = score(self.declared.first(n), self.mirrored.first(n), targets)
        other = score(seen, mirror, targets)
        gained = other.contrast - own.contrast
        hits, loss_t = None, 0.0
        if (
            own.hits is not None
            and other.hits is not None
            and own.loss is not None
            and other.loss is not None
        ):
            hits, loss_t = compare(other.hits, own.hits), paired_t(own.loss - other.loss)
        lacking = float(1 - own.contrast.mean())
        gain = float(gained.mean()) / lacking if lacking > 0 else 0.0
        return Outcome(twin, n, hits, _capped(loss_t), _capped(paired_t(gained)), gain)


def _capped(t: float) -> float:
    """A t value that JSON can hold."""
    return float(np.clip(t, -1e6, 1e6))


def twin_checks(outcomes: list[Outcome]) -> tuple[Check, ...]:
    """Make one check of each kind of misreading."""
    kinds = list(dict.fromkeys(outcome.twin.kind for outcome in outcomes))
    return tuple(_check(kind, [o for o in outcomes if o.twin.kind == kind]) for kind in kinds)


def _check(kind: Kind, outcomes: list[Outcome]) -> Check:
    name, figures = _KINDS[kind], {k: v for o in outcomes for k, v in _figures(o).items()}
    labelled = [o for o in outcomes if o.better_by_labels]
    if labelled:
        best = max(labelled, key=lambda o: (o.hits.points if o.hits else 0.0, o.loss_t))
        points = f"{best.hits.points:+.1f} points, " if best.hits else ""
        finding = f"these weights want {best.twin.name} ({points}loss t {best.loss_t:.1f}, {best.n} images)"
        return Check(name=name, status="refuse", finding=finding, figures=figures)
    clear = [o for o in outcomes if o.better_by_contrast]
    if clear:
        best = max(clear, key=lambda o: o.gain)
        finding = (
            f"features tell an image from others better under {best.twin.name} "
            f"(mirror contrast t {best.contrast_t:.1f}, {best.n} images)"
        )
        return Check(name=name, status="mark", finding=finding, figures=figures)
    beaten = ", ".join(o.twin.name for o in outcomes)
    return Check(name=name, status="pass", finding=f"no worse than {beaten}", figures=figures)


def _figures(outcome: Outcome) -> dict[str, float]:
    twin = outcome.twin.name
    found = {f"{twin}: n": float(outcome.n), f"{twin}: contrast t": round(outcome.contrast_t, 2)}
    if outcome.hits:
        found[f"{twin}: points"] = round(outcome.hits.points, 2)
        found[f"{twin}: loss t"] = round(outcome.loss_t, 2)
    return found
