"""Every structure is a picture of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from monai_difom.transforms import SaveStructuresd


def test_overlapping_masks_are_written_upright_under_their_names(tmp_path: Path) -> None:
    masks = torch.zeros(2, 7, 5)  # MONAI's axis order: width before height
    masks[0, :3], masks[1, 2:] = 1, 1
    pred = MetaTensor(masks, meta={"filename_or_obj": "somewhere/a.png", "spatial_shape": [7, 5]})
    SaveStructuresd("pred", ["bone", "air"], tmp_path)({"pred": pred})
    found = {file.name: np.asarray(Image.open(file)) for file in tmp_path.iterdir()}
    assert set(found) == {"a_bone.png", "a_air.png"}
    assert np.array_equal(found["a_bone.png"], masks[0].T.numpy())
    assert found["a_air.png"].dtype == np.uint8


def test_another_number_of_channels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 masks for 1 structures"):
        SaveStructuresd("pred", ["bone"], tmp_path)({"pred": torch.zeros(2, 4, 4)})
