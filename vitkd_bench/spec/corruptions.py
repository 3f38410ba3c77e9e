"""Corruptions that a suite may ask of any data set, `imagenet1k/fog@3`, and what they ask of its images."""

from __future__ import annotations

from vitkd_bench.spec.errors import BadInputError, nearest

GROUPS: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
}
"""Families of ImageNet-C (arXiv:1903.12261) by the module of `pipeline.corruptions` that makes them.

`extra` are those that the authors keep for validation. Frost is missing.
"""

FAMILIES = {family: group for group, families in GROUPS.items() for family in families}
SEVERITIES = (1, 2, 3, 4, 5)

CORRUPTIONS = tuple(f"{family}@{severity}" for family in FAMILIES for severity in SEVERITIES)
"""All of them, `family@severity`."""

COLOUR_ONLY = ("saturate",)  # means nothing for one channel
SMALLEST = {
    "defocus_blur": (48, 36, 24, 16, 16),
    "glass_blur": (80, 48, 48, 36, 28),
    "gaussian_blur": (96, 48, 32, 24, 16),
}
"""Sides in pixels, by severity, below which a blur of that length no longer reaches the next pixel.

Photographs change by less than one grey level on average (measured on six).
"""


def parse_corruption(name: str) -> tuple[str, int]:
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


def corruption_refused(family: str, severity: int, channels: int, side: int) -> str:
    """Say why images have to be refused, as they would come out as they went in; or nothing."""
    if family in COLOUR_ONLY and channels == 1:
        return "it changes colour, and images of one channel have none"
    sides = SMALLEST.get(family, (0,) * len(SEVERITIES))
    if side >= sides[severity - 1]:
        return ""
    enough = [f"{family}@{s}" for s in SEVERITIES if side >= sides[s - 1]]
    instead = f"; try {enough[0]}" if enough else ""
    return f"at {side} px it changes nothing that can be seen, from {sides[severity - 1]} px it does{instead}"
