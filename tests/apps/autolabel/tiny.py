"""A teacher of two tiny networks, adapted on synthetic polyps in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai_difom.apps.autolabel.adapt import Adaptation
from monai_difom.data import make_polyps, test_sets, train_validation

DEFINITION: dict[str, Any] = {
    "_target_": "monai_difom.networks.nets.DifomUNet",
    "spatial_dims": 2,
    "in_channels": 3,
    "out_channels": 1,
    "features": [4, 8],
}
SETTINGS = {"epochs": 2, "batch_size": 3, "learning_rate": 0.01}


def make_data(folder: Path) -> Path:
    make_polyps(folder, train=9, test=2, size=40, seed=3)
    return folder


def adaptation(data: Path, out: Path, **changes: Any) -> Adaptation:
    train, validation = train_validation(data, 0.25)
    given: dict[str, Any] = {
        "definition": DEFINITION,
        "train": train,
        "validation": validation,
        "output_dir": out,
        "image_size": 32,
        "test_sets": test_sets(data),
        "settings": SETTINGS,
        "progress": False,
    }
    return Adaptation(**{**given, **changes})
