"""A training whose bundle would prepare images otherwise is refused before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.transforms import Compose

from monai_difom.apps import check_bundle, check_preparation
from monai_difom.apps.deployed.facts import read_deployment
from monai_difom.data import loading_chain, plain_augmentation, training_augmentation
from monai_difom.transforms import IMAGENET_MEAN, NormalizeImaged, RandPhotometricd
from tests import odd_files as odd

ROOT = Path(__file__).parents[3]
BUNDLES = [file.parents[1] for file in sorted(ROOT.glob("bundles/*/configs/train.yaml"))]
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
SETTINGS: dict[str, Any] = {"image_size": [24, 32], "mean": MEAN, "std": STD}


@pytest.fixture
def items(tmp_path: Path) -> list[dict[str, str]]:
    image = odd.save(tmp_path / "a.jpg", odd.stored_for(odd.picture(), 6), exif=odd.exif(6))
    return [{"image": str(image), "label": str(odd.save(tmp_path / "a.png", odd.shape()))}]


def chains(mean: list[float] = MEAN, std: list[float] = STD) -> dict[str, Compose]:
    return {"train": training_augmentation(mean, std), "validate": plain_augmentation(mean, std)}


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.name)
def test_the_settings_of_a_run_make_its_bundle_prepare_alike(bundle: Path, items: list) -> None:
    for replaced in (None, "slices"):
        check_preparation(items, loading_chain((24, 32)), chains(), SETTINGS, bundle, replaced)
    with pytest.raises(ValueError, match=r"prepare .*a\.jpg in different ways \(up to"):
        check_preparation(items, loading_chain((24, 32)), chains(), {"image_size": [24, 32]}, bundle)
    with pytest.raises(ValueError, match=r"\(3, 24, 32\) and \(3, (352, 352|224, 224)\)"):
        check_preparation(items, loading_chain((24, 32)), chains(), {"mean": MEAN, "std": STD}, bundle)


def test_what_an_overlay_adds_to_the_preparation_is_found(items: list) -> None:
    def brighter(item: dict) -> dict:
        return {**item, "image": item["image"] + 0.1}

    changed = {**chains(), "validate": Compose([*chains()["validate"].transforms, brighter])}
    with pytest.raises(ValueError, match=r"up to 0\.1 apart"):
        check_preparation(items, loading_chain((24, 32)), changed, SETTINGS, BUNDLES[0])


def test_training_and_validation_normalise_alike(items: list) -> None:
    light = RandPhotometricd("image", prob=0.0)
    other = Compose([*chains()["validate"].transforms[:1], light, NormalizeImaged("image", IMAGENET_MEAN)])
    with pytest.raises(ValueError, match="training and validation normalise images in different ways"):
        check_preparation(items, loading_chain((24, 32)), {**chains(), "train": other}, SETTINGS, BUNDLES[0])


def test_volumes_and_nothing_are_not_compared(tmp_path: Path) -> None:
    file = odd.volume(tmp_path / "a.nii.gz", np.zeros((3, 3, 3), np.int16))
    for items in ([], [{"image": str(file), "label": str(file)}]):
        check_preparation(items, loading_chain(8), chains(), SETTINGS, BUNDLES[0])


def test_a_folder_of_configurations_is_known_by_name_or_refused() -> None:
    for deployed in (None, "", "slices", "volumes", ROOT / "configs" / "volumes"):
        check_bundle(BUNDLES[0], deployed)
    with pytest.raises(ValueError, match=r"deployed is 'nowhere', where there is no inference\.yaml"):
        check_bundle(BUNDLES[0], "nowhere")


def test_a_bundle_of_whole_volumes_says_how_it_is_run(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    for name in ("inference.yaml", "metadata.json"):
        (tmp_path / "configs" / name).write_bytes((ROOT / "configs" / "volumes" / name).read_bytes())
    with pytest.raises(ValueError, match=r"segments whole volumes, in 3D, .* python -m monai.bundle run"):
        read_deployment(tmp_path)
