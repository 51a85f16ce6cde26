"""The recipes as their user runs them: a tiny teacher is adapted, labels the images, and a tiny student learns from both."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from monai_difom.apps.bundle.command_line import cause_of
from monai_difom.data import train_validation, unlabelled_items
from monai_difom.networks.nets import DifomUNet
from monai_difom.utils import load_state
from tests.bundles.commands import ROOT, bundle_workflow

BUNDLE = ROOT / "bundles" / "polyp_difom"
CONFIGS = BUNDLE / "configs"
FEATURES = [4, 6, 8, 8, 8]
workflow = partial(bundle_workflow, CONFIGS)
TEACHER = {
    "teacher_def": {
        "_target_": "monai_difom.networks.nets.DifomUNet",
        "spatial_dims": 2,
        "in_channels": 3,
        "out_channels": 1,
        "features": [8, 8, 8],
    }
}


def files(recipe: str, folder: Path, *more: str) -> list[str]:
    overlay = folder / "teacher.yaml"
    overlay.write_text(yaml.safe_dump(TEACHER))
    names = [*more, f"configs/recipes/{recipe}.yaml"]
    return [str(CONFIGS / "train.yaml"), str(overlay), *(str(ROOT / name) for name in names)]


def options(data: Path, out: Path, **more: Any) -> dict[str, Any]:
    return {
        "bundle_root": str(BUNDLE),
        "dataset_dir": str(data),
        "output_dir": str(out),
        "ckpt_dir": str(out / "models"),
        "image_size": 64,
        "batch_size": 4,
        "epochs": [1, 1, 1],
        "limit": 4,
        "progress": False,
        "report": False,
        "device": "cpu",
        "network_def#features": FEATURES,
        **more,
    }


def train(recipe: str, data: Path, out: Path, *overlays: str, **more: Any) -> None:
    out.mkdir(parents=True, exist_ok=True)
    flow = workflow(files(recipe, out, *overlays), **options(data, out, **more), run_id="training")
    flow.initialize()
    flow.run()


def refusal(data: Path, out: Path, **more: Any) -> str:
    with pytest.raises(Exception, match="Failed to ") as caught:
        train("soft_masks", data, out, **more)
    return str(cause_of(caught.value))


@pytest.fixture(scope="module")
def hidden(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set with masks that cannot be opened, but for the labelled and the validation images."""
    folder = tmp_path_factory.mktemp("hidden") / "polyp"
    shutil.copytree(data, folder)
    for item in unlabelled_items("rest", folder, limit=4):
        mask = folder / "TrainDataset" / "mask" / f"{Path(item['image']).stem}.png"
        mask.write_bytes(b"nobody may read this")
    return folder


@pytest.fixture(scope="module")
def trained(hidden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("soft")
    train("soft_masks", hidden, out, report=True, ema=0.9, epoch_steps=3)
    return out


def test_one_command_adapts_labels_and_trains_without_a_mask_of_the_unlabelled(trained: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["recipe"] == "soft_masks"
    assert (summary["labelled"], summary["unlabelled"]) == (4, 10)
    own, teacher = summary["test_sets"], summary["stages"]["adapt"]["test_sets"]
    assert set(own) == set(teacher)
    assert all(0 <= scores["dice"] <= 1 for part in (own, teacher) for scores in part.values())
    fit = summary["collapse"]["soft_masks"]
    assert (fit["phase"], fit["collapsed"]) == ("refine", False)
    assert [found["licence"] for found in summary["teachers"].values()] == [
        "that of the weights it started from and of the labelled images"
    ]
    assert len(list((trained / "soft_masks" / "masks").iterdir())) == 14
    record = json.loads((trained / "run.json").read_text())
    assert (record["labelled"], record["unlabelled"]) == (4, 10)
    page = (trained / "report.html").read_text()
    assert "trained on drawn masks and on soft masks of adapt" in page
    assert "4 labelled images and 10 without masks" in page
    assert "soft masks of the models below" in (trained / "bundle" / "docs" / "README.md").read_text()


def test_nothing_of_the_teacher_is_in_the_student(trained: Path) -> None:
    for name in ("model.pt", "last_model.pt"):
        DifomUNet(2, 3, 1, FEATURES).load_state_dict(load_state(trained / "models" / name))
    deployed = yaml.safe_load((trained / "bundle" / "configs" / "inference.yaml").read_text())["network_def"]
    assert deployed["features"] == FEATURES


def test_started_again_it_goes_on_where_it_was(trained: Path, hidden: Path, tmp_path: Path) -> None:
    # as a kill would leave it: half of the masks, and a student after its first epoch
    for part in ("adapt", "soft_masks"):
        shutil.copytree(trained / part, tmp_path / part)
    files = sorted((tmp_path / "soft_masks" / "masks").iterdir())
    for file in files[:7]:
        file.unlink()
    adapted = (tmp_path / "adapt" / "teacher.json").stat().st_mtime_ns
    train("soft_masks", hidden, tmp_path, ema=0.9, epoch_steps=3)
    assert (tmp_path / "adapt" / "teacher.json").stat().st_mtime_ns == adapted
    whole, again = (load_state(folder / "models" / "last.pt") for folder in (trained, tmp_path))
    for key in whole["distiller"]:
        assert torch.equal(whole["distiller"][key], again["distiller"][key]), key
        assert torch.equal(whole["average"]["mean"][key], again["average"]["mean"][key]), key


def test_soft_masks_that_are_there_need_no_teacher(trained: Path, hidden: Path, tmp_path: Path) -> None:
    train("soft_masks", hidden, tmp_path, soft_masks=str(trained / "soft_masks"), epochs=[0, 1, 0])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert "stages" not in summary
    assert not (tmp_path / "adapt").exists()
    assert summary["collapse"]["soft_masks"]["target_variance"] > 0


def test_features_then_masks_use_the_maps_on_all_images_first(
    trained: Path, hidden: Path, teacher: Path, tmp_path: Path
) -> None:
    train(
        "features_then_masks",
        hidden,
        tmp_path,
        "configs/teachers/imagenet_local.yaml",
        teacher_weights=str(teacher),
        soft_masks=str(trained / "soft_masks"),
        epochs=[1, 1, 0],
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["collapse"]) == {"bottleneck", "stride8", "soft_masks"}
    assert [set(phase["terms"]) for phase in summary["phases"]] == [
        {"bottleneck", "stride8"},
        {"segmentation"},
    ]


def maps(data: Path, folder: Path, levels: Any = None, side: int | None = None) -> Path:
    """Maps of all images that are used without masks."""
    folder.mkdir()
    for item in unlabelled_items("rest", data, limit=4):
        with Image.open(item["image"]) as image:
            size = (image.height, image.width) if side is None else (side, side)
        found = np.random.default_rng(0).integers(0, 255, size) if levels is None else np.full(size, levels)
        Image.fromarray(found.astype(np.uint8)).save(folder / f"{Path(item['image']).stem}.png")
    return folder


def test_soft_masks_of_other_sizes_images_or_without_content_are_refused(
    hidden: Path, tmp_path: Path
) -> None:
    wrong = {
        "side": (maps(hidden, tmp_path / "side", side=20), "is 20 x 20"),
        "empty": (maps(hidden, tmp_path / "empty", levels=0), "constant"),
        "grey": (maps(hidden, tmp_path / "grey", levels=128), "constant"),
        "others": (maps(hidden, tmp_path / "others"), "has no map of"),
    }
    for number, file in enumerate(sorted((tmp_path / "others").iterdir())):
        file.rename(file.with_name(f"other_{number}.png"))
    for name, (folder, message) in wrong.items():
        assert message in refusal(hidden, tmp_path / "out" / name, soft_masks=str(folder)), name


def test_a_folder_that_holds_a_held_out_image_is_refused(data: Path, tmp_path: Path) -> None:
    held_out = {
        "test": next((data / "TestDataset").rglob("images/*.png")),
        "validation": Path(train_validation(data, limit=4)[1][0]["image"]),
    }
    for name, image in held_out.items():
        folder = tmp_path / name
        folder.mkdir()
        Image.open(image).convert("RGB").transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(folder / "new.png")
        message = refusal(data, tmp_path / "out" / name, unlabelled=str(folder))
        assert f"new.png nearly equals {image}" in message or f"new.png equals {image}" in message


def test_members_of_another_adaptation_are_refused(trained: Path, hidden: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "adapt", tmp_path / "adapt")
    assert "other settings" in refusal(hidden, tmp_path, adapt_epochs=5, epoch_steps=3, ema=0.9)
    # a teacher that was trained anew: its masks are not those that lie there
    shutil.copytree(trained / "soft_masks", tmp_path / "out" / "soft_masks")
    message = refusal(hidden, tmp_path / "out", adapt_rate=0.01, epoch_steps=3)
    assert "holds soft masks of something else" in message


@pytest.mark.parametrize("bundle", ["polyp_difom", "agglomerated_encoder", "task_specific_kd"])
def test_a_run_that_is_finished_labels_without_being_adapted(
    trained: Path, hidden: Path, tmp_path: Path, bundle: str
) -> None:
    configs = ROOT / "bundles" / bundle / "configs"
    given = options(hidden, tmp_path, bundle_root=str(ROOT / "bundles" / bundle), epoch_steps=2)
    if bundle in OTHERS:
        given = {**given, **OTHERS[bundle]}
        given.pop("network_def#features")
    overlays = [str(configs / "train.yaml"), *files("soft_masks", tmp_path)[1:]]
    given["label_teachers"] = [str(trained)]
    flow = bundle_workflow(configs, overlays, **given, run_id="training")
    flow.initialize()
    flow.run()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["unlabelled"] == 10
    assert "adapt" not in summary.get("stages", {})
    assert not (tmp_path / "adapt").exists()
    index = json.loads((tmp_path / "soft_masks" / "soft_masks.json").read_text())
    assert list(index["teachers"]) == [trained.name]


OTHERS = {
    "agglomerated_encoder": {"encoder": "test_efficientnet", "unlabelled_share": 0.5},
    "task_specific_kd": {"network_def#encoder": "test_vit", "teacher_layers": [], "image_size": 32},
}


@pytest.mark.parametrize("bundle", OTHERS)
def test_the_recipe_of_soft_masks_is_one_file_for_all_bundles(
    hidden: Path, tmp_path: Path, bundle: str
) -> None:
    configs = ROOT / "bundles" / bundle / "configs"
    given = options(hidden, tmp_path, bundle_root=str(ROOT / "bundles" / bundle), epoch_steps=2, ema=0.9)
    given.pop("network_def#features")
    overlays = [str(configs / "train.yaml"), *files("soft_masks", tmp_path)[1:]]
    flow = bundle_workflow(configs, overlays, **{**given, **OTHERS[bundle], "rotate": 180}, run_id="training")
    flow.initialize()
    flow.run()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["recipe"], summary["labelled"], summary["unlabelled"]) == ("soft_masks", 4, 10)
    assert set(summary["stages"]["adapt"]["test_sets"]) == set(summary["test_sets"])
    assert summary["collapse"]["soft_masks"]["target_variance"] > 0
    assert (tmp_path / "models" / "last_model.pt").is_file()


SHARED = (
    *(
        "recipe",
        "unlabelled",
        "unlabelled_data",
        "unlabelled_share",
        "soft_masks",
        "soft_masks_of",
        "soft_masks_dir",
    ),
    *(
        "trust",
        "min_confidence",
        "epoch_steps",
        "ema",
        "rotate",
        "scale",
        "shift",
        "shear",
        "elastic",
        "mixing",
    ),
    *("mixing_prob", "stages", "student", "adapt", "autolabel", "label_views"),
)


@pytest.mark.parametrize("bundle", ["polyp_difom", *OTHERS])
def test_the_options_of_the_recipes_have_one_name_in_all_bundles(bundle: str) -> None:
    found = yaml.safe_load((ROOT / "bundles" / bundle / "configs" / "train.yaml").read_text())
    assert [name for name in SHARED if name not in found] == []
