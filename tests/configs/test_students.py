"""Every student of configs/students trains one epoch per phase on a handful of images, and is exported plain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from monai.bundle import ConfigParser
from safetensors.torch import save_file

from monai_difom.data import make_polyps
from monai_difom.networks.student import network_state

ROOT = Path(__file__).parents[2]
TRAIN = ROOT / "bundles" / "polyp_difom" / "configs" / "train.yaml"
STUDENTS = [f for f in sorted((ROOT / "configs" / "students").glob("*.yaml")) if not f.stem.endswith("_3d")]
# what makes a student small enough to train in a second, as its user would override it on the command line
SMALLER: dict[str, dict[str, Any]] = {
    "vit_tiny": {"network_def::encoder": "test_vit"},
    "vit_small": {"network_def::encoder": "test_vit2"},
    "vit_monai": {"network_def::encoder::num_layers": 2},
    "unetpp": {"network_def::features": [4, 6, 8, 8, 8]},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_polyps(folder, train=6, test=1, size=64)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "teacher.safetensors"
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", pretrained=False, features_only=True)
    save_file(network.state_dict(), str(file))
    return file


@pytest.mark.parametrize("overlay", STUDENTS, ids=lambda file: file.stem)
def test_a_student_trains_one_epoch_a_phase(overlay: Path, data: Path, weights: Path, tmp_path: Path) -> None:
    config = ConfigParser()
    config.read_config([str(TRAIN), str(overlay)])
    options = {
        "dataset_dir": str(data),
        "teacher_weights": str(weights),
        "teachers::imagenet::name": "test_efficientnet",
        "image_size": 64,
        "batch_size": 2,
        "limit": 4,
        "epochs": [1, 1, 1],
        "device": "cpu",
        "progress": False,
        "output_dir": str(tmp_path),
        "ckpt_dir": str(tmp_path),
        **SMALLER.get(overlay.stem, {}),
    }
    for key, value in options.items():
        config[key] = value
    config["train::handlers"] = config["train::handlers"][:1]  # validation alone
    torch.manual_seed(0)
    trainer = config.get_parsed_content("train#trainer")
    student = trainer.distiller.student
    before = {key: value.clone() for key, value in network_state(student).items()}
    trainer.run()
    assert trainer.state.epoch == 3
    after = network_state(student)
    assert sum(not torch.equal(before[key], value) for key, value in after.items()) > len(after) / 2
    assert all(torch.isfinite(value).all() for value in after.values())
    assert student.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1, 64, 64)
