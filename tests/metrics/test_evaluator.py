"""One call gives every score; conventions of sets and structures hold."""

from __future__ import annotations

import numpy as np
import pytest

from monai_difom.metrics import (
    COLUMNS,
    SCORES,
    image_scores,
    map_scores,
    mean_of_structures,
    mean_scores,
    structure_scores,
)

MASK = np.zeros((20, 24), bool)
MASK[4:12, 5:15] = True
EMPTY = np.zeros_like(MASK)
SOFT = np.where(MASK, 0.9, 0.1)
SOFT[4:12, 5:7], SOFT[12, 5:15] = 0.45, 0.7


def test_one_call_gives_every_column_in_order() -> None:
    row = {"image": "a.png", **map_scores(SOFT, MASK)}
    assert tuple(key for key in row if key != "e_curve") == COLUMNS
    assert (row["height"], row["width"], row["foreground"]) == (20, 24, 80)
    assert row["e_curve"].shape == (256,)


def test_a_map_is_thresholded_for_overlap_and_surface() -> None:
    binary = image_scores(SOFT >= 0.4, MASK, (2.0, 0.5), 0.5)
    scores = map_scores(SOFT, MASK, 0.4, (2.0, 0.5), 0.5)
    for key in ("dice", "iou", "precision", "recall", "hd95", "nsd"):
        assert scores[key] == binary[key]
    assert scores["dice"] != map_scores(SOFT, MASK, 0.6)["dice"]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.502, 1.0])
def test_integers_are_thresholded_as_the_floats_that_they_stand_for(threshold: float) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    mask = np.ones((16, 16), bool)
    share = (levels / 255 >= threshold).mean()
    assert map_scores(levels, mask, threshold)["recall"] == share
    assert map_scores(levels.astype(np.uint16) * np.uint16(257), mask, threshold)["recall"] == share


def test_the_mask_itself_is_perfect_as_a_map() -> None:
    scores = map_scores(MASK, MASK)
    for key in ("dice", "iou", "precision", "recall", "nsd", "weighted_f", "s_measure"):
        assert scores[key] == pytest.approx(1)
    assert (scores["mae"], scores["hd95"]) == (0, 0)
    # over all but one of 256 thresholds; at 0 the whole image is foreground
    assert scores["mean_dice_256"] == pytest.approx((255 + 2 * 80 / (480 + 80)) / 256)


@pytest.mark.parametrize(
    ("prediction", "found"), [(EMPTY, 0.0), (MASK, 1.0), (np.full(MASK.shape, 0.2), 0.0)]
)
def test_an_empty_mask_is_marked_and_so_is_what_was_found_in_it(prediction: np.ndarray, found: float) -> None:
    scores = map_scores(prediction, EMPTY)
    assert (scores["empty_mask"], scores["false_positive"], scores["undefined_hd95"]) == (1, found, found)
    for key in ("dice", "iou", "precision", "recall", "nsd", "weighted_f"):
        assert scores[key] == 1 - found
    assert all(np.isfinite(scores[key]) for key in SCORES)


@pytest.mark.parametrize("key", SCORES)
def test_one_score_alone_is_the_same(key: str) -> None:
    alone = map_scores(SOFT, MASK, scores=[key])
    assert alone[key] == map_scores(SOFT, MASK)[key]
    assert set(alone) & set(SCORES) == {key}


def test_the_maximum_e_measure_of_a_set_is_of_the_mean_curve() -> None:
    rng = np.random.default_rng(0)
    # noise of growing strength: the best threshold of an image is not that of the next
    rows = [map_scores((k * rng.random(MASK.shape) + MASK) / (1 + k), MASK) for k in (0.5, 1, 2, 3)]
    curves = np.array([row["e_curve"] for row in rows])
    means = mean_scores(rows)
    assert means["e_measure_max"] == curves.mean(0).max()
    assert means["e_measure_max"] < np.mean([row["e_measure_max"] for row in rows])
    assert means["e_measure_mean"] == pytest.approx(curves.mean())
    with pytest.raises(ValueError, match="needs the e_curve"):
        mean_scores([{key: value for key, value in row.items() if key != "e_curve"} for row in rows])


def test_what_was_found_in_empty_masks_is_counted_apart() -> None:
    means = mean_scores([map_scores(SOFT, EMPTY), map_scores(EMPTY, EMPTY), map_scores(EMPTY, MASK)])
    assert (means["empty_masks"], means["false_positives"], means["undefined_hd95"]) == (2, 1, 2)


def test_labels_and_channels_give_the_same_structures() -> None:
    labels, truth = np.zeros((20, 24), int), np.zeros((20, 24), int)
    labels[2:9, 2:9], labels[10:16, 12:20] = 1, 4
    truth[3:9, 2:9], truth[10:17, 12:20] = 1, 4
    names = {"disc": 1, "cup": 4}
    by_label = structure_scores(labels, truth, names)
    stacked = [np.stack([array == value for value in names.values()]) for array in (labels, truth)]
    by_channel = structure_scores(stacked[0], stacked[1], list(names))
    for name in names:
        assert (
            by_label[name]["dice"]
            == by_channel[name]["dice"]
            == pytest.approx(image_scores(labels == names[name], truth == names[name])["dice"])
        )
    means = {name: mean_scores([row]) for name, row in by_label.items()}
    together = mean_of_structures(means)
    assert together["dice"] == pytest.approx((means["disc"]["dice"] + means["cup"]["dice"]) / 2)
    assert together["n"] == 1


def test_structures_may_overlap_and_be_absent() -> None:
    scores = structure_scores(np.stack([SOFT, SOFT, SOFT]), np.stack([MASK, MASK, EMPTY]), ["a", "b", "c"])
    assert scores["a"]["dice"] == scores["b"]["dice"]
    assert scores["c"]["false_positive"] == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: map_scores(SOFT, MASK.T), "differ in size"),
        (lambda: map_scores(SOFT[None], MASK[None]), "of volumes use image_scores"),
        (lambda: map_scores(SOFT, MASK, threshold=128), "a share of the range"),
        (lambda: map_scores(SOFT, MASK, scores=["s_mesure"]), "Did you mean 's_measure'"),
        (lambda: structure_scores(SOFT[None], MASK[None], ["a", "b"]), "1 maps and 1 masks"),
        (lambda: mean_of_structures({}), "no structures"),
    ],
)
def test_what_cannot_be_scored_is_refused(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call()
