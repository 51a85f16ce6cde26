"""Pre-training in small: the loss falls, a resumed run is the same run, the encoder goes into a student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

from monai_difom.apps import pretrain_encoder
from monai_difom.data import training_pairs
from monai_difom.engines import PretrainSettings, SelfSupervisedTrainer
from tests.tiny import make_data

TINY: dict[str, Any] = {
    **{"encoder": "test_vit", "image_size": 48, "batch_size": 4, "width": 32},
    **{"learning_rate": 2e-3, "warmup": 0.0},
}
METHODS = ("mae", "moco_v3")


def images() -> torch.Tensor:
    """Eight images of smooth colour ramps, each its own."""
    ramp = torch.linspace(0, 1, 48)
    generator = torch.Generator().manual_seed(0)
    tint = torch.rand(8, 3, 1, 1, generator=generator)
    return (255 * (0.5 * tint + 0.5 * (ramp.view(-1, 1) * tint + ramp.view(1, -1) * (1 - tint)))).byte()


def make(method: str, steps: int = 4) -> SelfSupervisedTrainer:
    return SelfSupervisedTrainer(PretrainSettings(method=method, steps=steps, **TINY))


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_falls(method: str) -> None:
    # the negatives of momentum contrast are the others of the batch: it needs all images in it
    settings = TINY if method == "mae" else {**TINY, "batch_size": 8, "learning_rate": 1e-3}
    trainer = SelfSupervisedTrainer(PretrainSettings(method=method, steps=80, **settings))
    losses = trainer.train(images(), progress=False)
    assert np.mean(losses[-20:]) < 0.95 * np.mean(losses[:20])


def test_a_loss_that_is_not_finite_stops_the_training_before_the_callback_saves_it() -> None:
    trainer = make("mae", 6)
    saved = []

    def keep(done: SelfSupervisedTrainer) -> None:
        saved.append(done.step)
        done.model.head.weight.data.fill_(torch.nan)

    with pytest.raises(FloatingPointError, match="mae: the loss is nan at step 3"):
        trainer.train(images(), progress=False, every=3, callback=keep)
    assert saved == [3]


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_run_ends_bit_for_bit_as_one_that_was_not_cut(method: str, tmp_path: Path) -> None:
    whole = make(method)
    expected = whole.train(images(), progress=False)
    first = make(method)
    losses = first.train(images(), 2, progress=False)
    first.save(tmp_path / "p.pt")
    torch.manual_seed(77)
    second = make(method)
    second.resume(tmp_path / "p.pt")
    assert [*losses, *second.train(images(), progress=False)] == expected
    ours, theirs = whole.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("method", METHODS)
def test_the_encoder_is_written_in_timms_keys(method: str, tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", train=4, test=0)
    settings = {**TINY, "method": method, "steps": 3, "progress": False}
    file = pretrain_encoder(training_pairs(data), tmp_path / "out", save_every=2, **settings)
    assert len((tmp_path / "out" / "losses.json").read_text().split()) == 5  # three values between brackets
    state = load_file(file)
    network = timm.create_model("test_vit", pretrained=False, num_classes=0)
    network.load_state_dict(state, strict=True)
    features = timm.create_model("test_vit", pretrained=False, features_only=True, dynamic_img_size=True)
    missing, _ = features.load_state_dict({f"model.{k}": v for k, v in state.items()}, strict=False)
    assert not missing
    assert pretrain_encoder(training_pairs(data), tmp_path / "out", save_every=2, **settings) == file
    assert all(torch.equal(value, state[key]) for key, value in load_file(file).items())


def test_what_makes_no_pretraining_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="method is 'dino'; allowed are mae, moco_v3"):
        PretrainSettings(method="dino")
    with pytest.raises(ValueError, match="pre-training takes squares"):
        PretrainSettings(image_size=[32, 48])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batches from 2"):
        PretrainSettings(method="moco_v3", batch_size=1)
    with pytest.raises(ValueError, match="image_size is 40; test_vit takes multiples of 16"):
        SelfSupervisedTrainer(PretrainSettings(**{**TINY, "image_size": 40}))
    with pytest.raises(ValueError, match="there are 2 images for batches of 4"):
        make("mae").train(images()[:2], progress=False)
    make("mae").save(tmp_path / "p.pt")
    with pytest.raises(ValueError, match="belongs to another pre-training"):
        make("moco_v3").resume(tmp_path / "p.pt")
