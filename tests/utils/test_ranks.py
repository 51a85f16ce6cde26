"""Means over the processes of a run; with two processes they are tested in tests/engines/test_ranks.py."""

from __future__ import annotations

import torch

from monai_difom.utils import mean_over_ranks


def test_a_process_alone_gets_its_own_numbers_back() -> None:
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    assert mean_over_ranks(values) is values
