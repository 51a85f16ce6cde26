"""A network that gives NaN gives no mask: of NaN every comparison is false, so a mask would be empty, and look like a finding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from monai_difom.apps import predict_probability, predict_structures
from monai_difom.apps.autolabel.teachers import _activated
from monai_difom.apps.deployed.facts import Deployment
from monai_difom.apps.scoring.volumes import predict_volume
from monai_difom.engines.mean_prediction import MeanPrediction


class BlownUp(nn.Module):
    """Weights that are numbers, and logits that are none: two infinities taken from each other."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        large = x[:, :1] + 3e38
        return large * 10 - large * 10


@pytest.mark.parametrize("predict", [predict_probability, predict_structures])
def test_no_score_is_made_of_it(predict: object) -> None:
    with pytest.raises(ValueError, match="gives no number"):
        predict(BlownUp(), torch.rand(3, 8, 8), (16, 16))  # type: ignore[operator]


def test_no_score_of_a_volume_is_made_of_it() -> None:
    with pytest.raises(ValueError, match="gives no number"):
        predict_volume(BlownUp(), torch.rand(1, 4, 4, 4), None, lambda x, net: net(x))  # type: ignore[arg-type]


@pytest.mark.parametrize(("activation", "channels"), [("sigmoid", 1), ("softmax", 2)])
def test_no_mask_and_no_soft_mask_is_made_of_it(activation: str, channels: int) -> None:
    facts, logits = (
        Deployment((8, 8), activation=activation),
        np.full((1, channels, 8, 8), np.nan, np.float32),
    )
    with pytest.raises(ValueError, match="gives no number"):
        facts.probabilities(logits, (8, 8))
    with pytest.raises(ValueError, match="gives no number"):
        _activated(torch.from_numpy(logits), facts)


def test_no_mean_of_teachers_hides_it() -> None:
    sound = nn.Conv2d(3, 1, 1)
    found = MeanPrediction([sound, BlownUp()])(torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match="gives no number"):
        _activated(found, Deployment((8, 8)))
