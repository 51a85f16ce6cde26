"""PHI-S: every teacher comes to the same isotropic spread, and distances within it keep their proportions."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from monai_difom.targets import PhiStandardizer, StreamingCovariance, equal_diagonal_rotation

CHANNELS = [1, 16, 24, 96]


def _maps(channels: int, images: int = 6, size: tuple[int, ...] = (9, 10)) -> torch.Tensor:
    """Maps with correlated channels of very different variances, far from zero."""
    generator = torch.Generator().manual_seed(channels)
    mixing = torch.randn(channels, channels, generator=generator) / channels**0.5
    mixing = mixing * torch.logspace(-1, 1, channels)[:, None]
    noise = torch.randn(images, channels, *size, generator=generator)
    return torch.einsum("oc,bc...->bo...", mixing, noise) + 5


def _points(maps: torch.Tensor) -> torch.Tensor:
    return maps.double().movedim(1, -1).flatten(0, -2)


def _statistics(maps: torch.Tensor, batches: tuple[int, ...] | None = None) -> StreamingCovariance:
    statistics = StreamingCovariance(maps.shape[1])
    for batch in maps.split(batches or (maps.shape[0],)):
        statistics.update(batch)
    return statistics


@pytest.mark.parametrize("batches", [(6,), (1, 1, 1, 1, 1, 1), (4, 2), (1, 5)])
@pytest.mark.parametrize("size", [(9, 10), (3, 4, 5)])
def test_streamed_statistics_are_those_of_the_joined_data(
    batches: tuple[int, ...], size: tuple[int, ...]
) -> None:
    maps = _maps(8, size=size) + 100  # a large mean is where naive sums of squares lose their digits
    statistics = _statistics(maps, batches)
    torch.testing.assert_close(statistics.mean, _points(maps).mean(0))
    torch.testing.assert_close(statistics.covariance, torch.cov(_points(maps).T, correction=0))
    assert statistics.count == len(_points(maps))


def test_maps_of_other_sizes_count_by_their_positions() -> None:
    coarse, fine = _maps(4, images=2, size=(3, 3)), _maps(4, images=1, size=(8, 7))
    statistics = StreamingCovariance(4)
    statistics.update(coarse)
    statistics.update(fine)
    joined = torch.cat([_points(coarse), _points(fine)])
    torch.testing.assert_close(statistics.covariance, torch.cov(joined.T, correction=0))


def test_half_precision_maps_are_summed_in_double() -> None:
    maps = _maps(4).half()
    torch.testing.assert_close(_statistics(maps).covariance, torch.cov(_points(maps).T, correction=0))


def test_there_is_no_covariance_before_two_positions() -> None:
    with pytest.raises(ValueError, match="fewer than two positions"):
        _ = StreamingCovariance(4).covariance


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 24, 96, 100])
@pytest.mark.parametrize("spread", ["random", "equal", "one", "tiny"])
def test_the_rotation_is_orthogonal_and_makes_the_diagonal_equal(size: int, spread: str) -> None:
    eigenvalues = torch.rand(size, generator=torch.Generator().manual_seed(size)).double()
    if spread == "equal":
        eigenvalues = torch.full((size,), 0.3).double()
    elif spread == "one":
        eigenvalues[1:] = 0
    elif spread == "tiny":
        eigenvalues = eigenvalues**8 * 1e-9
    rotation = equal_diagonal_rotation(eigenvalues)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(size).double(), atol=1e-10, rtol=0)
    diagonal = (rotation @ torch.diag(eigenvalues) @ rotation.T).diagonal()
    torch.testing.assert_close(diagonal / eigenvalues.mean(), torch.ones(size).double(), atol=1e-9, rtol=0)


def _fitted(maps: torch.Tensor, kind: str = "phi_s") -> PhiStandardizer:
    standardizer = PhiStandardizer(maps.shape[1], kind)
    standardizer.fit(_statistics(maps))
    return standardizer


@pytest.mark.parametrize("kind", ["phi_s", "channel"])
@pytest.mark.parametrize("channels", CHANNELS)
def test_every_channel_comes_out_with_mean_zero_and_variance_one(channels: int, kind: str) -> None:
    maps = _maps(channels)
    points = _points(_fitted(maps, kind)(maps))
    torch.testing.assert_close(points.mean(0), torch.zeros(channels).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(points.var(0, correction=0), torch.ones(channels).double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("channels", CHANNELS)
def test_phi_s_scales_all_distances_of_a_teacher_by_one_constant(channels: int) -> None:
    maps = _maps(channels)
    before, after = (torch.pdist(_points(x)[:40]) for x in (maps, _fitted(maps)(maps)))
    ratio = after / before
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), atol=0, rtol=1e-4)


def test_channel_scaling_does_not_keep_the_proportions() -> None:
    maps = _maps(16)
    ratio = torch.pdist(_points(_fitted(maps, "channel")(maps))[:40]) / torch.pdist(_points(maps)[:40])
    assert ratio.std() > 0.05 * ratio.mean()


def test_phi_s_holds_where_there_are_fewer_positions_than_channels() -> None:
    maps = _maps(24, images=1, size=(3, 3))
    points = _points(_fitted(maps)(maps))
    torch.testing.assert_close(points.var(0, correction=0), torch.ones(24).double(), atol=1e-3, rtol=0)


def test_volumes_are_standardised_too() -> None:
    maps = _maps(8, size=(3, 4, 5))
    assert _points(_fitted(maps)(maps)).var(0, correction=0).sub(1).abs().max() < 1e-3


def test_none_leaves_the_maps_alone_and_still_reports_their_variance() -> None:
    maps = _maps(8)
    standardizer = _fitted(maps, "none")
    assert torch.equal(standardizer(maps), maps)
    expected = _points(maps).var(0, correction=0).mean()
    assert float(standardizer.variance) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("kind", ["phi_s", "channel"])
def test_a_constant_map_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="constant over all fitted images: it holds nothing to distil"):
        _fitted(torch.full((2, 4, 5, 5), 3.0), kind)


def test_a_dead_channel_does_not_blow_up() -> None:
    maps = _maps(8)
    maps[:, 3] = 2
    for kind in ("phi_s", "channel"):
        found = _fitted(maps, kind)(maps + 1e-3)
        assert bool(found.isfinite().all())
        assert found.abs().max() < 100


def test_half_precision_maps_come_out_in_float32() -> None:
    maps = _maps(16)
    standardizer = _fitted(maps)
    assert standardizer(maps.half()).dtype == torch.float32
    torch.testing.assert_close(standardizer(maps.half()), standardizer(maps), atol=0.05, rtol=0.05)


def test_an_unknown_kind_is_refused() -> None:
    kind: Any = "phi"
    with pytest.raises(ValueError, match="allowed are phi_s, channel, none"):
        PhiStandardizer(4, kind)
