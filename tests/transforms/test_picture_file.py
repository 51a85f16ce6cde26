"""A picture is read as every viewer shows it, all of it, or refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from monai_difom.transforms import open_picture, picture_facts, read_picture_file
from tests import odd_files as odd

P = odd.picture()
GREY = P[..., 0]
Writer = Callable[[Path], object]

# name -> suffix, writer, what is read, how near
UNDERSTOOD: dict[str, tuple[str, Writer, np.ndarray, int]] = {
    **{
        f"EXIF orientation {n}, {suffix}": (
            suffix,
            lambda p, n=n: odd.save(p, odd.stored_for(P, n), exif=odd.exif(n)),
            P,
            0,
        )
        for n in range(1, 9)
        for suffix in ("png", "tif")
    },
    "a turned JPEG": (
        "jpg",
        lambda p: odd.save(p, odd.stored_for(P, 6), exif=odd.exif(6), quality=100, subsampling=0),
        P,
        4,
    ),
    "an orientation that there is not": ("png", lambda p: odd.save(p, P, exif=odd.exif(0)), P, 0),
    "JFIF": ("jfif", lambda p: p.write_bytes(odd.jpeg(GREY, 100)), GREY[..., None].repeat(3, 2), 4),
    "EXIF behind the pixels": (
        "png",
        lambda p: p.write_bytes(odd.exif_at_the_end(odd.stored_for(P, 6), 6)),
        P,
        0,
    ),
    "lossless WebP": ("webp", lambda p: odd.save(p, P, lossless=True), P, 0),
    "GIF": ("gif", lambda p: odd.save(p, GREY), GREY[..., None].repeat(3, 2), 0),
    "BMP": ("bmp", lambda p: odd.save(p, P), P, 0),
    "grey": ("png", lambda p: odd.save(p, GREY), GREY[..., None].repeat(3, 2), 0),
    "16 bits of grey": (
        "png",
        lambda p: odd.save(p, GREY * np.uint16(257)),
        GREY[..., None].repeat(3, 2),
        0,
    ),
    "16 bits of colour": ("png", lambda p: p.write_bytes(odd.deep_colour(P * np.uint16(257))), P, 0),
    "16 bits of colour, TIFF": ("tif", lambda p: tifffile.imwrite(p, P * np.uint16(257)), P, 0),
    "opaque": ("png", lambda p: odd.save(p, P, "RGBA"), P, 0),
    "half transparent": (
        "png",
        lambda p: odd.save(p, np.dstack([P, odd.shape() * np.uint8(255)])),
        P,
        0,
    ),
    "a picture in another's name": ("jpg", lambda p: Image.fromarray(P).save(p, format="PNG"), P, 0),
    "black in 16 bits": ("png", lambda p: odd.save(p, np.zeros(P.shape[:2], np.uint16)), P * 0, 0),
    "black in 16-bit colours": ("png", lambda p: p.write_bytes(odd.deep_colour(P * np.uint16(0))), P * 0, 0),
    "a phone's preview behind the photograph": (
        "jpg",
        lambda p: odd.pages(p, P, P[::2, ::2], format="MPO", quality=100, subsampling=0),
        P,
        4,
    ),
}
REFUSED: dict[str, tuple[str, Writer, str]] = {
    **{
        f"{bits} bits in 16": (
            "png",
            lambda p, bits=bits: odd.save(p, (GREY.astype(np.uint16) << 8) >> (16 - bits)),
            f"look like {bits} bits in a 16-bit file",
        )
        for bits in (8, 10, 12, 14)
    },
    "12 bits in 16-bit colours": (
        "png",
        lambda p: p.write_bytes(odd.deep_colour(P * np.uint16(16))),
        "bits in a 16-bit file",
    ),
    "8 bits in 16-bit colours": ("png", lambda p: p.write_bytes(odd.deep_colour(P)), "look like 8 bits"),
    "8 bits in 16-bit colours, TIFF": (
        "tif",
        lambda p: tifffile.imwrite(p, P.astype(np.uint16)),
        "look like 8 bits",
    ),
    "8 bits in 16-bit colours, packed TIFF": (
        "tif",
        lambda p: tifffile.imwrite(p, P.astype(np.uint16), compression="zlib"),
        "look like 8 bits",
    ),
    "32-bit floats": ("tif", lambda p: odd.save(p, GREY.astype(np.float32)), "32-bit floats"),
    "32-bit numbers": ("tif", lambda p: odd.save(p, GREY.astype(np.int32)), "32-bit integers"),
    "several pages": ("tif", lambda p: odd.pages(p, P, P, P), "holds 3 pages"),
    "a film, GIF": ("gif", lambda p: odd.pages(p, P, 255 - P), "holds 2 frames"),
    "a film, WebP": ("webp", lambda p: odd.pages(p, P, 255 - P, lossless=True), "holds 2 frames"),
    "a film, PNG": ("png", lambda p: odd.pages(p, P, 255 - P), "holds 2 frames"),
    "white as 0 in 16 bits": (
        "tif",
        lambda p: tifffile.imwrite(p, GREY * np.uint16(257), photometric="miniswhite"),
        "run from white to black",
    ),
    "all of it in the transparency": (
        "png",
        lambda p: odd.save(p, np.dstack([P * 0, GREY])),
        "all of the picture in its transparency",
    ),
    "cut off": (
        "png",
        lambda p: p.write_bytes(odd.save(p, np.tile(P, (9, 9, 1))).read_bytes()[:200]),
        "cannot be read",
    ),
    "a cut JPEG": ("jpg", lambda p: p.write_bytes(odd.jpeg(np.tile(P, (9, 9, 1)))[:900]), "cannot be read"),
    "nothing in it": ("png", lambda p: p.write_bytes(b""), "cannot be read"),
    "text": ("jpg", lambda p: p.write_text("no picture"), "cannot be read"),
    "a program for printers": (
        "png",
        lambda p: p.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n"),
        "cannot be read",
    ),
}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_a_picture_is_read_as_it_is_shown(name: str, tmp_path: Path) -> None:
    suffix, write, expected, near = UNDERSTOOD[name]
    file = tmp_path / f"picture.{suffix}"
    write(file)
    found = read_picture_file(file)
    assert (found.shape, found.dtype) == (expected.shape, np.uint8)
    assert np.abs(found.astype(int) - expected).max() <= near
    assert picture_facts(file).size == expected.shape[:2]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_whole_picture_is_refused_with_file_and_finding(name: str, tmp_path: Path) -> None:
    suffix, write, message = REFUSED[name]
    file = tmp_path / f"picture.{suffix}"
    write(file)
    with pytest.raises(ValueError, match=message) as caught:
        read_picture_file(file)
    assert str(file) in str(caught.value)


def test_reduced_pages_of_a_pyramid_are_previews(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(P, photometric="rgb")
        writer.write(P[::2, ::2], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(read_picture_file(tmp_path / "a.tif"), P)
    assert picture_facts(tmp_path / "a.tif").pages == 2


def test_a_file_tells_its_bits_its_orientation_and_its_transparency(tmp_path: Path) -> None:
    odd.save(tmp_path / "a.png", np.dstack([odd.stored_for(P, 8), odd.stored_for(GREY, 8)]), exif=odd.exif(8))
    facts = open_picture(tmp_path / "a.png").facts
    assert (facts.mode, facts.bits, facts.orientation, facts.transparent) == ("RGBA", 8, 8, True)
    (tmp_path / "b.png").write_bytes(odd.deep_colour(P * np.uint16(257)))
    assert picture_facts(tmp_path / "b.png").bits == 16
    (tmp_path / "c.png").write_bytes(odd.few_bits(GREY // 64, 2))
    assert picture_facts(tmp_path / "c.png").bits == 2


def test_the_limit_of_pixels_is_compared_before_anything_is_unpacked(tmp_path: Path) -> None:
    file = odd.save(tmp_path / "a.png", P)
    with pytest.raises(ValueError, match="14 x 10 pixels, above the limit of 100"):
        read_picture_file(file, pixel_limit=100)
    before = Image.MAX_IMAGE_PIXELS
    read_picture_file(file, pixel_limit=140)
    assert before == Image.MAX_IMAGE_PIXELS
