"""What the zoo says of its teachers is what their classes do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml

from monai_difom.networks import teachers
from monai_difom.zoo import ZOO, ZooEntry, find_entry

ROOT = Path(__file__).parents[2]


def test_names_and_sources_are_told_apart() -> None:
    assert len({entry.name for entry in ZOO}) == len(ZOO)
    assert len({(entry.folder, entry.source) for entry in ZOO}) == len(ZOO)


@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.name)
def test_an_entry_is_complete_and_its_family_exists(entry: ZooEntry) -> None:
    assert hasattr(teachers, entry.family.partition("(")[0])
    assert entry.licence
    assert entry.parameters > 1
    assert entry.where.startswith("https://")
    assert re.match(r"\w+ \d+(/\d+)?(, \w+( \d+(/\d+)?)?)*$", entry.maps)


def test_an_option_is_a_top_level_id_of_an_overlay() -> None:
    known = {
        key for file in (ROOT / "configs/teachers").glob("*.yaml") for key in yaml.safe_load(file.read_text())
    }
    known |= set(yaml.safe_load((ROOT / "bundles/polyp_difom/configs/train.yaml").read_text()))
    assert {entry.option for entry in ZOO} - {""} <= known


@pytest.mark.parametrize(
    ("kind", "name"), [("vit_b", "sam-vit_b"), ("vit_l", "sam-vit_l"), ("vit_h", "sam-vit_h")]
)
def test_sams_parameters_are_those_of_its_image_encoder(kind: str, name: str) -> None:
    from segment_anything.modeling import ImageEncoderViT

    from monai_difom.networks.teachers.segment_anything import _ARCHITECTURES

    with torch.device("meta"):
        encoder = ImageEncoderViT(**_ARCHITECTURES[kind], out_chans=256, use_rel_pos=True, window_size=14)
    entry = next(entry for entry in ZOO if entry.name == name)
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(entry.parameters, abs=0.05)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("facebook/dinov2-base", "dinov2-base"),
        ("weights/dinov2-base", "dinov2-base"),
        ("/data/sam_vit_b_01ec64.pth", "sam-vit_b"),
        ("weights/medsam_vit_b.pth", "medsam"),
        ("someone/dinov2-base-polyps", None),
        ("pytorch_model.bin", None),
    ],
)
def test_a_teacher_is_found_by_hub_name_by_file_and_by_folder_name(source: str, name: str | None) -> None:
    found = find_entry(source)
    assert (found.name if found else None) == name
