"""A teacher is fine-tuned by plain settings: its own rate for the encoder, float32 where that is faster."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_difom.data import ViewDataset
from monai_difom.engines import AdaptSettings, MeanPrediction, adaptation, parameter_groups
from monai_difom.engines.adaptation import adaptation_trainer, slower_mixed
from monai_difom.transforms import apply_view


class Net(nn.Module):
    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(4, 4, 3, padding=1, groups=groups)
        self.head = nn.Conv2d(4, 1, 1)


def test_the_encoder_has_a_rate_of_its_own_and_every_parameter_is_in_one_group() -> None:
    network = Net()
    groups = parameter_groups(network, 0.01, 0.1)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(rates) == len(list(network.parameters()))
    assert rates[id(network.encoder.weight)] == pytest.approx(0.001)
    assert rates[id(network.head.weight)] == 0.01
    assert len(parameter_groups(network, 0.01)) == len(parameter_groups(network.head, 0.01, 0.1)) == 1


@pytest.mark.parametrize("fast", [True, False])
def test_networks_stay_in_float32_on_cpus_where_bfloat16_is_slower(
    monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    monkeypatch.setattr(adaptation, "fast_bfloat16", lambda: fast)
    assert slower_mixed(Net(groups=4), "cpu")
    assert slower_mixed(Net(), "cpu") is not fast
    assert not slower_mixed(Net(groups=4), "cuda")


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"learning_rate": 0.0}, {"encoder_rate": -1.0}])
def test_settings_outside_their_range_are_named(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} of an adaptation is"):
        AdaptSettings(**wrong)


def test_the_mean_prediction_is_the_mean_of_probabilities_and_turns_with_its_image() -> None:
    torch.manual_seed(0)
    networks = [nn.Conv2d(3, 2, 3, padding=1) for _ in range(3)]
    image = torch.rand(2, 3, 8, 8)
    plain = torch.sigmoid(MeanPrediction(networks)(image))
    torch.testing.assert_close(plain, torch.stack([torch.sigmoid(n(image)) for n in networks]).mean(0))
    every = MeanPrediction(networks, range(8))
    for view in range(8):
        torch.testing.assert_close(every(apply_view(image, view)), apply_view(every(image), view))


@pytest.mark.parametrize(
    ("images", "asked", "steps"), [(6, None, adaptation.FEWEST_STEPS), (6, 3, 3), (25, None, 12)]
)
def test_an_epoch_of_few_labels_is_longer_than_a_pass(images: int, asked: int | None, steps: int) -> None:
    """A pass over few labels is a step or two: then the images are seen several times, unless a number is asked for."""
    items = [{"image": torch.rand(3, 8, 8), "label": torch.ones(1, 8, 8)} for _ in range(images)]
    settings = AdaptSettings(epochs=1, epoch_steps=asked, batch_size=2)
    network = nn.Conv2d(3, 1, 1)
    trainer = adaptation_trainer(network, ViewDataset(items, []), settings, nn.BCEWithLogitsLoss())
    trainer.run()
    assert trainer.state.iteration == steps
