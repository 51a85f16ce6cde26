"""The scores work as MONAI metrics, alone and in a MONAI workflow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from torch import nn

from monai_difom.metrics import SCORES, AlignmentMetric, ImageScoreMetric, map_scores, mean_scores


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(3, 2, 16, 20)
    masks[0, :, 4:10, 5:12], masks[1, 0, 2:5, 2:18], masks[2, 1, 8:, 9:] = 1, 1, 1
    return (0.6 * masks + 0.4 * torch.rand(masks.shape, generator=generator)), masks


@pytest.mark.parametrize("score", SCORES)
def test_every_score_is_a_metric_of_images_and_channels(
    score: str, batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    maps, masks = batch
    metric = ImageScoreMetric(score, reduction="none", tolerance=1.0)
    metric(maps[:2], masks[:2])
    metric(list(maps[2:]), list(masks[2:]))  # as decollated
    expected = [
        [map_scores(m.numpy(), t.numpy(), tolerance=1.0)[score] for m, t in zip(*pair, strict=True)]
        for pair in zip(maps, masks, strict=True)
    ]
    torch.testing.assert_close(
        metric.aggregate(), torch.tensor(expected, dtype=torch.float32), rtol=1e-5, atol=1e-6
    )
    assert metric.aggregate("mean_batch").shape == (2,)
    assert float(metric.aggregate("mean")) == pytest.approx(np.mean(expected), rel=1e-5)
    metric.reset()
    with pytest.raises(ValueError, match="nothing to aggregate"):
        metric.aggregate()


@pytest.mark.parametrize(("over", "key"), [("max", "e_measure_max"), ("mean", "e_measure_mean")])
def test_the_e_measure_of_a_set_is_that_of_the_evaluator(
    over: str, key: str, batch: tuple[torch.Tensor, torch.Tensor]
) -> None:
    maps, masks = (x[:, :1] for x in batch)
    metric = AlignmentMetric(over)
    metric(maps, masks)
    rows = [map_scores(m[0].numpy(), t[0].numpy()) for m, t in zip(maps, masks, strict=True)]
    assert float(metric.aggregate()) == pytest.approx(mean_scores(rows)[key], rel=1e-6)
    assert metric.aggregate("none").shape == (1,)


def test_a_monai_workflow_reports_them(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    maps, masks = batch
    items = [{"image": m, "label": t} for m, t in zip(maps, masks, strict=True)]
    pair = from_engine(["pred", "label"])
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=2),
        network=nn.Identity(),
        key_val_metric={
            "s": IgniteMetricHandler(metric_fn=ImageScoreMetric("s_measure"), output_transform=pair)
        },
        additional_metrics={"e": IgniteMetricHandler(metric_fn=AlignmentMetric(), output_transform=pair)},
    )
    evaluator.run()
    metric = ImageScoreMetric("s_measure")
    metric(maps, masks)
    assert evaluator.state.metrics["s"] == pytest.approx(float(metric.aggregate()))
    assert 0 < evaluator.state.metrics["e"] <= 1


def test_half_precision_and_whole_numbers_are_taken(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    maps, masks = batch
    for given in (maps.bfloat16(), masks.long(), masks.bool()):
        metric = ImageScoreMetric("mae", get_not_nans=True)
        metric(given, masks)
        value, counted = metric.aggregate()
        assert 0 <= float(value) < 0.3
        assert float(counted) == 3


def test_what_is_no_map_is_refused(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    maps, masks = batch
    with pytest.raises(ValueError, match=r"unknown score 'dise'\. Did you mean 'dice'"):
        ImageScoreMetric("dise")
    with pytest.raises(ValueError, match="allowed are 'max' and 'mean'"):
        AlignmentMetric("median")
    with pytest.raises(ValueError, match=r"allowed is \(B, C, H, W\)"):
        ImageScoreMetric("dice")(maps, masks[:, :1])
    with pytest.raises(ValueError, match=r"allowed is \[0, 1\]"):
        ImageScoreMetric("mae")(maps * 4, masks)
