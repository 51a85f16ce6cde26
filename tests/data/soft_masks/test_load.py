"""A soft mask that training reads lies on its image, through everything that moves the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    Flipd,
    LoadImaged,
    Orientationd,
    Spacingd,
    SpatialPadd,
)

from monai_difom.data import SoftMaskError, SoftMasks, SoftMaskWriter, image_keys
from monai_difom.data.soft_masks import with_soft_masks
from monai_difom.transforms import ForegroundOfd
from tests.volumes import AFFINES, make_volume

BOTH = ["image", "soft_mask"]


def chain(*more: Any) -> Compose:
    return Compose(
        [
            LoadImaged("image", reader="NibabelReader"),
            EnsureChannelFirstd("image"),
            Orientationd(BOTH, axcodes="RAS", labels=None, allow_missing_keys=True),
            Spacingd(BOTH, pixdim=[1.3, 1.1, 1.7], mode=["bilinear", "bilinear"], allow_missing_keys=True),
            SpatialPadd(BOTH, spatial_size=[64, 64, 64], allow_missing_keys=True),
            *more,
            EnsureTyped(BOTH, track_meta=False, allow_missing_keys=True),
        ]
    )


@pytest.fixture(params=AFFINES)
def labelled(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, SoftMasks]:
    """A volume whose soft mask is its own values, in [0, 1]."""
    make_volume(tmp_path, "case", AFFINES[request.param], seed=3)
    file = tmp_path / "images" / "case.nii.gz"
    values = torch.from_numpy(nibabel.load(file).get_fdata()).float()[None]
    (key,) = image_keys([{"image": str(file)}])
    writer = SoftMaskWriter(tmp_path / "soft", ["bright"], {"a": "1"}, [0])
    writer.write(key, "case", ((values + 60) / 240).clamp(0, 1), 0.9, 0.1, ["a"])
    return str(file), writer.finish()


def test_a_volumes_soft_mask_moves_with_it(labelled: tuple[str, SoftMasks]) -> None:
    file, masks = labelled
    found = with_soft_masks(chain(), masks)({"image": file})
    assert found["soft_mask"].dtype == torch.uint8
    assert found["soft_mask"].shape == found["image"].shape
    inside = found["image"] != 0
    expected = (found["image"] + 60) / 240
    apart = (found["soft_mask"] / 255 - expected)[inside].abs()
    # 8 bits before and behind the interpolation; where the file clips at 0, and at the border of the volume, more
    assert apart.quantile(0.99) < 0.01


def test_a_step_that_moves_the_volume_alone_is_refused(labelled: tuple[str, SoftMasks]) -> None:
    with pytest.raises(SoftMaskError, match="Flipd changes the image and not the soft mask"):
        with_soft_masks(chain(Flipd("image", 0)), labelled[1])


def test_windows_are_drawn_around_what_a_person_or_a_teacher_said() -> None:
    image = torch.zeros(1, 4, 4, 4)
    drawn, said = torch.zeros(2, 4, 4, 4), torch.zeros(2, 4, 4, 4, dtype=torch.uint8)
    drawn[1, 0, 0, 0], said[0, 3, 3, 3], said[0, 1, 1, 1] = 1, 128, 127
    find = ForegroundOfd()
    by_label = find({"image": image, "label": drawn, "soft_mask": said})["foreground"]
    by_teacher = find({"image": image, "soft_mask": said})["foreground"]
    nowhere = find({"image": image})["foreground"]
    assert np.argwhere(by_label.numpy()).tolist() == [[0, 0, 0, 0]]
    assert np.argwhere(by_teacher.numpy()).tolist() == [[0, 3, 3, 3]]
    assert nowhere.shape == (1, 4, 4, 4)
    assert not nowhere.any()
