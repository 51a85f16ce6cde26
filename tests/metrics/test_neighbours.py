"""What lies around is found in the order of the distance transform, and is all that is near."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from monai_difom.metrics.neighbours import bounding_box, first_hits, flat_shifts, places_around


@pytest.mark.parametrize(
    "steps", [(1.0, 1.0), (0.4, 1.7), (0.01, 5.0), (1.0, 1.0, 1.0), (3.0, 0.7, 0.7), (2.5,)]
)
def test_no_place_is_nearer_than_the_last_of_those_around(steps: tuple[float, ...]) -> None:
    offsets, far = places_around(steps, 40)
    assert not offsets[:, 0].any()
    assert (np.diff(far) >= 0).all()
    wide = np.stack(np.meshgrid(*[np.arange(-45, 46)] * len(steps), indexing="ij")).reshape(len(steps), -1)
    lengths = np.sqrt(((wide * np.array(steps)[:, None]) ** 2).sum(0))
    nearer = wide[:, lengths < far[-1] * (1 - 1e-12)]
    assert {tuple(place) for place in nearer.T} <= {tuple(place) for place in offsets.T}


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02])
def test_the_first_hit_is_the_pixel_that_the_distance_transform_chooses(share: float) -> None:
    """Also of several equally near ones, on which the weighted F-measure depends."""
    offsets, _ = places_around((1.0, 1.0), 61)
    for seed in range(20):
        mask = np.random.default_rng(seed).random((23, 31)) < share
        distance, nearest = distance_transform_edt(~mask, return_indices=True)
        padded = np.pad(mask, 4)
        rows, columns = np.nonzero(distance < 4.25)
        places = (rows + 4) * padded.shape[1] + columns + 4
        which = first_hits(places, padded, flat_shifts(offsets, padded.shape), (9, 25, 61))
        assert (which >= 0).all()
        np.testing.assert_array_equal(offsets[:, which] + (rows, columns), nearest[:, rows, columns])


def test_where_nothing_is_near_nothing_is_hit() -> None:
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    shifts = flat_shifts(places_around((1.0, 1.0), 9)[0], mask.shape)
    places = np.array([4 * 9 + 4, 3 * 9 + 3, 2 * 9 + 4])
    assert first_hits(places, mask, shifts, (3, 9)).tolist()[0] == 0
    assert (first_hits(places, mask, shifts, (3, 9)) < 0).tolist() == [False, False, True]
    assert first_hits(places[:0], mask, shifts, (9,)).shape == (0,)


def test_a_box_is_tight_and_stays_in_the_image() -> None:
    mask = np.zeros((8, 9), bool)
    mask[2:4, 8] = True
    assert bounding_box(mask) == (slice(2, 4), slice(8, 9))
    assert bounding_box(mask, margin=3) == (slice(0, 7), slice(5, 9))
    assert not mask[bounding_box(np.zeros_like(mask))].size
