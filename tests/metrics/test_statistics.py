"""Intervals cover what they should, grow with dependence, and comparisons are paired."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from monai_difom.metrics import bootstrap_mean, compare_paired


def normal(shape: int | tuple[int, ...], mean: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, shape)


def test_the_interval_of_independent_images_is_the_normal_one() -> None:
    values = normal(400)
    found = bootstrap_mean(values)
    half = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.015)
    assert found.high == pytest.approx(values.mean() + half, abs=0.015)
    assert (found.images, found.units, found.runs) == (400, 400, 1)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    inside = [
        found.low <= 0 <= found.high
        for seed in range(200)
        for found in [bootstrap_mean(normal(60, seed=seed), draws=400)]
    ]
    assert 0.89 <= np.mean(inside) <= 0.99


def test_frames_of_one_sequence_count_as_one_observation() -> None:
    sequences = normal(30)
    values, groups = np.repeat(sequences, 20), np.repeat([f"s{i}" for i in range(30)], 20)
    alone, clustered = bootstrap_mean(values), bootstrap_mean(values, list(groups))
    per_sequence = bootstrap_mean(sequences)
    assert clustered.units == 30
    assert clustered.high - clustered.low == pytest.approx(per_sequence.high - per_sequence.low, rel=0.05)
    assert clustered.high - clustered.low > 3 * (alone.high - alone.low)


def test_runs_that_disagree_widen_the_interval() -> None:
    values = normal(50)
    agreeing = bootstrap_mean(np.stack([values, values]))
    apart = bootstrap_mean(np.stack([values - 1, values + 1]))
    assert apart.mean == pytest.approx(agreeing.mean)
    assert apart.high - apart.low > 2 * (agreeing.high - agreeing.low)
    single = bootstrap_mean(values)
    assert (agreeing.low, agreeing.high) == pytest.approx((single.low, single.high))


def test_one_image_has_no_interval_and_no_image_is_refused() -> None:
    assert np.isnan(bootstrap_mean([0.5]).low)
    assert np.isnan(bootstrap_mean([0.5, 0.6], ["same", "same"]).high)
    for empty in ([], [np.nan]):
        with pytest.raises(ValueError, match="no image has a finite score"):
            bootstrap_mean(empty)
    with pytest.raises(ValueError, match="1 group names for 2 images"):
        bootstrap_mean([0.1, 0.2], ["a"])


def test_an_image_without_a_score_is_left_out_of_both_sides() -> None:
    found = compare_paired([0.1, np.nan, 0.3], [0.2, 0.9, 0.3])
    assert found.difference.images == 2
    assert (found.a.mean, found.b.mean) == pytest.approx((0.2, 0.25))
    assert found.order == (2, 0)


def test_a_paired_comparison_sees_what_two_intervals_hide() -> None:
    a = normal(100)
    b = a + 0.1 + 0.05 * normal(100, seed=1)
    found = compare_paired(a, b)
    assert found.a.high > found.b.low  # the means' own intervals overlap
    assert found.difference.low > 0
    assert found.verdict() == "better"
    assert found.verdict(higher_is_better=False) == "worse"
    assert found.p_value < 1e-6
    assert found.better > 90


def test_a_comparison_with_itself_finds_nothing() -> None:
    values = normal(20)
    found = compare_paired(values, values)
    assert (found.difference.mean, found.difference.low, found.difference.high) == (0, 0, 0)
    assert (found.better, found.worse, found.same, found.p_value) == (0, 0, 20, 1.0)
    assert found.verdict().startswith("neither")


def test_exchanging_the_sides_changes_the_sign_only() -> None:
    a, b = normal((2, 30)), normal((2, 30), 0.3, 1)
    there, back = compare_paired(a, b), compare_paired(b, a)
    assert there.difference.mean == pytest.approx(-back.difference.mean)
    assert (there.better, there.worse) == (back.worse, back.better)
    assert there.p_value == pytest.approx(back.p_value)


def test_the_sign_test_counts_sequences_and_the_losers_come_first() -> None:
    groups = ["a", "a", "a", "b", "c"]
    found = compare_paired([0.5] * 5, [0.6, 0.6, 0.6, 0.4, 0.6], groups)
    assert (found.better, found.worse) == (4, 1)
    assert found.p_value == pytest.approx(1.0)  # two of three sequences
    assert found.order[0] == 3
    lower = compare_paired([5.0, 5.0], [4.0, 7.0], higher_is_better=False)
    assert (lower.better, lower.worse, lower.order[0]) == (1, 1, 1)


@pytest.mark.parametrize(("up", "down"), [(0, 0), (1, 0), (3, 5), (5, 3), (6, 6), (0, 40), (700, 612)])
def test_the_sign_test_is_that_of_scipy(up: int, down: int) -> None:
    gains = np.array([1.0] * up + [-1.0] * down + [0.0])
    expected = binomtest(up, up + down).pvalue if up + down else 1.0
    assert compare_paired(np.zeros_like(gains), gains).p_value == pytest.approx(expected, rel=1e-12)


def test_different_numbers_of_images_are_refused() -> None:
    with pytest.raises(ValueError, match="2 and 3 images"):
        compare_paired([0.1, 0.2], [0.1, 0.2, 0.3])
