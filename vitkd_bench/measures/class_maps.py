"""Which training classes the classes of a shift set are, and the scores that go with them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from vitkd_bench.measures.arrays import blocks, check_scores
from vitkd_bench.spec import VitkdError
from vitkd_bench.spec.canonical import content_hash

Pool = Literal["sum", "mean"]
NO_CLASS = -1


@dataclass(frozen=True, slots=True)
class ClassMap:
    """Classes 0 to M - 1 of a shift set, each one or several of the N classes that a network was trained on.

    `members` are M tuples of indices in 0 to N - 1, in the order of the shift set's labels; no index stands
    in two. `pool` makes one probability of several: their `sum`, that of "one of these", or their `mean`, as
    the 16 classes of Geirhos et al. want it (arXiv:1811.12231), where a class of many members has no
    advantage.

    Raises:
        VitkdError: fewer than two classes, an empty one, an index outside of 0 to N - 1 or one that stands
            twice; all when it is made.
    """

    members: tuple[tuple[int, ...], ...]
    classes: int
    pool: Pool = "sum"

    def __post_init__(self) -> None:
        """Check the map."""
        if len(self.members) < 2:
            raise VitkdError(f"class map: {len(self.members)} classes; two are the fewest")
        if self.pool not in get_args(Pool):
            raise VitkdError(f"class map: pool is {self.pool!r}; {' or '.join(get_args(Pool))}")
        empty = [i for i, own in enumerate(self.members) if not own]
        if empty:
            raise VitkdError(f"class map: class {empty[0]} is none of the {self.classes} training classes")
        for index, times in Counter(index for own in self.members for index in own).items():
            if not 0 <= index < self.classes:
                raise VitkdError(f"class map: {index} is none of the {self.classes} training classes")
            if times > 1:
                raise VitkdError(f"class map: training class {index} stands {times} times")

    @property
    def rule(self) -> str:
        """What is scored, for people: `within 200 of 1000 classes`, or `...; mean of 207` of those pooled."""
        several = f"; {self.pool} of {self._used}" if self._used > len(self.members) else ""
        return f"within {len(self.members)} of {self.classes} classes{several}"

    @property
    def digest(self) -> str:
        """Hash of the map: numbers of equal ones are of the same classes, under the same rule."""
        pool = self.pool if self._used > len(self.members) else None
        return content_hash([[sorted(own) for own in self.members], self.classes, pool])

    @property
    def _used(self) -> int:
        return sum(map(len, self.members))

    def facts(self, clean_split: str) -> dict[str, str]:
        """Say how a split was scored, as a record keeps it; `clean_split` is what its drop is from."""
        return {"rule": self.rule, "classes": self.digest, "clean_split": clean_split}

    def owners(self) -> Tensor:
        """Give (N,) the class of the shift set that each training class is, -1 if it is none."""
        owner = torch.full((self.classes,), NO_CLASS)
        for i, own in enumerate(self.members):
            owner[list(own)] = i
        return owner


def restricted(scores: Tensor, class_map: ClassMap) -> Tensor:
    """Give scores (N, M) in float64 of a shift set's classes, from those of all training classes.

    They are logs of the pooled probabilities, up to a constant of each sample: `classification`, `fidelity`
    and `predictions` normalise what they are given. A class of one index keeps its score to the last bit.

    Args:
        scores: (N, classes) logits or log-probabilities of all training classes.
        class_map: which of them are whose.

    Raises:
        VitkdError: another number of classes, or a value that is not finite.
    """
    _check(scores, class_map)
    return torch.cat([_pooled(block, class_map) for block in blocks(scores)])


def answers_over_all(scores: Tensor, class_map: ClassMap) -> Tensor:
    """Give (N,) the shift set's class that the first of all training classes belongs to, -1 if to none.

    Of equal scores the smaller index is first.

    Raises:
        VitkdError: another number of classes, or a value that is not finite.
    """
    _check(scores, class_map)
    # numpy takes the first of equals
    first = [torch.from_numpy(block.numpy().argmax(axis=1)) for block in blocks(scores)]
    return class_map.owners()[torch.cat(first)]


def _check(scores: Tensor, class_map: ClassMap) -> None:
    check_scores(scores, "class map")
    if scores.shape[1] != class_map.classes:
        raise VitkdError(f"class map: of {class_map.classes} training classes, scores of {scores.shape[1]}")


def _pooled(block: Tensor, class_map: ClassMap) -> Tensor:
    if all(len(own) == 1 for own in class_map.members):
        return block[:, [own[0] for own in class_map.members]]
    columns = [torch.logsumexp(block[:, sorted(own)], dim=1) for own in class_map.members]
    pooled = torch.stack(columns, dim=1)
    if class_map.pool == "mean":
        pooled -= torch.tensor([len(own) for own in class_map.members], dtype=torch.float64).log()
    return pooled
