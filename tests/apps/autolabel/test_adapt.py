"""A teacher is adapted member by member: each done once, resumed where it was, none on the images that it labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_difom.apps.autolabel.adapted import read_adapted
from monai_difom.data import image_keys, train_validation
from monai_difom.handlers import TrainingCheckpoint
from monai_difom.utils import load_state

from .tiny import DEFINITION, SETTINGS, adaptation

VIT = {
    "_target_": "monai_difom.networks.nets.ViTSegmenter",
    "spatial_dims": 2,
    "in_channels": 3,
    "out_channels": 1,
    "encoder": "test_vit",
    "image_size": 32,
}


def test_every_labelled_image_is_new_to_one_member_of_a_seed(adapted: Path, polyps: Path) -> None:
    teacher = read_adapted(adapted)
    train, validation = train_validation(polyps, 0.25)
    keys, kept = set(image_keys(train)), set(image_keys(validation))
    held_out = [keys - set(member.trained_on) for member in teacher.members]
    assert held_out[0] | held_out[1] == keys
    assert not held_out[0] & held_out[1]
    assert all(not kept & set(member.trained_on) for member in teacher.members)
    assert [member.held_out["n"] for member in teacher.members] == [len(part) for part in held_out]


def test_the_report_has_scores_of_every_member_and_of_all_together(adapted: Path) -> None:
    found = json.loads((adapted / "teacher.json").read_text())
    assert [member["name"] for member in found["members"]] == ["seed0_fold0", "seed0_fold1"]
    for scored in (*found["members"], found):
        assert 0 <= scored["test_sets"]["synthetic"]["dice"] <= 1
    assert all(0 <= member["best"]["best"] <= 1 for member in found["members"])
    page = (adapted / "teacher.html").read_text()
    assert "seed0_fold1" in page
    assert "http" not in page
    for name in ("summary.json", "history.json", "run.json", "synthetic.csv"):
        assert (adapted / "seed0_fold0" / name).is_file()


def test_members_come_back_as_they_were_trained(adapted: Path) -> None:
    teacher = read_adapted(adapted)
    for member in teacher.members:
        state = load_state(adapted / member.name / "models" / "model.pt")
        found = teacher.network(member).state_dict()
        assert all(torch.equal(found[key], value) for key, value in state.items())
    first, second = teacher.members
    assert teacher.signature(first) != teacher.signature(second)


def test_a_killed_adaptation_goes_on_where_it_was(
    adapted: Path, polyps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, calls = TrainingCheckpoint._completed, []

    def killed(self: TrainingCheckpoint, engine: Any) -> None:
        written(self, engine)
        calls.append(self.folder)
        if len(calls) in (1, 4):
            raise KeyboardInterrupt("killed after an epoch")

    monkeypatch.setattr(TrainingCheckpoint, "_completed", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            adaptation(polyps, tmp_path, folds=2).run()
    assert not (tmp_path / "teacher.json").exists()
    adaptation(polyps, tmp_path, folds=2).run()
    # two epochs each: one before the first kill, one after it, and so on; none twice
    assert [folder.parent.name for folder in calls] == ["seed0_fold0"] * 2 + ["seed0_fold1"] * 2
    expected, found = read_adapted(adapted), read_adapted(tmp_path)
    assert [m.digest for m in found.members] == [m.digest for m in expected.members] or all(
        torch.equal(value, load_state(found.weights_file(b))[key])
        for a, b in zip(expected.members, found.members, strict=True)
        for key, value in load_state(expected.weights_file(a)).items()
    )
    adaptation(polyps, tmp_path, folds=2).run()
    assert len(calls) == 4


def test_one_member_stands_in_the_folder_itself_and_other_settings_are_refused(
    polyps: Path, tmp_path: Path
) -> None:
    found = adaptation(
        polyps, tmp_path, settings={**SETTINGS, "epochs": 1, "ema": 0.9, "epoch_steps": 3}
    ).run()
    assert [member["folder"] for member in found["members"]] == ["."]
    assert (tmp_path / "models" / "model.pt").is_file()
    for change, message in (
        ({"image_size": 48}, r"image_size 32 \(now 48\)"),
        ({"settings": {**SETTINGS, "learning_rate": 0.02}}, "learning_rate"),
        ({"train": adaptation(polyps, tmp_path).train[1:]}, "labelled images"),
        ({"definition": {**DEFINITION, "features": [4, 4]}}, "teacher_def"),
    ):
        with pytest.raises(ValueError, match=message):
            adaptation(polyps, tmp_path, **change).run()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"definition": None}, "no network to adapt.*efficientnet_lite2.yaml"),
        ({"folds": 8}, "cannot be divided into 8 folds"),
        ({"settings": {"epoch": 3}}, "epochs"),
        ({"seeds": 0}, "seeds is 0"),
        ({"settings": {"epochs": 0}}, "epochs of an adaptation is 0"),
    ],
)
def test_what_cannot_be_adapted_is_said_before_anything_is_trained(
    change: dict[str, Any], message: str, polyps: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        adaptation(polyps, tmp_path, **change)
    assert not list(tmp_path.iterdir())


def test_a_vision_transformer_is_adapted_by_adapters_on_its_pretrained_weights(
    polyps: Path, tmp_path: Path
) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    weights = tmp_path / "vit.safetensors"
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), str(weights))
    lora = {"targets": ["qkv"], "rank": 2, "train": ["laterals", "steps", "head"]}
    adaptation(
        polyps,
        tmp_path / "out",
        definition={**VIT, "pretrained": str(weights)},
        lora=lora,
        seeds=2,
        test_sets={},
    ).run()
    teacher = read_adapted(tmp_path / "out")
    assert [member.weights for member in teacher.members] == ["adapters.safetensors"] * 2
    networks = [teacher.network(member) for member in teacher.members]
    assert not any("lora" in key for key in networks[0].state_dict())
    assert not torch.equal(networks[0].head.weight, networks[1].head.weight)
    weights.unlink()
    with pytest.raises(ValueError, match=r"cannot be built.*vit\.safetensors"):
        teacher.network(teacher.members[0])
