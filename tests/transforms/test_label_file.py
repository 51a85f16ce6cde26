"""A label's values are those of its file: understood as the mask that was drawn, or refused with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_difom.transforms import PictureReader, foreground, read_labels, read_mask
from tests import odd_files as odd

M = odd.shape()
WHITE = np.full((*M.shape, 3), 255, np.uint8)
Writer = Callable[[Path], object]

UNDERSTOOD: dict[str, tuple[str, Writer]] = {
    "0 and 1": ("png", lambda p: odd.save(p, M)),
    "0 and 255": ("png", lambda p: odd.save(p, M * np.uint8(255))),
    "0 and 7": ("png", lambda p: odd.save(p, M * np.uint8(7))),
    "one bit": ("png", lambda p: Image.fromarray(M).save(p)),
    "one bit BMP": ("bmp", lambda p: Image.fromarray(M).save(p)),
    "16 bits of 0 and 1": ("png", lambda p: odd.save(p, M.astype(np.uint16))),
    "16 bits of 0 and 255": ("png", lambda p: odd.save(p, M * np.uint16(255))),
    "16 bits of 0 and 256": ("png", lambda p: odd.save(p, M * np.uint16(256))),
    "16 bits of 0 and 65535": ("png", lambda p: odd.save(p, M * np.uint16(65535))),
    "16 bits of 0 and 1, TIFF": ("tif", lambda p: odd.save(p, M.astype(np.uint16))),
    "32-bit whole numbers": ("tif", lambda p: odd.save(p, M.astype(np.int32))),
    "floats of 0 and 1": ("tif", lambda p: odd.save(p, M.astype(np.float32))),
    "2 bits": ("png", lambda p: p.write_bytes(odd.few_bits(M, 2))),
    "4 bits": ("png", lambda p: p.write_bytes(odd.few_bits(M * 15, 4))),
    "equal colours": ("png", lambda p: odd.save(p, M * np.uint8(255), "RGB")),
    "VOC's palette": ("png", lambda p: odd.save_palette(p, M, [0, 0, 0, 128, 0, 0])),
    "a palette's second colour": (
        "png",
        lambda p: odd.save_palette(p, M * 2, [0, 0, 0, 255, 0, 0, 0, 255, 0]),
    ),
    "a palette of greys in another order": ("png", lambda p: odd.save_palette(p, ~M, [255] * 3 + [0] * 3)),
    "GIF": ("gif", lambda p: odd.save(p, M * np.uint8(255))),
    "GIF of 0 and 1": ("gif", lambda p: odd.save(p, M)),
    "lossless WebP": ("webp", lambda p: odd.save(p, M * np.uint8(255), lossless=True)),
    "opaque": ("png", lambda p: odd.save(p, M * np.uint8(255), "RGBA")),
    "the shape in the alpha channel": ("png", lambda p: odd.save(p, np.dstack([WHITE, M * np.uint8(255)]))),
    "the same with grey": ("png", lambda p: odd.save(p, np.dstack([WHITE[..., 0], M * np.uint8(255)]))),
    "black strokes on nothing": ("png", lambda p: odd.save(p, np.dstack([WHITE * 0, M * np.uint8(255)]))),
    "white and opaque alike": ("png", lambda p: odd.save(p, np.dstack([M * np.uint8(255)] * 4))),
    "one transparent colour": (
        "png",
        lambda p: odd.save_palette(p, M, [0, 0, 0, 255, 255, 255], transparency=0),
    ),
    **{
        f"EXIF orientation {n}": (
            "png",
            lambda p, n=n: odd.save(p, odd.stored_for(M * np.uint8(255), n), exif=odd.exif(n)),
        )
        for n in range(1, 9)
    },
}
REFUSED: dict[str, tuple[str, Writer, str]] = {
    "grey edges": ("jpg", lambda p: p.write_bytes(odd.jpeg(M * np.uint8(255))), "not binary"),
    "three classes": (
        "png",
        lambda p: odd.save(p, (M + np.eye(10, 14)).astype(np.uint8)),
        "not binary: 3 values",
    ),
    "many instances": (
        "png",
        lambda p: odd.save(p, np.arange(140).reshape(10, 14).astype(np.uint16) * 4),
        "1 takes all that is not 0",
    ),
    "no 0": ("png", lambda p: odd.save(p, np.where(M, 255, 1).astype(np.uint8)), "not binary"),
    "colours": ("png", lambda p: odd.save(p, odd.picture()), "channels differ"),
    "a JPEG of 0 and 1": (
        "jpg",
        lambda p: p.write_bytes(odd.jpeg(M * np.uint8(3), 100)),
        "a JPEG whose highest level",
    ),
    "two shapes": (
        "png",
        lambda p: odd.save(p, np.dstack([M * np.uint8(255)] * 3 + [M[::-1] * np.uint8(255)])),
        "transparency shows another shape",
    ),
    "all transparent": (
        "png",
        lambda p: odd.save(p, np.dstack([M * np.uint8(255)] * 3 + [M * np.uint8(0)])),
        "every pixel is transparent",
    ),
    "black not at place 0": (
        "png",
        lambda p: odd.save_palette(p, ~M, [128, 0, 0, 0, 0, 0]),
        "black, the usual background, at place 1",
    ),
    "two pages": ("tif", lambda p: odd.pages(p, M * np.uint8(255), M * np.uint8(0)), "holds 2 pages"),
    "two frames": ("gif", lambda p: odd.pages(p, M * np.uint8(255), ~M * np.uint8(255)), "holds 2 frames"),
    "values below 0": ("tif", lambda p: odd.save(p, -M.astype(np.int32)), "values below 0"),
    "NaN": ("tif", lambda p: odd.save(p, np.where(M, np.nan, 0).astype(np.float32)), "NaN or infinity"),
    "probabilities": ("tif", lambda p: odd.save(p, (M * 0.7 + 0.1).astype(np.float32)), "not binary"),
    "nothing in it": ("png", lambda p: p.write_bytes(b""), "cannot be read"),
    "no picture": ("png", lambda p: p.write_text("<html>"), "cannot be read"),
}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_a_mask_is_read_as_it_was_drawn_whatever_the_threshold(name: str, tmp_path: Path) -> None:
    suffix, write = UNDERSTOOD[name]
    file = tmp_path / f"mask.{suffix}"
    write(file)
    for threshold in (None, 128, 200):
        np.testing.assert_array_equal(read_mask(file, threshold), M)
    found, _ = PictureReader("mask").get_data(str(file))
    np.testing.assert_array_equal(found.T, M)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_mask_is_refused_with_file_and_finding(name: str, tmp_path: Path) -> None:
    suffix, write, message = REFUSED[name]
    file = tmp_path / f"mask.{suffix}"
    write(file)
    with pytest.raises(ValueError, match=message) as caught:
        read_mask(file)
    assert str(file) in str(caught.value)


def test_a_threshold_is_on_the_scale_of_the_file(tmp_path: Path) -> None:
    ramp = np.arange(140, dtype=np.uint8).reshape(10, 14)
    np.testing.assert_array_equal(read_mask(odd.save(tmp_path / "a.png", ramp), 100), ramp >= 100)
    deep = odd.save(tmp_path / "b.png", ramp * np.uint16(400))
    np.testing.assert_array_equal(read_mask(deep, 32768), ramp.astype(int) * 400 >= 32768)
    np.testing.assert_array_equal(read_mask(deep, 1), ramp > 0)
    with pytest.raises(ValueError, match=r"mask_threshold is 128, but the levels .* go up to 55600"):
        read_mask(deep, 128)
    soft = np.dstack([WHITE, ramp])
    np.testing.assert_array_equal(read_mask(odd.save(tmp_path / "c.png", soft), 100), ramp >= 100)


def test_a_threshold_that_says_nothing_is_refused(tmp_path: Path) -> None:
    three = (M + np.eye(10, 14)).astype(np.uint8)
    with pytest.raises(ValueError, match="mask_threshold 128 empties this mask: 3 values"):
        read_mask(odd.save(tmp_path / "a.png", three), 128)
    colours = odd.save_palette(tmp_path / "b.png", three, [0, 0, 0, 255, 0, 0, 0, 255, 0])
    with pytest.raises(ValueError, match="a palette of colours, which has no grey levels"):
        read_mask(colours, 128)
    for threshold in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="allowed is above 0"):
            foreground(three, threshold)


def test_what_compression_leaves_of_an_empty_mask_is_empty_where_a_threshold_says_so(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 4, (16, 16)).astype(np.uint8)
    file = tmp_path / "a.jpg"
    file.write_bytes(odd.jpeg(noise, 100))
    assert not read_mask(file, 128).any()
    with pytest.raises(ValueError, match="a JPEG whose highest level"):
        read_mask(file)


@pytest.mark.parametrize(("level", "mask"), [(0, False), (255, True), (1, True)])
def test_a_mask_of_one_value_is_empty_or_full(level: int, mask: bool, tmp_path: Path) -> None:
    file = odd.save(tmp_path / "a.png", np.full((4, 5), level, np.uint8))
    assert (read_mask(file, 128) == mask).all()


def test_a_transparent_canvas_without_a_stroke_is_an_empty_mask(tmp_path: Path) -> None:
    assert not read_mask(odd.save(tmp_path / "a.png", np.dstack([WHITE, M * np.uint8(0)]))).any()
    assert not read_mask(
        odd.save(tmp_path / "b.png", np.dstack([WHITE * 0, np.full_like(M, 9, np.uint8)]))
    ).any()


@pytest.mark.parametrize(
    "write",
    [
        lambda p, v: odd.save(p, v),
        lambda p, v: odd.save(p, v.astype(np.uint16)),
        lambda p, v: p.write_bytes(odd.few_bits(v, 4)),
        lambda p, v: p.write_bytes(odd.few_bits(v, 2)),
        lambda p, v: odd.save_palette(p, v, [0, 0, 0, 250, 20, 20, 20, 250, 20, 200, 200, 200]),
    ],
)
def test_class_numbers_are_values_and_places_never_colours(write: Callable, tmp_path: Path) -> None:
    numbers = (np.arange(140).reshape(10, 14) % 4).astype(np.uint8)
    write(tmp_path / "a.png", numbers)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), numbers)
    np.testing.assert_array_equal(PictureReader("classes").get_data(str(tmp_path / "a.png"))[0].T, numbers)


def test_a_class_above_255_is_refused_where_8_bits_are_wanted(tmp_path: Path) -> None:
    odd.save(tmp_path / "a.png", np.full((2, 2), 300, np.uint16))
    with pytest.raises(ValueError, match="class 300"):
        PictureReader("classes").get_data(str(tmp_path / "a.png"))
