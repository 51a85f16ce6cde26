"""Students with side outputs train through the bundle, from their overlays alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from monai.bundle import ConfigParser
from safetensors.torch import save_file

from monai_difom.data import make_polyps
from monai_difom.utils import load_state

ROOT = Path(__file__).parents[2]
STUDENTS: dict[str, dict[str, Any]] = {
    "pranet": {
        "network_def#encoder_arguments": {
            "layers": [1, 1, 1, 1],
            "channels": [16, 16, 16, 16],
            "stem_width": 8,
        },
        "network_def#features": 4,
        "network_def#reverse_features": [4, 4, 4],
    },
    "emcadnet": {
        "encoder": "pvt_v2_b0",
        "network_def#encoder_arguments": {
            "embed_dims": [8, 8, 16, 16],
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 2, 2],
        },
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_polyps(folder, train=6, test=1, size=48)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "teacher.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("test_efficientnet").state_dict(), str(file))
    return file


@pytest.mark.parametrize("name", list(STUDENTS))
def test_a_student_with_side_outputs_trains_one_epoch_a_phase_and_deploys_one_output(
    name: str, data: Path, weights: Path, tmp_path: Path
) -> None:
    config = ConfigParser()
    config.read_config(
        [
            str(ROOT / "bundles/polyp_difom/configs/train.yaml"),
            str(ROOT / f"configs/students/{name}.yaml"),
        ]
    )
    config.update(
        {
            **STUDENTS[name],
            "dataset_dir": str(data),
            "output_dir": str(tmp_path),
            "ckpt_dir": str(tmp_path / "models"),
            "teachers#imagenet#name": "test_efficientnet",
            "teacher_weights": str(weights),
            "image_size": 64,
            "batch_size": 2,
            "epochs": [1, 1, 1],
            "phases#1#freeze": ["encoder"],
            "device": "cpu",
            "progress": False,
        }
    )
    trainer = config.get_parsed_content("train#trainer")
    student = config.get_parsed_content("network")
    encoders: list[dict[str, torch.Tensor]] = []

    def remember() -> None:
        encoders.append({key: value.clone() for key, value in student.encoder.state_dict().items()})

    trainer.add_event_handler("EPOCH_COMPLETED", remember)
    trainer.run()
    assert all(torch.equal(value, encoders[1][key]) for key, value in encoders[0].items())
    assert any(not torch.equal(value, encoders[2][key]) for key, value in encoders[1].items())

    fresh = config.get_parsed_content("network_def", instantiate=True, lazy=False)
    fresh.load_state_dict(load_state(tmp_path / "models" / "model.pt"), strict=True)
    with torch.no_grad():
        assert fresh.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 1, 64, 64)
