"""The synthetic swallow: plausible, reproducible, and in the layout that training reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_difom.data import (
    STRUCTURES,
    check_structures,
    make_fluoroscopy,
    read_structures,
    swallow_frame,
    train_validation,
)
from monai_difom.data import test_sets as sets_of

SIZE = 64


def centre(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(0)


def test_a_frame_has_twelve_structures_that_overlap() -> None:
    image, masks = swallow_frame(0, 0.5, SIZE)
    assert image.shape == (SIZE, SIZE)
    assert image.dtype == np.uint8
    assert tuple(masks) == STRUCTURES
    assert len(STRUCTURES) == 12
    assert all(mask.any() for mask in masks.values())
    assert (sum(mask > 0 for mask in masks.values()) > 1).any()


def test_bone_and_contrast_medium_are_dark_and_air_is_bright() -> None:
    for patient in range(3):
        image, masks = swallow_frame(patient, 0.45, 96)
        grey = {name: float(image[mask > 0].mean()) for name, mask in masks.items()}
        around = float(image[masks["tongue"] > 0].mean())
        assert grey["cervical_spine"] < around
        assert grey["bolus"] < around
        assert grey["trachea"] > grey["cervical_spine"] + 20


def test_the_swallow_moves_what_should_move() -> None:
    rest, height = swallow_frame(1, 0.0, 128)[1], swallow_frame(1, 0.5, 128)[1]
    assert not rest["bolus"].any()  # nothing before the swallow
    up, forward = centre(rest["hyoid"]) - centre(height["hyoid"])
    assert up > 3
    assert forward > 2
    assert centre(rest["larynx"])[0] - centre(height["larynx"])[0] > 3
    assert np.array_equal(rest["cervical_spine"], height["cervical_spine"])
    late = swallow_frame(1, 0.7, 128)[1]
    assert centre(late["bolus"])[0] > centre(height["bolus"])[0] + 10


def test_frames_of_one_patient_differ_in_noise_and_patients_in_build() -> None:
    first, same, other = (swallow_frame(0, 0.0, SIZE, noise=n) for n in (0, 0, 1))
    assert np.array_equal(first[0], same[0])
    assert not np.array_equal(first[0], other[0])
    assert np.array_equal(first[1]["mandible"], other[1]["mandible"])
    assert not np.array_equal(first[1]["mandible"], swallow_frame(1, 0.0, SIZE)[1]["mandible"])


def test_the_data_set_is_read_back_with_some_structures_missing(tmp_path: Path) -> None:
    make_fluoroscopy(tmp_path, patients=4, test_patients=1, frames=2, size=SIZE, missing=0.25)
    assert read_structures(tmp_path) == list(STRUCTURES)
    train, validation = train_validation(tmp_path, 0.25, group="frames.csv:patient")
    assert (len(train), len(validation)) == (6, 2)
    assert not {item["group"] for item in train} & {item["group"] for item in validation}
    counts = {len(item["label"]) for item in train + validation}
    assert counts == {9, 12}
    check_structures(train + validation, STRUCTURES, progress=False)
    assert len(sets_of(tmp_path)["synthetic"]) == 2
    with Image.open(train[0]["image"]) as image:
        assert image.mode == "L"


@pytest.mark.parametrize("changes", [{"patients": 1}, {"frames": 0}, {"missing": 1.0}, {"size": 20}])
def test_numbers_out_of_range_are_refused(tmp_path: Path, changes: dict) -> None:
    with pytest.raises(ValueError, match="allowed are"):
        make_fluoroscopy(tmp_path, **changes)
