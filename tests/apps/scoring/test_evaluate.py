"""A student is scored structure by structure, where somebody annotated it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import Compose
from torch import nn

from monai_difom.apps import check_student, evaluate_set, evaluate_sets, predict_structures
from monai_difom.losses import MISSING
from monai_difom.metrics import map_scores

NAMES = ["bone", "bolus", "air"]


class Student(nn.Module):
    """Gives its image's channels as logits."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image


def chain() -> Compose:
    """Images of noise, masks of noise; of the second image nobody annotated the bolus, of any the air."""

    def load(item: dict[str, Any]) -> dict[str, Any]:
        rng = np.random.default_rng(item["seed"])
        label = rng.integers(0, 2, (3, 12, 16)).astype(np.uint8)
        label[2] = MISSING
        if item["seed"] == 1:
            label[1] = MISSING
        image = torch.from_numpy(rng.normal(size=(3, 12, 16)).astype(np.float32))
        return {"image": image, "label": torch.from_numpy(label)}

    return Compose([load])


ITEMS: list[dict[str, Any]] = [{"image": f"{seed}.png", "seed": seed, "group": "p1"} for seed in (0, 1)]


def test_a_row_is_an_image_and_a_structure_that_was_annotated_there() -> None:
    rows = evaluate_set(Student(), ITEMS, chain(), structures=NAMES)
    assert [(row["image"], row["structure"]) for row in rows] == [
        ("0.png", "bone"),
        ("0.png", "bolus"),
        ("1.png", "bone"),
    ]
    data = chain()(dict(ITEMS[0]))
    expected = map_scores(data["image"][1].sigmoid().numpy(), data["label"][1].numpy() > 0)
    assert rows[1]["dice"] == expected["dice"]
    assert rows[1]["hd95"] == expected["hd95"]
    assert rows[1]["group"] == "p1"


def test_means_are_of_each_structure_and_of_all_and_what_is_missing_is_counted(tmp_path: Path) -> None:
    found = evaluate_sets(Student(), {"test": ITEMS}, chain(), output_dir=tmp_path, structures=NAMES)["test"]
    rows = evaluate_set(Student(), ITEMS, chain(), structures=NAMES)
    bone = np.mean([row["dice"] for row in rows if row["structure"] == "bone"])
    assert found["structures"]["bone"]["dice"] == pytest.approx(bone)
    assert found["structures"]["bolus"]["n"] == 1
    assert set(found["structures"]) == {"bone", "bolus"}
    assert found["missing"] == {"bone": 0, "bolus": 1, "air": 2}
    assert found["dice"] == pytest.approx((bone + found["structures"]["bolus"]["dice"]) / 2)
    with open(tmp_path / "test.csv", newline="") as stream:
        assert next(csv.reader(stream))[:3] == ["structure", "group", "image"]


def test_one_structure_is_scored_as_one_mask() -> None:
    def first(item: dict[str, Any]) -> dict[str, Any]:
        return {key: value[:1] for key, value in chain()(item).items()}

    several = evaluate_sets(Student(), {"test": ITEMS}, Compose([first]), structures=["bone"])
    one = evaluate_sets(Student(), {"test": ITEMS}, Compose([first]))
    assert several == one
    assert "structures" not in one["test"]


def test_probabilities_have_the_size_that_is_asked_for() -> None:
    found = predict_structures(Student(), torch.randn(3, 8, 8), (20, 30))
    assert found.shape == (3, 20, 30)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1


def test_a_student_with_other_channels_is_refused_with_what_to_give() -> None:
    with pytest.raises(ValueError, match=r"gives 3 channel.*bone, bolus.*--network_def#out_channels 2"):
        evaluate_set(Student(), ITEMS, chain(), structures=NAMES[:2])
    with pytest.raises(ValueError, match="--network_def#out_channels 1"):
        check_student(Student(), 32, ["polyp"])
    check_student(Student(), (32, 16), NAMES)
