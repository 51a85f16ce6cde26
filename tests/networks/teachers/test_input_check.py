"""The input of a teacher: that of a known file is its own, a foreign one is refused, warned of, or found by batch norms."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from monai_difom.data import make_polyps
from monai_difom.networks.nets import LightSegmenter
from monai_difom.networks.teachers import NetworkTeacher, input_mismatch, timm_teacher
from monai_difom.targets import DistillationTerm, TargetPipeline
from monai_difom.transforms import IMAGENET_MEAN, IMAGENET_STD

HALF = [0.5] * 3
NONE, BYTES = ([0.0] * 3, [1.0] * 3), ([0.0] * 3, [1 / 255] * 3)
IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)


def batch(files: list[Path], size: int = 128) -> torch.Tensor:
    pictures = [np.asarray(Image.open(file).convert("RGB").resize((size, size))) for file in files]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def weight_file(shared_data: Path, name: str) -> Path:
    file = shared_data.parent / "weights" / name
    if not file.is_file():
        pytest.skip(f"no weights at {file}")
    return file


def test_batch_norms_tell_the_input_of_their_training_from_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_polyps(tmp_path, train=12, test=0, size=48)
    images = batch(sorted((tmp_path / "TrainDataset" / "image").iterdir()), 48)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16, momentum=None), nn.ReLU())
    network((images - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1))

    def teacher(
        mean: list[float] | tuple[float, ...], std: list[float] | tuple[float, ...]
    ) -> NetworkTeacher:
        return NetworkTeacher(network, {"stride2": "2"}, mean=mean, std=std)

    assert input_mismatch(teacher(*IMAGENET), images) is None
    for wrong in (NONE, BYTES):
        assert "do not see what they saw" in (input_mismatch(teacher(*wrong), images) or "")
    caplog.set_level(logging.WARNING)
    targets = TargetPipeline(
        {"mine": teacher(*BYTES)}, [DistillationTerm("stride2", "stride2", source="mine/stride2")]
    )
    targets.fit([images])
    assert "Teacher 'mine'" in caplog.text
    network[1].reset_running_stats()  # as if folded into the weights: nothing can be said
    assert input_mismatch(teacher(*BYTES), images) is None


@pytest.mark.real_data
@pytest.mark.parametrize(
    "images", ["polyp/TrainDataset/image", "DRIVE/training/images", "DSB2018_120/images"]
)
def test_a_real_network_tells_right_from_wrong_on_any_images(shared_data: Path, images: str) -> None:
    file = weight_file(shared_data, "efficientnet_lite2_imagenet.safetensors")
    found = batch(sorted((shared_data / images).iterdir())[:12])
    name = "tf_efficientnet_lite2"
    assert input_mismatch(timm_teacher(name, file, out_indices=[2]), found) is None
    teacher = timm_teacher(name, file, out_indices=[2])
    for mean, std in (IMAGENET, NONE, BYTES):
        wrong = NetworkTeacher(teacher.network, {"stem": "bn1"}, mean=mean, std=std, multiple_of=32)
        assert input_mismatch(wrong, found) is not None


@pytest.mark.real_data
def test_a_known_file_gets_its_own_input_and_another_is_refused(shared_data: Path) -> None:
    file, name = weight_file(shared_data, "mobilenetv2_100_same_imagenet.safetensors"), "mobilenetv2_100"
    own, told = timm_teacher(name, file), timm_teacher(name, file, mean=HALF, std=HALF, pad_type="same")
    assert own.signature == told.signature
    for wrong in ({"mean": IMAGENET_MEAN}, {"std": IMAGENET_STD}, {"pad_type": "symmetric"}):
        with pytest.raises(ValueError, match="known by its content"):
            timm_teacher(name, file, **wrong)
    for arguments in ({}, {"mean": HALF, "std": HALF}):
        with pytest.raises(ValueError, match="imagenet_local"):
            LightSegmenter(encoder=name, pretrained=file, **arguments)


def test_a_file_that_inherits_mean_and_std_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = timm.create_model("mobilenetv2_035", pretrained=False, features_only=True)
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    timm_teacher("mobilenetv2_035", tmp_path / "mine.safetensors", mean=HALF, std=HALF)
    assert not caplog.records
    timm_teacher("mobilenetv2_035", tmp_path / "mine.safetensors")
    assert "mine.safetensors takes mean and std of timm's own weights" in caplog.text
