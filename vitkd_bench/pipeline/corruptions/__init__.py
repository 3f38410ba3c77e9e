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

from vitkd_bench.spec import BadInputError, nearest
from vitkd_bench.spec.corruptions import CORRUPTIONS, SEVERITIES, SMALLEST, corruption_refused

__all__ = [
    "CORRUPTIONS",
    "FAMILIES",
    "SEVERITIES",
    "SMALLEST",
    "corrupt",
    "corruptions_for",
    "parsed",
]

if TYPE_CHECKING:
    from vitkd_bench.pipeline.corruptions.pixels import Pixels

    Corruption = Callable[[Pixels, int], Pixels]

GROUPS: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
}
"""Families by the module that they stand in; `extra` are those that the authors keep for validation."""

FAMILIES = {family: group for group, families in GROUPS.items() for family in families}


def corruptions_for(channels: int, side: int = 224) -> tuple[str, ...]:
    """List the names that square images of 1 or 3 channels and `side` pixels may ask for."""
    return tuple(name for name in CORRUPTIONS if not corruption_refused(*parsed(name), channels, side))


def corrupt(name: str) -> Corruption:
    """Give the function that `name`, as `gaussian_noise@3`, stands for.

    It takes square pixels (C, S, S) uint8, C of 1 or 3, and a key (64 bits) from which all that is random is
    drawn; it gives new pixels of the same shape and type, has no state, and can be pickled.

    Raises:
        BadInputError: no such family or severity, with the nearest name; or, from the function, images that
            it does not take.
    """
    family, severity = parsed(name)
    return partial(_corrupted, family, severity)


def parsed(name: str) -> tuple[str, int]:
    """Read `family@severity`.

    Raises:
        BadInputError: no such family or severity, with the nearest name.
    """
    family, _, severity = name.partition("@")
    if family == "frost":
        raise BadInputError(
            f"corruption {name!r}: frost is made with photographs of its authors, which are not shipped; "
            "take snow or fog"
        )
    if family not in FAMILIES:
        raise BadInputError(f"unknown corruption {name!r}{nearest(family, FAMILIES)}")
    if severity not in {str(level) for level in SEVERITIES}:
        raise BadInputError(f"corruption {name!r}: its severity is 1 to 5: {family}@1 ... {family}@5")
    return family, int(severity)


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
