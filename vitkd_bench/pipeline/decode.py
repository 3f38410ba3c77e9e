"""From the bytes of an image file to an array: RGB, turned as its EXIF says, square, uint8."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vitkd_bench.spec import WorldError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is tried; PIL would also start interpreters (PostScript) for a file that asks for it."""


def decode(data: bytes, where: str, image_size: int | None) -> NDArray[np.uint8]:
    """Decode one image to (3, H, W) uint8.

    EXIF rotation is applied; palette, grey and CMYK become RGB, transparency is dropped (the colour below it
    stays), 16-bit grey is scaled by 1 / 257, of an animation the first frame is taken. With `image_size` the
    largest centred square is resized to that side by PIL's antialiased bicubic filter (shorter side first and
    then the centre crop, in one step); without it nothing is resized.

    Raises:
        WorldError: truncated, not one of `FORMATS`, or of a kind that has no 8-bit form; names `where`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            opened.load()
            image = _rgb(ImageOps.exif_transpose(opened), where)
    except WorldError:
        raise
    except UnidentifiedImageError:
        raise WorldError(f"{where}: not an image; {', '.join(FORMATS)} can be read") from None
    except Exception as error:  # noqa: BLE001 - PIL's plugins raise whatever broken bytes lead them to
        raise WorldError(f"{where}: cannot be decoded: {str(error) or type(error).__name__}") from None
    return np.ascontiguousarray(np.asarray(resize_square(image, image_size)).transpose(2, 0, 1))


def resize_square(image: Image.Image, side: int | None) -> Image.Image:
    """Cut the largest centred square and resize it to `side` pixels, bicubic, antialiased; None: as it is."""
    if side is None or image.size == (side, side):
        return image
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short)
    return image.resize((side, side), Image.Resampling.BICUBIC, box=box)


def _rgb(image: Image.Image, where: str) -> Image.Image:
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.float64)
        if grey.min() < 0 or grey.max() > 65535:
            raise WorldError(f"{where}: grey values beyond 16 bits; save it with 8 or 16")
        return Image.fromarray(np.rint(grey / 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise WorldError(f"{where}: floating-point pixels have no agreed range; save it with 8 or 16 bits")
    if "transparency" in image.info:
        image = image.convert("RGBA")  # PIL warns of the direct way
    return image.convert("RGB")
