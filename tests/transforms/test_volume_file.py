"""A volume is hung alike whatever its storage order, comes back to it, and is refused where it is no volume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from monai_difom.transforms.volume_file import (
    PLANES,
    grey_levels,
    hanging_of,
    open_volume,
    read_volume_labels,
    volume_values,
    window_of,
)
from tests import odd_files as odd

ORDERS = ("RAS", "LPS", "LAS", "PIR", "SRA", "AIL")
VALUES = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
MASK = (VALUES % 3 == 0).astype(np.uint8)
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def stored(codes: str, values: np.ndarray = VALUES) -> nibabel.Nifti1Image:
    """The same volume in another storage order."""
    plain = nibabel.Nifti1Image(values, np.diag([1.0, 2.0, 3.0, 1.0]))
    return plain.as_reoriented(ornt_transform(io_orientation(plain.affine), axcodes2ornt(codes)))


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("codes", ORDERS)
def test_slices_come_back_to_the_storage_order(codes: str, plane: str, tmp_path: Path) -> None:
    nibabel.save(stored(codes), tmp_path / "a.nii.gz")
    nibabel.save(stored("RAS"), tmp_path / "b.nii.gz")
    volume, other = (open_volume(tmp_path / name) for name in ("a.nii.gz", "b.nii.gz"))
    values = volume_values(volume, "a")
    hanging = hanging_of(volume, plane)
    slices = hanging.slices(values)
    np.testing.assert_array_equal(slices, hanging_of(other, plane).slices(volume_values(other, "b")))
    np.testing.assert_array_equal(hanging.stored(slices), values)
    assert values.shape[hanging.sliced] == len(slices)
    assert hanging.pixel(volume.header.get_zooms()) == hanging_of(other, plane).pixel((1, 2, 3))


def test_levels_do_not_depend_on_how_a_file_stores_its_numbers() -> None:
    values = np.random.default_rng(0).integers(-900, 1200, (9, 9, 9))
    expected = grey_levels(values, window_of(values))
    for kind in (np.int16, np.float32, np.float64):
        np.testing.assert_array_equal(
            grey_levels(values.astype(kind), window_of(values.astype(kind))), expected
        )
    assert grey_levels(np.array([-200, -160, 40, 240, 999]), window_of(values, [-160, 240])).tolist() == [
        *(0, 0, 128, 255, 255)
    ]


def test_two_axes_are_one_slice(tmp_path: Path) -> None:
    odd.volume(tmp_path / "a.nii", VALUES[0])
    volume = open_volume(tmp_path / "a.nii")
    assert hanging_of(volume).slices(volume_values(volume, "a")).shape == (1, 6, 5)


def without_axes(path: Path) -> None:
    """A header whose sform is all zeros."""
    image = nibabel.Nifti1Image(VALUES, None)
    image.header["sform_code"] = 1
    nibabel.save(image, path)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "four axes": (lambda p: odd.volume(p, np.zeros((3, 3, 3, 2), np.int16)), "has 4 axes"),
    "an empty axis": (lambda p: odd.volume(p, np.zeros((3, 0, 3), np.int16)), "nothing in it|cannot be read"),
    "complex numbers": (lambda p: odd.volume(p, np.zeros((3, 3, 3), np.complex64)), "complex numbers"),
    "colours": (lambda p: odd.volume(p, np.zeros((3, 3, 3), RGB)), "colours or records"),
    "NaN": (lambda p: odd.volume(p, np.full((3, 3, 3), np.nan, np.float32)), "NaN or infinity"),
    "no axes": (without_axes, "where its axes run"),
    "text": (lambda p: p.write_text("no volume"), "cannot be read"),
    "nothing": (lambda p: p.write_bytes(b""), "cannot be read"),
    "cut off": (
        lambda p: p.write_bytes(
            odd.volume(p, np.random.default_rng(0).normal(size=(9, 9, 9))).read_bytes()[:900]
        ),
        "cannot be read",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_volume_is_refused_with_file_and_finding(name: str, tmp_path: Path) -> None:
    write, message = REFUSED[name]
    file = tmp_path / "a.nii.gz"
    write(file)
    with pytest.raises(ValueError, match=message) as caught:
        volume_values(open_volume(file), file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (MASK * 0.5, "0.5, between whole numbers"),
        (-MASK.astype(np.int16), "-1, below 0"),
        (np.where(MASK, np.nan, 0), "NaN"),
        (np.zeros((3, 3, 3), RGB), "whole numbers"),
    ],
)
def test_labels_that_are_no_whole_numbers_are_refused(
    values: np.ndarray, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        read_volume_labels(odd.volume(tmp_path / "a.nii.gz", values))


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
def test_labels_are_whole_numbers_in_any_type_and_scale(kind: type, tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_volume_labels(odd.volume(tmp_path / "a.nii", MASK.astype(kind))), MASK)
    scaled = nibabel.Nifti1Image(MASK * np.uint8(255), np.eye(4))
    scaled.header.set_slope_inter(1 / 255, 0)
    nibabel.save(scaled, tmp_path / "b.nii")
    assert set(np.unique(read_volume_labels(tmp_path / "b.nii"))) <= {0, 1, 255}
