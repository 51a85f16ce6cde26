"""Fusions: several standardised maps into one."""

from __future__ import annotations

import pytest
import torch

from monai_difom.targets import ConcatFusion, LearnedFusion, PCAFusion, StreamingCovariance, make_fusion


def _maps(channels: int = 12, rank: int | None = None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(channels, rank or channels, generator=generator)
    return (
        torch.einsum("oc,bchw->bohw", mixing, torch.randn(4, rank or channels, 8, 9, generator=generator)) - 2
    )


def _points(maps: torch.Tensor) -> torch.Tensor:
    return maps.double().movedim(1, -1).flatten(0, -2)


def _fitted(maps: torch.Tensor, out_channels: int) -> PCAFusion:
    statistics = StreamingCovariance(maps.shape[1])
    statistics.update(maps)
    fusion = PCAFusion(maps.shape[1], out_channels)
    fusion.fit(statistics)
    return fusion


@pytest.mark.parametrize("out_channels", [1, 5, 12])
def test_principal_components_are_centred_decorrelated_and_of_mean_variance_one(out_channels: int) -> None:
    maps = _maps()
    points = _points(_fitted(maps, out_channels)(maps))
    torch.testing.assert_close(points.mean(0), torch.zeros(out_channels).double(), atol=1e-4, rtol=0)
    covariance = torch.cov(points.T, correction=0).reshape(out_channels, out_channels)
    assert float(covariance.diagonal().mean()) == pytest.approx(1, rel=1e-4)
    assert (covariance - torch.diag(covariance.diagonal())).abs().max() < 1e-4
    assert bool((covariance.diagonal().diff() <= 1e-6).all())  # the most telling component comes first


@pytest.mark.parametrize(("out_channels", "rank"), [(1, 12), (5, 12), (3, 3), (12, 12)])
def test_the_reported_share_of_variance_is_what_a_reconstruction_keeps(out_channels: int, rank: int) -> None:
    maps = _maps(rank=rank)
    fusion = _fitted(maps, out_channels)
    points = _points(maps) - _points(maps).mean(0)
    basis = torch.linalg.qr(fusion.matrix.double().T).Q
    left = (points - points @ basis @ basis.T).pow(2).sum() / points.pow(2).sum()
    assert float(fusion.explained) == pytest.approx(1 - float(left), abs=1e-5)
    assert (rank > out_channels) == (float(fusion.explained) < 0.9999)


def test_with_all_components_distances_keep_their_proportions() -> None:
    maps = _maps()
    ratio = torch.pdist(_points(_fitted(maps, 12)(maps))[:30]) / torch.pdist(_points(maps)[:30])
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), atol=0, rtol=1e-4)


def test_the_sign_of_a_component_is_fixed_by_its_largest_coefficient() -> None:
    # the sign that eigh gives is arbitrary, and may differ between machines
    matrix = _fitted(_maps(), 12).matrix
    assert bool((matrix.gather(1, matrix.abs().argmax(1, keepdim=True)) > 0).all())


def test_there_are_no_more_components_than_channels() -> None:
    assert PCAFusion(6, 128).out_channels == 6


def test_concatenation_hands_the_maps_on() -> None:
    maps = _maps()
    fusion = ConcatFusion(12, 5)
    assert fusion.out_channels == 12
    assert fusion(maps) is maps


def test_the_learned_fusion_is_a_convolution_with_relu() -> None:
    fusion, maps = LearnedFusion(12, 5), _maps()
    expected = torch.nn.functional.conv2d(maps, fusion.weight[..., None, None], fusion.bias).relu()
    torch.testing.assert_close(fusion(maps), expected, atol=1e-4, rtol=1e-4)
    assert fusion(maps).min() == 0


def test_a_gradient_reaches_the_learned_fusion_and_no_other() -> None:
    fusion = LearnedFusion(12, 5)
    fusion(_maps()).sum().backward()
    assert all(parameter.grad is not None for parameter in fusion.parameters())
    assert not list(PCAFusion(12, 5).parameters()) + list(ConcatFusion(12).parameters())


def test_an_unknown_fusion_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown fusion 'concatenate'\. Did you mean 'concat'\?"):
        make_fusion("concatenate", 12, 5)


@pytest.mark.parametrize("whiten", [0.0, 0.5, 1.0])
def test_whitening_evens_the_variances_of_the_components_and_keeps_their_mean(whiten: float) -> None:
    torch.manual_seed(0)
    maps = torch.randn(4, 12, 16, 16) * torch.linspace(0.2, 3, 12).view(1, -1, 1, 1)
    statistics = StreamingCovariance(12)
    statistics.update(maps)
    fusion = PCAFusion(12, 8, whiten)
    fusion.fit(statistics)
    variances = fusion(maps).movedim(1, -1).reshape(-1, 8).var(0, unbiased=False)
    assert float(variances.mean()) == pytest.approx(1.0, abs=1e-4)
    plain = statistics.covariance.diagonal().sort(descending=True).values[:8]
    spread = float(variances.max() / variances.min())
    assert spread == pytest.approx(float(plain[0] / plain[-1]) ** (1 - whiten), rel=0.15)


def test_a_whitening_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="whiten is 2"):
        PCAFusion(4, 2, 2.0)
