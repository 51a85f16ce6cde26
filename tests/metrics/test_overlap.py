"""Scores of one image: toy numbers and the conventions for empty masks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from monai_difom.metrics import image_scores, mean_scores


def _square(*corners: slice, size: tuple[int, ...] = (20, 30)) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[corners] = True
    return mask


EMPTY = np.zeros((20, 30), dtype=bool)
SQUARE = _square(slice(5, 15), slice(5, 15))
PERFECT = {
    **dict.fromkeys(("dice", "iou", "precision", "recall", "nsd"), 1),
    **dict.fromkeys(("hd95", "false_positive", "undefined_hd95"), 0),
}


def test_the_mask_itself_is_a_perfect_prediction() -> None:
    assert image_scores(SQUARE, SQUARE) == {**PERFECT, "empty_mask": 0}


def test_a_square_that_is_shifted_by_a_fifth_of_its_side() -> None:
    scores = image_scores(_square(slice(5, 15), slice(7, 17)), SQUARE)
    assert scores["dice"] == pytest.approx(2 * 80 / 200)
    assert scores["iou"] == pytest.approx(80 / 120)
    assert scores["hd95"] == pytest.approx(2)


def test_precision_and_recall_tell_too_much_from_too_little() -> None:
    half = _square(slice(5, 15), slice(5, 10))
    too_little, too_much = image_scores(half, SQUARE), image_scores(SQUARE, half)
    assert (too_little["precision"], too_little["recall"]) == (1, 0.5)
    assert (too_much["precision"], too_much["recall"]) == (0.5, 1)


def test_squares_that_do_not_meet() -> None:
    scores = image_scores(_square(slice(5, 15), slice(18, 28)), SQUARE)
    assert (scores["dice"], scores["iou"]) == (0, 0)
    assert scores["hd95"] == pytest.approx(13)


def test_hd95_takes_the_larger_of_both_directions() -> None:
    # one stray row of ten pixels: far from the mask, though every pixel of the mask is met
    stray = SQUARE | _square(slice(19, 20), slice(5, 15))
    assert image_scores(stray, SQUARE)["hd95"] == pytest.approx(5)
    assert image_scores(SQUARE, stray)["hd95"] == pytest.approx(5)


def test_hd95_passes_over_a_single_stray_pixel() -> None:
    stray = SQUARE.copy()
    stray[19, 29] = True
    assert image_scores(stray, SQUARE)["hd95"] < 1


@pytest.mark.parametrize(
    "spacing", [[0.5, 3.0], (0.5, 3.0), np.array([0.5, 3.0]), np.array([0.5, 3.0], np.float32)]
)
def test_spacing_scales_hd95_along_its_axis_and_nothing_else(spacing: object) -> None:
    right = image_scores(_square(slice(5, 15), slice(7, 17)), SQUARE, spacing)  # type: ignore[arg-type]
    down = image_scores(_square(slice(7, 17), slice(5, 15)), SQUARE, spacing)  # type: ignore[arg-type]
    assert right["hd95"] == pytest.approx(2 * 3.0)
    assert down["hd95"] == pytest.approx(2 * 0.5)
    assert right["dice"] == down["dice"] == pytest.approx(0.8)


def test_an_empty_prediction_of_an_empty_mask_is_right() -> None:
    assert image_scores(EMPTY, EMPTY) == {**PERFECT, "empty_mask": 1}


@pytest.mark.parametrize(("prediction", "mask"), [(EMPTY, SQUARE), (SQUARE, EMPTY)])
def test_where_one_is_empty_hd95_is_the_diagonal_and_counted(
    prediction: np.ndarray, mask: np.ndarray
) -> None:
    scores = image_scores(prediction, mask)
    assert (scores["dice"], scores["iou"], scores["undefined_hd95"]) == (0, 0, 1)
    assert (scores["precision"], scores["recall"], scores["nsd"]) == (0, 0, 0)
    # what was found in an empty mask is counted apart
    assert scores["empty_mask"] == scores["false_positive"] == float(not mask.any())
    assert scores["hd95"] == pytest.approx(math.hypot(20, 30))
    assert image_scores(prediction, mask, (2, 0.5))["hd95"] == pytest.approx(math.hypot(40, 15))


def test_a_mask_that_fills_the_image_has_a_surface() -> None:
    full = np.ones((6, 6), dtype=bool)
    assert image_scores(full, full)["hd95"] == 0
    assert math.isfinite(image_scores(full, _square(slice(3), slice(3), size=(6, 6)))["hd95"])


def test_volumes_are_scored_as_volumes() -> None:
    cube = _square(slice(2, 6), slice(2, 6), slice(2, 6), size=(8, 9, 10))
    shifted = _square(slice(3, 7), slice(2, 6), slice(2, 6), size=(8, 9, 10))
    scores = image_scores(shifted, cube, (5, 1, 1))
    assert scores["dice"] == pytest.approx(0.75)
    # a voxel of the far face is 5 mm along the first axis from its match, or nearer in its own plane
    assert 1 <= scores["hd95"] <= 5


def test_integer_masks_count_as_what_is_not_zero() -> None:
    assert image_scores(SQUARE.astype(np.uint8) * 255, SQUARE)["dice"] == 1


def test_sizes_that_differ_are_refused_with_both() -> None:
    with pytest.raises(ValueError, match=r"prediction \(20, 30\) and mask \(30, 20\) differ in size"):
        image_scores(SQUARE, SQUARE.T)


def test_means_are_over_images_and_conventions_are_counted() -> None:
    rows = [image_scores(SQUARE, SQUARE), image_scores(EMPTY, SQUARE), image_scores(EMPTY, EMPTY)]
    means = mean_scores(row for row in rows)
    assert (means["n"], means["empty_masks"], means["undefined_hd95"]) == (3, 1, 1)
    assert means["false_positives"] == 0
    assert means["dice"] == pytest.approx(2 / 3)
    assert means["hd95"] == pytest.approx(math.hypot(20, 30) / 3)


def test_a_mean_over_no_images_is_refused() -> None:
    with pytest.raises(ValueError, match="the test set is empty"):
        mean_scores([])
