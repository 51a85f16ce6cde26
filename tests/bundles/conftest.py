"""What the tests of all bundles share: synthetic polyps and the weight file of a random teacher of the real class."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from monai_difom.data import make_polyps


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "polyp"
    make_polyps(folder, train=16, test=5, size=72, seed=1)
    return folder


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv2_100", pretrained=False, pad_type="same", features_only=True)
    file = tmp_path_factory.mktemp("weights") / "mobilenetv2.safetensors"
    save_file(network.state_dict(), str(file))
    return file
