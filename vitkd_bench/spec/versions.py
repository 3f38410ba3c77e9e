"""Small version numbers that stand in every run's id: raise one when a change moves numbers on purpose."""

from __future__ import annotations

VERSIONS = {
    "engine": 1,  # loop, schedule, optimiser, order of random draws
    "initialisation": 1,  # how students' weights are drawn
    "pixels": 1,  # decoding, resizing, augmentation
    "metrics": 1,  # what is measured, and how it is averaged
}
