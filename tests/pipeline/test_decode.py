"""Decoding: every common kind of file becomes RGB, and a broken one is named."""

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitkd_bench.pipeline.decode import decode
from vitkd_bench.spec import WorldError

RED, GREEN = (255, 0, 0), (0, 255, 0)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def two_halves(size: tuple[int, int] = (8, 4)) -> Image.Image:
    """Left half red, right half green."""
    image = Image.new("RGB", size, RED)
    image.paste(GREEN, (size[0] // 2, 0, *size))
    return image


def photo(side: int = 64) -> Image.Image:
    """Smooth colours that compress well."""
    x = np.linspace(0, 255, side, dtype=np.uint8)
    return Image.fromarray(np.stack(np.broadcast_arrays(x, x[:, None], 255 - x), axis=-1).copy())


@pytest.mark.parametrize(
    ("size", "said"), [((9_500, 10_000), "9500 x 10000 pixels"), ((20_000, 10_000), "too large")]
)
def test_a_bomb_is_refused_before_it_is_decoded(size: tuple[int, int], said: str, tmp_path: Path) -> None:
    """An image of too many pixels is named with the limit, and nothing is said beside that line."""
    (tmp_path / "x.png").write_bytes(saved(Image.new("1", size), "PNG"))
    code = (
        "import pathlib\nfrom vitkd_bench.pipeline.decode import decode\n"
        "try: decode(pathlib.Path('x.png').read_bytes(), 'x', 8)\nexcept Exception as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(f"x: {said}.*89,478,485.* read at most\n", done.stdout)
    assert done.stderr == ""


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_kinds_give_the_pixels(kind: str) -> None:
    """Channel first, uint8, and the pixels that were saved."""
    options = {"lossless": True} if kind == "WEBP" else {}
    found = decode(saved(photo(), kind, **options), "x", None)
    assert found.dtype == np.uint8
    assert np.array_equal(found, np.asarray(photo()).transpose(2, 0, 1))


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (-1, -1)), (6, (0, -1)), (8, (-1, 0))])
def test_exif_rotation_is_applied(orientation: int, corner: tuple[int, int]) -> None:
    """A camera held sideways says so in EXIF; the marked corner turns up where a viewer shows it."""
    image = Image.new("RGB", (4, 4))
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(saved(image, "PNG", exif=exif), "x", None)
    assert np.argwhere(found[0]).tolist() == [[corner[0] % 4, corner[1] % 4]]


def test_palette_is_resolved() -> None:
    """A palette image, transparent entry included, gives the palette's colours."""
    paletted = two_halves().convert("P", palette=Image.Palette.ADAPTIVE)
    plain = decode(saved(paletted, "PNG"), "x", None)
    clear = decode(saved(paletted, "PNG", transparency=bytes([0, 255])), "x", None)
    assert np.array_equal(plain, np.asarray(two_halves()).transpose(2, 0, 1))
    assert np.array_equal(plain, clear)


def test_cmyk_becomes_rgb() -> None:
    """A CMYK JPEG, as print shops make them, is shown in its colours."""
    found = decode(saved(two_halves((32, 16)).convert("CMYK"), "JPEG", quality=95), "x", None).astype(int)
    assert found[:, 8, 4] == pytest.approx(RED, abs=12)
    assert found[:, 8, 28] == pytest.approx(GREEN, abs=12)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind: str) -> None:
    """16-bit grey keeps its shades; PIL's own conversion would turn all above 255 white."""
    shades = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    found = decode(saved(Image.fromarray(shades), kind), "x", None)
    assert np.array_equal(found[0].ravel(), np.arange(256))
    assert np.array_equal(found[0], found[2])


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGBA"])
def test_grey_and_transparent_images_have_three_channels(mode: str) -> None:
    """Other modes become RGB; transparency is dropped."""
    found = decode(saved(photo().convert(mode), "PNG"), "x", None)
    reference = np.asarray(photo().convert(mode).convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(found, reference)


def test_shorter_side_is_resized_and_the_centre_kept() -> None:
    """Of a wide image the centred square is taken, in one antialiased step."""
    wide = Image.new("RGB", (40, 10), RED)
    wide.paste(GREEN, (15, 0, 25, 10))
    found = decode(saved(wide, "PNG"), "x", 5)
    assert found.shape == (3, 5, 5)
    assert np.array_equal(found[1, :, 1:4], np.full((5, 3), 255))
    assert found[1].min() > 220, "only the filter's rim looks beyond the square"
    stripes = Image.fromarray(np.tile(np.array([[[0] * 3, [255] * 3]], np.uint8), (64, 32, 1)))
    grey = decode(saved(stripes, "PNG"), "x", 8)
    assert np.abs(grey.astype(int) - 127).max() < 20, "without antialiasing stripes come out black or white"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_file_is_named(kind: str, share: float) -> None:
    """A file cut off is an error that names it, never a grey half."""
    drawn = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    whole = saved(Image.fromarray(drawn), kind)
    with pytest.raises(WorldError, match=r"^birds/7\.img: "):
        decode(whole[: int(len(whole) * share)], "birds/7.img", 8)


@pytest.mark.parametrize(
    "data", [b"", b"<html>404</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_what_is_no_image_is_named(data: bytes) -> None:
    """An empty file, an error page, a program in PostScript: refused with the formats that can be read."""
    with pytest.raises(WorldError, match=r"^birds/7\.img: not an image; .*JPEG"):
        decode(data, "birds/7.img", 8)


def test_floating_point_pixels_are_refused() -> None:
    """Values without an agreed range are refused instead of guessed."""
    image = Image.fromarray(np.ones((4, 4), np.float32))
    with pytest.raises(WorldError, match="floating-point"):
        decode(saved(image, "TIFF"), "x", None)


def test_thirty_two_bit_grey_is_refused() -> None:
    """Grey beyond 16 bits is refused instead of clipped."""
    image = Image.fromarray(np.full((4, 4), 70_000, np.int32))
    with pytest.raises(WorldError, match="16 bits"):
        decode(saved(image, "TIFF"), "x", None)
