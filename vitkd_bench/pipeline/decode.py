"""From the bytes of an image file to an array: RGB, turned as its EXIF says, square, uint8."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vitkd_bench.contracts import Images, Look
from vitkd_bench.spec import WorldError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is tried; PIL would also start interpreters (PostScript) for a file that asks for it."""


ORIENTATION = 0x0112  # the EXIF tag that says how an image is turned
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
MOST_PIXELS = 89_478_485
"""More are taken for a decompression bomb (PIL's own limit, a quarter of a GiB in RGB)."""

# such an image is refused here; PIL's warning beside it would say no more
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def decode(data: bytes, where: str, image_size: int | None) -> NDArray[np.uint8]:
    """Decode one image to (3, H, W) uint8, as `opened` and `resize_square` say.

    With `image_size` the largest centred square is resized to that side by PIL's antialiased bicubic filter
    (shorter side first and then the centre crop, in one step); without it nothing is resized.

    Raises:
        WorldError: as `opened`.
    """
    return as_array(resize_square(opened(data, where), image_size))


Needed = Callable[[tuple[int, int]], float]
"""The share of its size, (width, height), that an image may be decoded at and still be resized downwards."""


def opened(data: bytes, where: str, needed: Needed | None = None) -> Image.Image:
    """Decode one image to RGB, 8 bits.

    EXIF rotation is applied; palette, grey and CMYK become RGB, transparency is dropped (the colour below it
    stays), 16-bit grey is scaled by 1 / 257, of an animation the first frame is taken. With `needed` a JPEG
    that is not turned is decoded at 1/2, 1/4 or 1/8 of its size where that is at least the share it names.

    Raises:
        WorldError: truncated, not one of `FORMATS`, more than `MOST_PIXELS`, or of a kind that has no 8-bit
            form; names `where`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as found:
            _refuse_bomb(found.size, where)
            if needed is not None and found.format == "JPEG" and found.getexif().get(ORIENTATION, 1) == 1:
                share = needed(found.size)
                found.draft(None, (math.ceil(found.width * share), math.ceil(found.height * share)))
            found.load()
            ImageOps.exif_transpose(found, in_place=True)  # a copy is made of a turned image alone
            return _rgb(found, where)
    except WorldError:
        raise
    except Image.DecompressionBombError:
        raise WorldError(f"{where}: too large; {MOST_PIXELS:,} pixels are read at most") from None
    except UnidentifiedImageError:
        raise WorldError(f"{where}: not an image; {', '.join(FORMATS)} can be read") from None
    except Exception as error:  # noqa: BLE001 - PIL's plugins raise whatever broken bytes lead them to
        raise WorldError(f"{where}: cannot be decoded: {str(error) or type(error).__name__}") from None


def _refuse_bomb(size: tuple[int, int], where: str) -> None:
    if math.prod(size) > MOST_PIXELS:
        raise WorldError(f"{where}: {size[0]} x {size[1]} pixels; {MOST_PIXELS:,} are read at most")


def as_array(image: Image.Image) -> NDArray[np.uint8]:
    """Give an image as (C, H, W) uint8."""
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None])


def shown(
    images: Images, index: int, look: Look | None, crop: float = 1.0, *, scaled: bool = False
) -> NDArray[np.uint8]:
    """Read and decode one image, and cut the largest centred square to a look: (C, S, S) uint8.

    `crop` is the share of the square's side that is kept; without a look nothing is cut or resized. With
    `scaled` a large JPEG is decoded at a part of its size.

    Raises:
        WorldError: it cannot be read or decoded; names it.
    """
    found = images.read(index)
    side, interpolation = (None, "bicubic") if look is None else (look.side, look.interpolation)
    if isinstance(found, bytes):
        needed = None if look is None or not scaled else lambda size: look.side / (min(size) * crop)
        return as_array(resize_square(opened(found, images.place(index), needed), side, interpolation, crop))
    if found.dtype != np.uint8 or found.ndim != 3:
        raise WorldError(
            f"{images.place(index)}: pixels {found.shape} {found.dtype}; (C, H, W) uint8 is needed"
        )
    if side is None or (crop == 1 and found.shape[1:] == (side, side)):
        return found
    planes = [resize_square(Image.fromarray(plane), side, interpolation, crop) for plane in found]
    return np.stack([np.asarray(plane) for plane in planes])


def resize_square(
    image: Image.Image, side: int | None, interpolation: str = "bicubic", crop: float = 1.0
) -> Image.Image:
    """Cut the largest centred square and resize it to `side` pixels, antialiased; None: as it is.

    Of the square the middle is kept, `crop` of its side.
    """
    if side is None or (image.size == (side, side) and crop == 1):
        return image
    width, height = image.size
    kept = min(width, height) * crop
    left, top = (width - kept) / 2, (height - kept) / 2
    return image.resize((side, side), RESAMPLING[interpolation], box=(left, top, left + kept, top + kept))


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
    return image if image.mode == "RGB" else image.convert("RGB")
