"""Networks are timed side by side."""

from __future__ import annotations

import torch

from monai_difom.apps.runs.timing import milliseconds


def test_every_network_is_timed_and_the_larger_one_takes_longer() -> None:
    networks = {"small": torch.nn.Conv2d(3, 1, 1), "large": torch.nn.Conv2d(3, 64, 9)}
    found = milliseconds(networks, torch.rand(1, 3, 64, 64), rounds=5)
    assert 0 < found["small"] < found["large"]
