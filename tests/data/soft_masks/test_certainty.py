"""Certainty and disagreement: what they are at the edges, and that they order images as a person would."""

from __future__ import annotations

import pytest
import torch

from monai_difom.data.soft_masks import certainty, disagreement


def disc(radius: float, softness: float = 1e-3, size: int = 64) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    distance = ((y - size / 2) ** 2 + (x - size / 2) ** 2).sqrt()
    return torch.sigmoid((radius - distance) / softness)[None]


@pytest.mark.parametrize("mask", [disc(12.3), torch.zeros(1, 9, 9), torch.ones(1, 9, 9)])
def test_a_mask_of_zeros_and_ones_is_certain(mask: torch.Tensor) -> None:
    assert certainty(mask) == pytest.approx(1, abs=1e-3)


def test_softer_masks_are_less_certain() -> None:
    found = [certainty(disc(12, softness)) for softness in (0.1, 1, 3, 10)]
    assert found == sorted(found, reverse=True)
    assert found[0] - found[-1] > 0.2


def test_a_hint_of_something_is_less_certain_than_nothing() -> None:
    assert certainty(0.4 * disc(5)) == pytest.approx(0.6, abs=0.01)
    assert certainty(torch.full((1, 8, 8), 1e-3)) > 0.99


def test_equal_masks_agree_disjoint_ones_do_not_and_noise_on_nothing_is_no_disagreement() -> None:
    left, right = torch.zeros(1, 8, 8), torch.zeros(1, 8, 8)
    left[..., :4], right[..., 4:] = 1, 1
    assert disagreement(torch.stack([left, left, left])) == 0
    assert disagreement(torch.stack([left, right])) == 1
    assert disagreement(torch.stack([left, left, right])) == pytest.approx(2 / 3)
    assert disagreement(1e-5 * torch.rand(3, 1, 32, 32)) < 0.01
    assert disagreement(left[None]) == 0


def test_structures_count_alike() -> None:
    both = torch.cat([disc(12.3), torch.zeros(1, 64, 64)])
    one = torch.cat([disc(6), torch.zeros(1, 64, 64)])
    assert disagreement(torch.stack([both, one])) == pytest.approx(
        disagreement(torch.stack([both[:1], one[:1]])) / 2
    )
    assert certainty(torch.cat([disc(12, 5), disc(12)])) > certainty(disc(12, 5))
