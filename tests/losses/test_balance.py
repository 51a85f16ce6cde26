"""Balancers turn loss terms into weights."""

from __future__ import annotations

import torch

from monai_difom.losses import UniformBalancer


def test_the_uniform_balancer_weighs_every_term_with_one_and_without_gradient() -> None:
    scale = torch.tensor(2.0, requires_grad=True)
    losses = {"segmentation": scale * 3, "low": scale * 0}
    weights = UniformBalancer()(losses)
    assert list(weights) == ["segmentation", "low"]
    assert all(float(weight) == 1 and not weight.requires_grad for weight in weights.values())


def test_the_uniform_balancer_has_nothing_to_save() -> None:
    assert not UniformBalancer().state_dict()
