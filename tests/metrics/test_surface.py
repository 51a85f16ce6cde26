"""Distances between edges equal MONAI's, in pixels and in millimetres."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import binary_erosion

from monai_difom.metrics.surface import mask_edge, surface_scores


def blobs(seed: int, shape: tuple[int, ...] = (40, 52), share: float = 0.3) -> np.ndarray:
    """A ragged mask that touches the border."""
    noise = np.random.default_rng(seed).random(shape)
    for axis in range(len(shape)):
        noise = sum(np.roll(noise, k, axis) for k in range(-3, 4))
    return noise > np.quantile(noise, 1 - share)


@pytest.mark.parametrize("shape", [(40, 52), (1, 9), (9, 1), (1, 1), (12, 14, 10)])
def test_the_edge_is_what_erosion_removes(shape: tuple[int, ...]) -> None:
    for mask in (blobs(0, shape), np.ones(shape, bool), np.zeros(shape, bool)):
        np.testing.assert_array_equal(mask_edge(mask), binary_erosion(mask) ^ mask)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        *[((40, 52), spacing) for spacing in (None, (0.4, 1.7), (0.1, 0.3), (0.02, 9.0))],
        *[((18, 20, 16), spacing) for spacing in (None, (0.7, 0.7, 3.0), (5.0, 0.1, 0.1))],
    ],
)
@pytest.mark.parametrize("tolerance", [0.0, 0.3, 1.0, 3.0, 40.0])
@pytest.mark.parametrize("seed", range(3))
def test_both_distances_equal_those_of_monai(
    seed: int, tolerance: float, shape: tuple[int, ...], spacing: tuple[float, ...] | None
) -> None:
    found, true = blobs(seed, shape), blobs(seed + 100, shape, share=0.1)
    _check_against_monai(found, true, spacing, tolerance)


@pytest.mark.parametrize("apart", [0, 1, 3, 12, 45])
@pytest.mark.parametrize("tolerance", [1.0, 12.0, 20.0])
def test_they_do_so_wherever_a_stray_piece_lies(apart: int, tolerance: float) -> None:
    """Near distances and far ones are found in different ways."""
    true = np.zeros((24, 110), bool)
    true[4:16, 4:20] = True
    stray = np.roll(true, 40 + apart, 1)
    for found in (np.roll(true, apart, 1), true | stray, true | (stray & (np.arange(24) < 6)[:, None])):
        _check_against_monai(found, true, (1.0, 0.5), tolerance)
        _check_against_monai(true, found, (1.0, 0.5), tolerance)


def _check_against_monai(
    found: np.ndarray, true: np.ndarray, spacing: tuple[float, ...] | None, tolerance: float
) -> None:
    pair = [torch.from_numpy(mask)[None, None] for mask in (found, true)]
    hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
    nsd = compute_surface_dice(*pair, [tolerance], include_background=True, spacing=spacing)
    scores = surface_scores(found, true, spacing, tolerance)
    assert scores["hd95"] == pytest.approx(float(hd95), rel=1e-6)
    assert scores["nsd"] == pytest.approx(float(nsd), abs=1e-6)


def test_a_tolerance_as_wide_as_the_image_finds_every_edge() -> None:
    scores = surface_scores(blobs(1), blobs(2), tolerance=100)
    assert scores["nsd"] == 1


def test_two_empty_masks_agree() -> None:
    empty = np.zeros((5, 6), bool)
    assert surface_scores(empty, empty) == {"hd95": 0, "nsd": 1, "undefined_hd95": 0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing": (1.0,)}, "one positive number per axis, here 2"),
        ({"spacing": (1.0, 0.0)}, "one positive number"),
        ({"tolerance": -1.0}, "a distance from 0"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        surface_scores(blobs(1), blobs(2), **options)
