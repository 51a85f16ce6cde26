"""Every data overlay, on a small data set in its layout, trains and validates in the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from tests import layouts
from tests.configs.test_configs import BUNDLE, ROOT
from tests.data.test_layouts import make_chaos
from tests.tiny import make_teacher
from tests.volumes import make_volumes

MAKERS: dict[str, Any] = {
    "drive": layouts.make_drive,
    "ph2": layouts.make_ph2,
    "autooral": layouts.make_autooral,
    "kidneyus_capsule": layouts.make_kidneyus,
    "kidneyus_regions": layouts.make_kidneyus,
    "chaos": make_chaos,
    "pairs": layouts.make_pairs,
    "nifti_slices": make_volumes,
}


def test_every_data_overlay_is_tried_here() -> None:
    assert {file.stem for file in (ROOT / "configs" / "data").glob("*.yaml")} >= set(MAKERS)


@pytest.mark.parametrize("name", MAKERS)
def test_a_bundle_takes_the_overlay(name: str, tmp_path: Path) -> None:
    MAKERS[name](tmp_path / "data")
    files = [
        BUNDLE / "train.yaml",
        ROOT / "configs/phases/undistilled.yaml",
        ROOT / f"configs/data/{name}.yaml",
    ]
    config = ConfigParser()
    config.read_config([str(file) for file in files])
    config.update(
        {
            "dataset_dir": str(tmp_path / "data"),
            "output_dir": str(tmp_path / "out"),
            "image_size": 32,
            "device": "cpu",
            "progress": False,
            "val_fraction": 0.3,
            "batch_size": 2,
            "network_def#features": [4, 4, 6, 6, 8],
            "epochs": [0, 0, 1],
            "teachers": {"tiny": make_teacher()},
            "train#handlers": [],
        }
    )
    trainer = config.get_parsed_content("train#trainer")
    trainer.run()
    evaluator = config.get_parsed_content("validate#evaluator")
    evaluator.run()
    assert 0 <= evaluator.state.metrics["val_dice"] <= 1
    tests = config.get_parsed_content("test_sets")
    assert bool(tests) == (name != "kidneyus_regions")
