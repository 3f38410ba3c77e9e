"""Corruptions of ImageNet-C: 18 of its 19 families, each in five severities, as `fog@3`.

Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations
(arXiv:1903.12261): families and parameters are theirs, the code is not. `docs/corruptions.md` says what
differs, and why frost is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from vitkd_bench.spec import BadInputError
from vitkd_bench.spec.corruptions import CORRUPTIONS, FAMILIES, corruption_refused, parse_corruption

__all__ = ["CORRUPTIONS", "corrupt", "corruptions_for"]

if TYPE_CHECKING:
    from vitkd_bench.pipeline.corruptions.pixels import Pixels

    Corruption = Callable[[Pixels, int], Pixels]


def corruptions_for(channels: int, side: int = 224) -> tuple[str, ...]:
    """List the names that square images of 1 or 3 channels and `side` pixels may ask for."""
    return tuple(
        name for name in CORRUPTIONS if not corruption_refused(*parse_corruption(name), channels, side)
    )


def corrupt(name: str) -> Corruption:
    """Give the function that `name`, as `gaussian_noise@3`, stands for.

    It takes square pixels (C, S, S) uint8, C of 1 or 3, and a key (64 bits) from which all that is random is
    drawn; it gives new pixels of the same shape and type, has no state, and can be pickled.

    Raises:
        BadInputError: no such family or severity, with the nearest name; or, from the function, images that
            it does not take.
    """
    family, severity = parse_corruption(name)
    return partial(_corrupted, family, severity)


def _corrupted(family: str, severity: int, image: Pixels, key: int) -> Pixels:
    shape = image.shape
    if len(shape) != 3 or shape[0] not in {1, 3} or shape[1] != shape[2] or shape[1] < 2:
        raise BadInputError(f"corruption {family}: images {shape}; it takes square ones of 1 or 3 channels")
    if refusal := corruption_refused(family, severity, *shape[:2]):
        raise BadInputError(f"corruption {family}@{severity}: {refusal}")
    # found here: a plan that only names corruptions does not pay the import of scipy
    change = getattr(import_module(f"{__name__}.{FAMILIES[family]}"), family)
    changed: Pixels = change(image, key, severity)
    return changed
