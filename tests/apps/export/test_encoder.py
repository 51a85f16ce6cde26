"""The encoder of a run, alone, in a file that another student starts from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
import yaml
from safetensors import safe_open
from torch import nn

from monai_difom.__main__ import main
from monai_difom.apps import describe_run, export_encoder, summarize
from monai_difom.engines import Phase, Plan
from monai_difom.handlers import PhaseLog, TrainingCheckpoint
from monai_difom.networks.nets import DifomUNet, DifomUNetPlusPlus
from monai_difom.utils import load_state
from tests.tiny import make_data, make_trainer

WIDTHS = (4, 6, 8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its configuration, as a bundle leaves it."""
    folder = tmp_path_factory.mktemp("runs") / "polyps"
    data = make_data(tmp_path_factory.mktemp("data"))
    plan = Plan([Phase("distil", 1, {"low": 1.0})])
    trainer = make_trainer(data, plan, [PhaseLog(), TrainingCheckpoint(folder / "models")])
    trainer.run()
    summarize(trainer, {}, folder)
    config = {
        "widths": list(WIDTHS),
        "network_def": {
            "_target_": "monai_difom.networks.nets.DifomUNet",
            "spatial_dims": 2,
            "features": "@widths",
            "out_channels": "$1 + 0",
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def metadata(file: Path) -> dict[str, str]:
    with safe_open(str(file), "pt") as opened:
        return opened.metadata()


def test_another_student_starts_from_the_encoder_of_a_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "encoder.safetensors"
    assert main(["export", "--encoder-only", "--run", str(run), "--output", str(file)]) == 0
    assert "pretrained=" in capsys.readouterr().out
    trained = load_state(run / "models/model.pt")
    torch.manual_seed(9)
    other = DifomUNet(
        2, 3, out_channels=12, features=WIDTHS, pretrained=file
    )  # another task: twelve structures
    for key, value in other.encoder.state_dict().items():
        assert torch.equal(value, trained[f"encoder.{key}"]), key
    torch.manual_seed(9)
    fresh = DifomUNet(2, 3, out_channels=12, features=WIDTHS)
    assert torch.equal(other.head.weight, fresh.head.weight)  # the rest is as random as without


def test_the_file_holds_the_encoder_only_and_says_where_it_is_from(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "encoder.safetensors"
    main(["export", "--encoder-only", "--run", str(run / "models/model.pt"), "--output", str(file)])
    assert set(load_state(file)) == set(DifomUNet(2, 3, 1, WIDTHS).encoder.state_dict())
    told = metadata(file)
    assert (told["content"], told["student"], told["run"]) == ("encoder", "DifomUNet", "polyps")
    assert json.loads(told["teachers"])["tiny"].keys() == {"source", "licence"}
    assert told["class"] == "monai_difom.networks.nets.DifomUNet"
    arguments = json.loads(told["arguments"])
    assert arguments == {"spatial_dims": 2, "features": [4, 6, 8], "out_channels": "$1 + 0"}
    assert int(told["parameters"]) == sum(p.numel() for p in DifomUNet(2, 3, 1, WIDTHS).encoder.parameters())
    assert len(told["sha256"]) == 64


def test_a_student_with_a_timm_encoder_leaves_a_file_in_timms_layout(tmp_path: Path) -> None:
    class Student(nn.Module):
        encoder_module = "backbone"

        def __init__(self) -> None:
            super().__init__()
            self.backbone = timm.create_model("mobilenetv3_small_050", features_only=True)
            self.head = nn.Conv2d(288, 1, 1)

    student, file = Student(), tmp_path / "encoder.safetensors"
    assert export_encoder(student, file)["module"] == "backbone"
    other = timm.create_model("mobilenetv3_small_050", features_only=True)
    other.load_state_dict(load_state(file), strict=True)


def test_unet_and_unetpp_share_an_encoder(tmp_path: Path) -> None:
    file = tmp_path / "encoder.safetensors"
    export_encoder(DifomUNet(2, 3, 1, WIDTHS, bias=True), file)
    DifomUNetPlusPlus(2, 3, 1, WIDTHS, bias=True, pretrained=file)


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "encoder.safetensors"
    export_encoder(DifomUNet(2, 3, 1, WIDTHS), file)
    with pytest.raises(ValueError, match=r"does not fit .*\(4, 3, 3, 3\) instead of \(8, 3, 3, 3\)"):
        DifomUNet(2, 3, 1, (8, 6, 8), pretrained=file)
    with pytest.raises(ValueError, match=r"missing keys \(first: 3\."):
        DifomUNet(2, 3, 1, (4, 6, 8, 8), pretrained=file)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        DifomUNet(2, 3, 1, WIDTHS, pretrained=tmp_path / "nowhere.pt")


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no module 'backbone'; its parts are decoder, encoder, head"):
        export_encoder(DifomUNet(2, 3, 1, WIDTHS), tmp_path / "a.safetensors", module="backbone")
    with pytest.raises(ValueError, match=r"written as \.safetensors"):
        export_encoder(DifomUNet(2, 3, 1, WIDTHS), tmp_path / "a.pt")
    with pytest.raises(FileNotFoundError, match="no student at"):
        describe_run(tmp_path)
    with pytest.raises(SystemExit):
        main(["export", "--run", "a", "--output", "b"])  # nothing to export was named
