"""A bundle of volumes labels NIfTI files: the soft mask lies over its volume, and what a bundle would run is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from monai_difom.apps import label_images
from monai_difom.apps.autolabel import teachers as autolabel_teachers
from monai_difom.apps.deployed.volumes import read_volume_deployment
from monai_difom.apps.predict.sources import BadPictureError
from monai_difom.data import SoftMaskError, SoftMasks
from tests.volumes import AFFINES, make_volume, make_zoo_bundle

Change = Callable[[dict[str, Any]], None]


class Bright(torch.nn.Module):
    """A network of two channels that marks what is bright, so that its place is visible."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(image), 20 * (image - 0.5)], 1)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_zoo_bundle(tmp_path / "zoo")


def changed(bundle: Path, change: Change) -> Path:
    file = bundle / "configs" / "inference.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))
    return bundle


@pytest.mark.parametrize("kind", AFFINES)
def test_a_soft_mask_lies_over_its_volume_whatever_the_orientation(
    kind: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = make_volume(tmp_path, "case", AFFINES[kind], seed=4) > 0
    monkeypatch.setattr(autolabel_teachers, "load_network", lambda _: Bright())
    label_images([bundle], tmp_path / "images", tmp_path / "soft", views=8, progress=False)
    image = tmp_path / "images" / "case.nii.gz"
    found = SoftMasks(tmp_path / "soft").read(image)[0].numpy() > 0.5
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9
    (file,) = (tmp_path / "soft" / "masks").iterdir()
    seen = nibabel.load(file)  # as a viewer opens it
    np.testing.assert_allclose(seen.affine, nibabel.load(image).affine, atol=1e-4)
    np.testing.assert_allclose(seen.get_fdata() > 0.5, found)
    page = (tmp_path / "soft" / "autolabel.html").read_text()
    assert "data:image/jpeg" in page
    assert "spleen" in page


def test_views_of_one_volume_change_the_mask_and_each_is_turned_back(bundle: Path, tmp_path: Path) -> None:
    make_volume(tmp_path, "case", AFFINES["plain"])
    (teacher,) = autolabel_teachers.open_teachers([bundle])
    assert teacher.volumes is not None
    assert teacher.predict is not None
    found = teacher.volumes.probabilities(teacher.predict, tmp_path / "images" / "case.nii.gz", range(8))
    assert found.shape == (8, 1, 30, 34, 18)
    assert all(not torch.equal(found[0], other) for other in found[1:])
    assert (found[1:] - found[:1]).abs().mean() < 0.2


def test_a_killed_call_goes_on_and_other_teachers_are_refused(bundle: Path, tmp_path: Path) -> None:
    for n in range(3):
        make_volume(tmp_path, f"case_{n}", AFFINES["flipped"], seed=n)
    paths = sorted(map(str, (tmp_path / "images").iterdir()))
    soft = tmp_path / "soft"
    assert label_images([bundle], paths[:2], soft, views=1, progress=False)["written"] == 2
    assert label_images([bundle], paths, soft, views=1, progress=False)["written"] == 1
    changed(bundle, lambda config: config["inferer"].update(overlap=0.5))
    with pytest.raises(SoftMaskError, match="something else"):
        label_images([bundle], paths, soft, views=1, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["preprocessing"]["transforms"].append(
                {"_target_": "CropForegroundd", "keys": "image"}
            ),
            "has CropForegroundd, which would have to be done",
        ),
        (
            lambda c: c["preprocessing"]["transforms"].append({"_target_": "os.system", "command": "x"}),
            "has system",
        ),
        (
            lambda c: c["preprocessing"]["transforms"][3].update(pixdim="$__import__('os').system('x')"),
            "computes pixdim by an expression",
        ),
        (
            lambda c: c["preprocessing"]["transforms"][2].update(axcodes="$[1]"),
            "computes axcodes by an expression",
        ),
        (lambda c: c["preprocessing"]["transforms"][2].update(axcodes="XYZ"), "does not work on a volume"),
        (lambda c: c["preprocessing"]["transforms"][3].update(diagonal=True), "Spacingd has diagonal"),
        (
            lambda c: c["preprocessing"]["transforms"][3].update(_disabled_="$1 > 0"),
            "whether Spacingd is done",
        ),
        (lambda c: c["inferer"].update(roi_size=[10**9, 32, 16]), "the sliding window is"),
        (lambda c: c["inferer"].update(overlap=float("nan")), "overlap"),
        (lambda c: c["inferer"].update(overlap="much"), "much"),
        (
            lambda c: c["postprocessing"]["transforms"][0].pop("softmax"),
            "neither that the logits",
        ),
        (lambda c: c.update(preprocessing={"transforms": [7]}), "damaged"),
        (lambda c: c["network_def"].update(_target_="subprocess.run"), "subprocess"),
    ],
)
def test_a_bundle_that_does_what_is_not_known_here_is_refused_by_name(
    change: Change, message: str, bundle: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        autolabel_teachers.open_teachers([changed(bundle, change)])


def test_values_are_read_through_references_and_items_of_lists(bundle: Path) -> None:
    def refer(config: dict[str, Any]) -> None:
        config["window"] = [-57, 164]
        config["pixdim"] = None
        steps = config["preprocessing"]["transforms"]
        steps[4].update(a_min="$@window[0]", a_max="$@window[1]")
        steps[3]["_disabled_"] = "$@pixdim is None"

    names = dict(read_volume_deployment(changed(bundle, refer)).steps)
    assert "Spacingd" not in names
    assert (names["ScaleIntensityRanged"]["a_min"], names["ScaleIntensityRanged"]["a_max"]) == (-57, 164)


def test_what_is_no_volume_is_named_and_can_be_skipped(bundle: Path, tmp_path: Path) -> None:
    make_volume(tmp_path, "good", AFFINES["plain"])
    images = tmp_path / "images"
    (images / "torn.nii.gz").write_bytes((images / "good.nii.gz").read_bytes()[:300])
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 6, 6, 2), np.int16), np.eye(4)), images / "series.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 6), np.int16), np.eye(4)), images / "flat.nii")
    with pytest.raises(BadPictureError, match=r"flat\.nii.*--skip-bad"):
        label_images([bundle], images, tmp_path / "soft", views=1, progress=False)
    found = label_images([bundle], images, tmp_path / "soft", views=1, progress=False, skip_bad=True)
    assert found["images"] == 1
    assert sorted(re.findall(r"(\w+)\.nii", " ".join(found["skipped"]))[:1]) == ["flat"]
    assert len(found["skipped"]) == 3


def test_a_teacher_that_a_configuration_leaves_open_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no teacher was given; allowed are"):
        label_images([None], [], tmp_path / "soft")  # type: ignore[list-item]


def test_pictures_are_refused_by_teachers_of_volumes(bundle: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(picture)
    with pytest.raises(ValueError, match=r"label volumes, and 1 of 1 images are none: .*picture\.png"):
        label_images([bundle], [picture], tmp_path / "soft", progress=False)
