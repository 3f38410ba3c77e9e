"""Filters of corruptions: Gaussian, any kernel, a smear to one side, a zoom about the centre."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from scipy import ndimage

from vitkd_bench.pipeline.corruptions.pixels import Floats

_FINE = 8  # points a pixel and axis, where the area of a disk is counted


def gaussian(planes: Floats, sigma: float) -> Floats:
    """Blur (..., H, W) by a Gaussian of `sigma` pixels, cut at 4 of them; edges are continued."""
    still = (0.0,) * (planes.ndim - 2)
    return np.asarray(ndimage.gaussian_filter(planes, (*still, sigma, sigma), mode="nearest", truncate=4.0))


def filtered(planes: Floats, kernel: Floats, edges: Literal["edge", "reflect"]) -> Floats:
    """Give each pixel of (C, H, W) the sum of its surroundings times `kernel` (odd, odd)."""
    tall, wide = (side // 2 for side in kernel.shape)
    around = np.pad(planes, ((0, 0), (tall, tall), (wide, wide)), mode=edges)
    size = around.shape[1:]
    spectrum = np.fft.rfft2(around) * np.conj(np.fft.rfft2(kernel, size))
    return np.asarray(np.fft.irfft2(spectrum, size)[:, : planes.shape[1], : planes.shape[2]])


def disk(radius: float) -> Floats:
    """Give a disk of `radius` pixels as a kernel of sum 1: each pixel as much as the disk covers of it."""
    reach = math.ceil(radius)
    fine = (np.arange((2 * reach + 1) * _FINE) + 0.5) / _FINE - reach - 0.5
    inside = fine[:, None] ** 2 + fine[None, :] ** 2 <= radius**2
    covered = inside.reshape(2 * reach + 1, _FINE, 2 * reach + 1, _FINE).sum((1, 3))
    return np.asarray(covered / covered.sum())


def smear(radius: float, sigma: float, degrees: float, scale: float) -> Floats:
    """Give the trail of a moving point as a kernel of sum 1: half a Gaussian, to one side.

    It has 2 x `radius` + 1 steps of `scale` pixels with weights of a Gaussian of `sigma` steps, as in
    ImageMagick; a step between pixels is shared by the four around it.
    """
    steps = range(2 * math.ceil(radius) + 1)
    reach = math.ceil(len(steps) * scale) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for step in steps:
        weight = math.exp(-(step**2) / (2 * sigma**2))
        down = reach + step * scale * math.sin(math.radians(degrees))
        across = reach + step * scale * math.cos(math.radians(degrees))
        top, left = math.floor(down), math.floor(across)
        rows, columns = (np.array([1 - part, part]) for part in (down - top, across - left))
        kernel[top : top + 2, left : left + 2] += weight * rows[:, None] * columns[None, :]
    return np.asarray(kernel / kernel.sum())


def zoomed(planes: Floats, factor: float) -> Floats:
    """Enlarge (..., S, S) about its centre by `factor` >= 1, bilinear; what leaves the frame is cut off."""
    side = planes.shape[-1]
    middle = (side - 1) / 2
    return at_lines(planes, middle + (np.arange(side) - middle) / factor)


def at_lines(planes: Floats, lines: Floats) -> Floats:
    """Read (..., S, S) at the rows `lines` and the columns `lines`, bilinear between pixels."""
    first = np.floor(lines).astype(np.int64).clip(0, max(planes.shape[-1] - 2, 0))
    part = lines - first
    rows = planes[..., first, :] * (1 - part)[:, None] + planes[..., first + 1, :] * part[:, None]
    return np.asarray(rows[..., first] * (1 - part) + rows[..., first + 1] * part)
