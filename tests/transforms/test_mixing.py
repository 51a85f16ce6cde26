from __future__ import annotations

import pytest
import torch

from monai_difom.losses import MISSING
from monai_difom.transforms import MixImages


def batch(count: int = 6, side: int = 20, spatial: int = 2) -> dict[str, torch.Tensor]:
    """Images that hold their own number, with a soft square in each at another place."""
    shape = (side,) * spatial
    numbers = torch.arange(1, count + 1).float().reshape(-1, 1, *[1] * spatial)
    label = torch.zeros(count, 1, *shape)
    for number in range(count):
        label[number, ..., 2 + number : 6 + number, 3:9] = 0.8
    image = numbers.expand(count, 3, *shape).clone()
    return {"image": image, "teacher_image": image + 100, "label": label, "view": torch.arange(count)}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("spatial", [2, 3])
@pytest.mark.parametrize("kind", ["cutmix", "copy_paste"])
def test_image_teachers_image_and_mask_change_at_the_same_places(kind: str, spatial: int) -> None:
    before = batch(spatial=spatial)
    after = MixImages(kind, prob=1.0)(before, seeded(1))
    partner = torch.arange(6).roll(1)
    for number in range(6):
        taken = after["image"][number, 0] != before["image"][number, 0]
        assert taken.any()
        assert not taken.all()
        assert (after["image"][number, :, taken] == float(partner[number] + 1)).all()
        assert torch.equal(after["teacher_image"][number], after["image"][number] + 100)
        assert torch.equal(after["label"][number, 0, taken], before["label"][partner[number], 0, taken])
        assert torch.equal(after["label"][number, 0, ~taken], before["label"][number, 0, ~taken])
        if kind == "copy_paste":
            assert torch.equal(taken, before["label"][partner[number], 0] >= 0.5)
        else:
            assert 0.03 < taken.float().mean() < 0.45
    assert torch.equal(before["image"], batch(spatial=spatial)["image"])  # the loader's tensors stay
    assert torch.equal(after["view"], before["view"])


def test_what_is_drawn_depends_on_the_generator_alone_and_prob_is_the_share_of_changed_images() -> None:
    mix = MixImages("cutmix", prob=0.3)
    first, second = (mix(batch(), seeded(3)) for _ in range(2))
    assert torch.equal(first["image"], second["image"])
    changed = 0
    for seed in range(200):
        after = mix(batch(), seeded(seed))["image"]
        changed += int((after != batch()["image"]).flatten(1).any(1).sum())
    assert 0.25 < changed / (200 * 6) < 0.35
    still = MixImages("cutmix", prob=0.0)(batch(), seeded(0))
    assert torch.equal(still["image"], batch()["image"])


def test_images_of_which_something_was_not_annotated_give_and_take_nothing() -> None:
    before = batch()
    before["label"][2] = MISSING
    after = MixImages("cutmix", prob=1.0)(before, seeded(0))
    for number in (2, 3):
        assert torch.equal(after["image"][number], before["image"][number])
        assert torch.equal(after["label"][number], before["label"][number])
    assert not torch.equal(after["image"][4], before["image"][4])


def test_one_image_or_no_label_is_left_as_it_is_where_there_is_nothing_to_mix() -> None:
    alone = batch(1)
    assert torch.equal(MixImages("cutmix", 1.0)(alone, seeded(0))["image"], alone["image"])
    unlabelled = {key: value for key, value in batch().items() if key != "label"}
    assert torch.equal(MixImages("copy_paste", 1.0)(unlabelled, seeded(0))["image"], batch()["image"])
    assert not torch.equal(MixImages("cutmix", 1.0)(unlabelled, seeded(0))["image"], batch()["image"])


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'cutmix'"):
        MixImages("cutmx")
    with pytest.raises(ValueError, match="mixing_prob is 2"):
        MixImages(prob=2)
