from __future__ import annotations

import pytest
import torch

from monai_difom.losses import MISSING
from monai_difom.transforms import MixSoftMaskd, mix_soft_mask


def masks() -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.tensor([[[0.0, 1.0, 1.0, 0.0]]])
    soft = torch.tensor([[[0, 255, 51, 204]]], dtype=torch.uint8)
    return label, soft


@pytest.mark.parametrize("trust", [0.0, 0.25, 1.0])
def test_trust_is_the_share_of_the_soft_mask(trust: float) -> None:
    label, soft = masks()
    wanted = (1 - trust) * label + trust * soft.float() / 255
    torch.testing.assert_close(mix_soft_mask(label, soft, trust), wanted)
    assert torch.equal(label, masks()[0])  # what is cached stays as it is


def test_one_mask_alone_is_taken_as_it_is() -> None:
    label, soft = masks()
    assert torch.equal(mix_soft_mask(label, None, 0.5), label)
    torch.testing.assert_close(mix_soft_mask(None, soft, 0.0), soft.float() / 255)
    assert mix_soft_mask(None, None) is None


def test_a_structure_that_nobody_drew_is_the_soft_masks() -> None:
    label = torch.stack([torch.ones(2, 2), torch.full((2, 2), float(MISSING))])
    soft = torch.full((2, 2, 2), 51, dtype=torch.uint8)
    mixed = mix_soft_mask(label, soft, 0.5)
    torch.testing.assert_close(mixed, torch.stack([torch.full((2, 2), 0.6), torch.full((2, 2), 0.2)]))
    assert (mix_soft_mask(label, None)[1] == MISSING).all()


def test_an_item_ends_with_one_mask_whatever_it_had() -> None:
    label, soft = masks()
    image = torch.zeros(3, 1, 4)
    step = MixSoftMaskd(channels=2, trust=0.5)
    assert set(step({"image": image, "label": label, "soft_mask": soft})) == {"image", "label"}
    assert set(step({"image": image, "soft_mask": soft})) == {"image", "label"}
    missing = step({"image": image})["label"]
    assert missing.shape == (2, 1, 4)
    assert (missing == MISSING).all()
    assert set(MixSoftMaskd()({"image": image})) == {"image"}


def test_wrong_numbers_and_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"trust is 1\.5"):
        MixSoftMaskd(trust=1.5)
    with pytest.raises(ValueError, match="channels is 0"):
        MixSoftMaskd(channels=0)
    label, soft = masks()
    with pytest.raises(ValueError, match="one channel for each structure"):
        mix_soft_mask(label, torch.cat([soft, soft]))
