"""Volumes and images are scored in millimetres where the size of a pixel is known."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd, Spacingd
from PIL import Image

from monai_difom.apps import evaluate_bundle, evaluate_set
from monai_difom.data import BinaryMaskd, evaluation_chain
from monai_difom.metrics import image_scores
from tests.volumes import AFFINES, make_volume


class Shifted(torch.nn.Module):
    """Marks what is bright, one voxel along the last axis of what it sees beside its place."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.roll(image, 1, -1) - 50


def chain(*, moved: bool) -> Compose:
    loading = [
        LoadImaged(["image", "label"], reader="NibabelReader"),
        EnsureChannelFirstd(["image", "label"]),
        BinaryMaskd("label", 0.5),
    ]
    turned = [Orientationd("image", "RAS", labels=None), Spacingd("image", [1.0, 1.0, 1.0])]
    return Compose([*loading, *(turned if moved else [])])


@pytest.mark.parametrize("kind", AFFINES)
def test_a_volume_is_scored_on_the_grid_of_its_file_in_millimetres(kind: str, tmp_path: Path) -> None:
    truth = make_volume(tmp_path, "a", AFFINES[kind], shape=(22, 24, 18)) > 0
    item = {"image": str(tmp_path / "images" / "a.nii.gz"), "label": str(tmp_path / "masks" / "a.nii.gz")}
    inferer = SlidingWindowInferer((12, 12, 12), overlap=0.25)
    (row,) = evaluate_set(torch.nn.Identity(), [item], chain(moved=False), inferer=inferer, threshold=1.0)
    spacing = nibabel.load(item["image"]).header.get_zooms()
    seen = torch.sigmoid(torch.tensor(nibabel.load(item["image"]).get_fdata())).numpy() >= 1
    expected = image_scores(seen, truth, spacing)
    assert {key: row[key] for key in expected} == pytest.approx(expected, abs=1e-3)
    assert row["spacing"] == pytest.approx(spacing, abs=1e-4)
    # turned and resampled on the way in, the prediction comes back to its place: one voxel of 1 mm aside
    (row,) = evaluate_set(Shifted(), [item], chain(moved=True), inferer=lambda x, network: network(x))
    assert 0.5 < row["hd95"] < 3.2
    assert row["dice"] > 0.8


def test_distances_of_images_are_in_millimetres_where_all_items_have_a_spacing(tmp_path: Path) -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 8:20] = 255
    items = []
    for n in range(2):
        Image.fromarray(np.roll(mask, 2, 1)).save(tmp_path / f"image{n}.png")
        Image.fromarray(mask).save(tmp_path / f"mask{n}.png")
        items.append({"image": str(tmp_path / f"image{n}.png"), "label": str(tmp_path / f"mask{n}.png")})
    network = torch.nn.Conv2d(3, 1, 1)
    torch.nn.init.constant_(network.weight, 10.0)
    torch.nn.init.constant_(network.bias, -5.0)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    sized = [{**item, "spacing": [1.0, 0.5]} for item in items]
    for case, unit, distance in ((items, "px", 2.0), ([items[0], sized[1]], "px", 2.0), (sized, "mm", 1.0)):
        found = evaluate_bundle(network, {"all": case}, evaluation_chain(32), tmp_path / "model.pt", tmp_path)
        assert found["all"]["hd95"] == pytest.approx(distance)
        assert json.loads((tmp_path / "evaluation.json").read_text())["settings"]["unit"] == unit
        with open(tmp_path / "all.csv") as stream:
            row = next(csv.DictReader(stream))
        assert (row.get("spacing_2") == "0.5") == (unit == "mm")
