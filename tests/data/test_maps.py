"""Maps and masks of any program are read as they are meant, or refused with the reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_difom.data.maps import read_labels, read_map, read_mask, resize_map

LEVELS = np.array([[0, 10, 200], [255, 3, 128]], np.uint8)


def save(path: Path, array: np.ndarray, mode: str | None = None) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path)
    return path


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_grey_levels_come_back_from_every_mode(mode: str, tmp_path: Path) -> None:
    levels, remarks = read_map(save(tmp_path / "a.png", LEVELS, mode))
    np.testing.assert_array_equal(levels, LEVELS)
    assert remarks == (["colour, equal channels"] if mode.startswith("RGB") else [])


def test_16_bits_and_floats_keep_their_range_and_are_named(tmp_path: Path) -> None:
    deep, remarks = read_map(save(tmp_path / "a.png", LEVELS.astype(np.uint16) * np.uint16(257)))
    assert (deep.dtype, deep.max(), remarks) == (np.uint16, 65535, ["16 bits"])
    shares, remarks = read_map(save(tmp_path / "a.tif", LEVELS.astype(np.float32) / 255))
    assert remarks == ["float"]
    np.testing.assert_allclose(shares * 255, LEVELS, atol=1e-4)


def test_one_bit_is_the_whole_range_and_a_constant_map_is_named(tmp_path: Path) -> None:
    bits, remarks = read_map(save(tmp_path / "a.png", LEVELS > 100))
    np.testing.assert_array_equal(bits, LEVELS > 100)
    assert remarks == []
    assert read_map(save(tmp_path / "b.png", np.full((4, 5), 7, np.uint8)))[1] == ["constant"]


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("a.png", np.stack([LEVELS, LEVELS, 255 - LEVELS], 2), "colour picture .* whose channels differ"),
        ("a.png", LEVELS.astype(np.uint16), "highest level is 255 of 65535"),
        ("a.tif", LEVELS.astype(np.float32), r"from 0 to 255; allowed is \[0, 1\]"),
        ("a.tif", LEVELS.astype(np.int32), "32-bit integers"),
    ],
)
def test_maps_of_unclear_meaning_are_refused(
    name: str, array: np.ndarray, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        read_map(save(tmp_path / name, array))


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("<html>")
    with pytest.raises(ValueError, match="cannot be read"):
        read_map(tmp_path / "a.png")


@pytest.mark.parametrize("high", [1, 2, 200, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_mask_is_what_is_not_zero_whatever_the_other_value(high: int, dtype: type, tmp_path: Path) -> None:
    file = save(tmp_path / "a.png", (LEVELS > 100).astype(dtype) * dtype(high))
    np.testing.assert_array_equal(read_mask(file), LEVELS > 100)


def test_a_mask_of_more_values_needs_a_threshold(tmp_path: Path) -> None:
    file = save(tmp_path / "a.png", LEVELS)
    with pytest.raises(ValueError, match=r"6 values, most frequent 0 \(1 pixels\)"):
        read_mask(file)
    np.testing.assert_array_equal(read_mask(file, threshold=128), LEVELS >= 128)


def test_labels_are_levels_or_places_in_a_palette(tmp_path: Path) -> None:
    labels = np.array([[0, 1], [2, 1]], np.uint8)
    np.testing.assert_array_equal(read_labels(save(tmp_path / "a.png", labels)), labels)
    palette = Image.fromarray(labels).convert("P")
    palette.putdata(labels.ravel().tolist())
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "b.png"), labels)
    with pytest.raises(ValueError, match="labels are integers"):
        read_labels(save(tmp_path / "c.tif", labels.astype(np.float32)))


def test_a_map_is_resized_around_pixel_centres(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(8, dtype=np.uint8) * np.uint8(30), (4, 1))
    larger = resize_map(ramp, (8, 16))
    assert larger.shape == (8, 16)
    np.testing.assert_allclose(
        larger[:, 1:-1].reshape(8, 7, 2).mean((0, 2)) * 255, (ramp[0, :-1] + 15.0), atol=1e-3
    )
    np.testing.assert_allclose(resize_map(larger, (4, 8)).mean(), ramp.mean() / 255, atol=1e-3)
