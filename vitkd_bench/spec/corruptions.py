"""Names of the corruptions that a suite may ask of any data set: `imagenet1k/fog@3`."""

from __future__ import annotations

CORRUPTION_FAMILIES = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
    "speckle_noise",
    "gaussian_blur",
    "spatter",
    "saturate",
)
"""Families of ImageNet-C (arXiv:1903.12261), made by `pipeline.corruptions`; without frost."""

SEVERITIES = (1, 2, 3, 4, 5)

CORRUPTIONS = tuple(f"{family}@{severity}" for family in CORRUPTION_FAMILIES for severity in SEVERITIES)
"""All of them, `family@severity`."""
