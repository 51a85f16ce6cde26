"""Probabilities that are numbers: of NaN every comparison is false, so a mask of it would be empty, and look like a finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def checked_probabilities(found: torch.Tensor) -> torch.Tensor:
    """Return a network's probabilities as they are.

    Raises:
        ValueError: some are not numbers.
    """
    wrong = int(found.isnan().sum())
    if wrong:
        raise ValueError(
            f"the network gives no number (NaN) for {wrong} of {found.numel()} pixels, so there is no mask: its training "
            "left the range of numbers, or its file is damaged. Train again with a lower learning rate, or take earlier weights."
        )
    return found
