"""Dice per structure, only where it was annotated."""

from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine

from monai_difom.losses import MISSING
from monai_difom.metrics import StructureDice, image_scores

NAMES = ["bone", "bolus", "air"]


def evaluate(batches: list) -> dict[str, float]:
    engine = Engine(lambda _engine, batch: batch)
    StructureDice(NAMES).attach(engine, "dice")
    return engine.run(batches).metrics


def test_it_is_the_mean_of_each_images_dice() -> None:
    torch.manual_seed(0)
    prediction, label = torch.rand(4, 3, 8, 8).round(), torch.rand(4, 3, 8, 8).round()
    found = evaluate([(prediction[:2], label[:2]), (list(prediction[2:]), list(label[2:]))])
    rows = [
        [image_scores(prediction[b, k].numpy() > 0, label[b, k].numpy() > 0)["dice"] for k in range(3)]
        for b in range(4)
    ]
    means = torch.tensor(rows).mean(0)
    for name, value in zip(NAMES, means, strict=True):
        assert found[f"dice/{name}"] == pytest.approx(float(value))
    assert found["dice"] == pytest.approx(float(means.mean()))


def test_missing_channels_do_not_count() -> None:
    prediction, label = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    prediction[0], label[0, 0] = 1, 1
    label[0, 1:], label[1, 2] = MISSING, MISSING
    found = evaluate([(prediction, label)])
    assert found["dice/bone"] == 1  # right in the first, both empty in the second
    assert found["dice/bolus"] == 1  # only the second counts
    assert "dice/air" not in found
    assert found["dice"] == 1


def test_without_any_annotation_it_is_not_a_number() -> None:
    found = evaluate([(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), MISSING))])
    assert math.isnan(found["dice"])


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="one channel for each of the 3 structures"):
        evaluate([(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4))])


def test_one_structure_is_told_once() -> None:
    engine = Engine(lambda _engine, batch: batch)
    StructureDice(["polyp"]).attach(engine, "dice")
    assert engine.run([(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4))]).metrics == {"dice": 1.0}
