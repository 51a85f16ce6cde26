"""The scores of grey levels equal PySODMetrics and a plain loop over thresholds."""

from __future__ import annotations

import numpy as np
import py_sod_metrics
import pytest

from monai_difom.metrics import GreyMap, to_levels

SHAPE = (37, 46)
RNG = np.random.default_rng(0)


def _disc(y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


def _soft(y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    far = np.hypot(rows - y, columns - x) - radius
    return np.rint(255 / (1 + np.exp(np.clip(far, -50, 50)))).astype(np.uint8)


MASKS = {
    "centre": _disc(18, 20, 9),
    "corner": _disc(0, 45, 8),
    "two": _disc(8, 9, 4) | _disc(30, 38, 5),
    "one pixel": _disc(20, 20, 0.5),
    "full": np.ones(SHAPE, bool),
    "all but one pixel": ~_disc(20, 20, 0.5),
    "noise": RNG.random(SHAPE) > 0.7,
}
MAPS = {
    "soft": _soft(17, 22, 9),
    "elsewhere": _soft(5, 5, 4),
    "noise": RNG.integers(0, 256, SHAPE, dtype=np.uint8),
    "narrow range": RNG.integers(90, 131, SHAPE, dtype=np.uint8),
    "two levels": _disc(19, 21, 8).astype(np.uint8) * np.uint8(255),
    "black": np.zeros(SHAPE, np.uint8),
    "grey": np.full(SHAPE, 100, np.uint8),
    "white": np.full(SHAPE, 255, np.uint8),
    "a black half": np.where(np.arange(SHAPE[1]) < 20, 0, 77 + _soft(17, 30, 6) // 2).astype(np.uint8),
}
PAIRS = [(mask, name) for mask in MASKS for name in MAPS]


@pytest.mark.parametrize(("mask", "name"), PAIRS)
def test_scores_equal_pysodmetrics(mask: str, name: str) -> None:
    levels, truth = MAPS[name], MASKS[mask]
    ours = GreyMap(levels, truth)
    s, e, w = py_sod_metrics.Smeasure(), py_sod_metrics.Emeasure(), py_sod_metrics.WeightedFmeasure()
    for theirs in (s, e, w):
        theirs.step(levels, truth.astype(np.uint8) * 255)
    mae = py_sod_metrics.MAE()
    mae.step(levels / 255, truth, normalize=False)
    np.testing.assert_allclose(ours.alignment_curve(), e.changeable_ems[0], atol=1e-9)
    assert ours.structure_measure() == pytest.approx(s.sms[0], abs=1e-9)
    assert ours.weighted_f() == pytest.approx(w.weighted_fms[0], abs=1e-9)
    assert ours.mean_absolute_error() == pytest.approx(mae.maes[0], abs=1e-9)


@pytest.mark.parametrize("shape", [(2, 2), (1, 9), (9, 1), (3, 40), (40, 3), (8, 8)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_pictures_of_few_pixels_are_scored_as_pysodmetrics_does(shape: tuple[int, int], share: float) -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        levels, truth = rng.integers(0, 256, shape, dtype=np.uint8), rng.random(shape) < share
        truth.flat[seed % truth.size] = True
        w, e = py_sod_metrics.WeightedFmeasure(), py_sod_metrics.Emeasure()
        for theirs in (w, e):
            theirs.step(levels, truth.astype(np.uint8) * 255)
        # in memory that is not in the order of the rows, as after a transposition
        ours = GreyMap(np.asfortranarray(levels), np.asfortranarray(truth))
        assert ours.weighted_f() == pytest.approx(w.weighted_fms[0], abs=1e-9)
        np.testing.assert_allclose(ours.alignment_curve(), e.changeable_ems[0], atol=1e-9)


def test_pixels_are_counted_exactly_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCV counts in single precision, so a picture of more pixels than that can hold is counted in bands."""
    whole = GreyMap(MAPS["noise"], MASKS["two"])
    monkeypatch.setattr("monai_difom.metrics.grey_maps.MOST", 5 * SHAPE[1])
    np.testing.assert_array_equal(GreyMap(MAPS["noise"], MASKS["two"]).counts, whole.counts)
    assert whole.counts.sum() == MASKS["two"].size


@pytest.mark.parametrize("name", MAPS)
def test_an_empty_mask_is_scored_as_pysodmetrics_does_where_that_is_defined(name: str) -> None:
    levels, truth = MAPS[name], np.zeros(SHAPE, bool)
    ours = GreyMap(levels, truth)
    s, e = py_sod_metrics.Smeasure(), py_sod_metrics.Emeasure()
    for theirs in (s, e):
        theirs.step(levels, truth.astype(np.uint8))
    np.testing.assert_allclose(ours.alignment_curve(), e.changeable_ems[0], atol=1e-9)
    assert ours.structure_measure() == pytest.approx(s.sms[0], abs=1e-9)
    assert np.isnan(ours.weighted_f())


@pytest.mark.parametrize(("mask", "name"), PAIRS[::5])
def test_threshold_means_equal_a_loop_over_256_thresholds(mask: str, name: str) -> None:
    levels, truth = MAPS[name].astype(float), MASKS[mask]
    if levels.max() > levels.min():
        levels = np.rint(255 * (levels - levels.min()) / (levels.max() - levels.min()))
    found = [levels >= threshold for threshold in range(256)]
    dice = np.mean([2 * (p & truth).sum() / (p.sum() + truth.sum()) for p in found])
    iou = np.mean([(p & truth).sum() / (p | truth).sum() for p in found])
    assert GreyMap(MAPS[name], truth).threshold_means() == pytest.approx((dice, iou), abs=1e-12)


def test_of_an_empty_mask_a_threshold_without_findings_counts_as_right() -> None:
    # black at all thresholds but 0, which takes every pixel
    counted = GreyMap(MAPS["black"], np.zeros(SHAPE, bool))
    assert counted.threshold_means() == pytest.approx((255 / 256, 255 / 256))


@pytest.mark.parametrize(
    ("prediction", "levels"),
    [
        (np.array([[False, True]]), [0, 255]),
        (np.array([[0, 128, 32896, 65535]], np.uint16), [0, 0, 128, 255]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 3, 255]], np.uint8), [0, 3, 255]),
    ],
)
def test_every_type_of_map_becomes_the_same_8_bits(prediction: np.ndarray, levels: list[int]) -> None:
    assert to_levels(prediction).tolist() == [levels]


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (np.array([[0.2, 1.5]]), r"from 0\.2 to 1\.5; allowed is \[0, 1\]"),
        (np.array([[0.2, np.nan]]), "from nan"),
        (np.array([[1, 2]]), "holds int64"),
    ],
)
def test_maps_of_unknown_range_are_refused(prediction: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_levels(prediction)
