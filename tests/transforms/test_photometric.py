import pytest
import torch

from monai_difom.transforms import (
    NormalizeImaged,
    Photometric,
    RandPhotometricd,
    SplitTeacherd,
    apply_photometric,
)


def test_the_default_change_changes_nothing():
    x = torch.rand(3, 9, 9)
    assert torch.equal(apply_photometric(x, Photometric()), x)


@pytest.mark.parametrize(
    "change",
    [Photometric(brightness=1.3), Photometric(contrast=0.5), Photometric(saturation=0), Photometric(hue=0.3)]
    + [Photometric(gamma=2), Photometric(blur=2), Photometric(noise=0.3)],
)
def test_each_change_changes_something_within_range(change):
    x = torch.rand(3, 16, 16)
    kept = x.clone()
    y = apply_photometric(x, change)
    assert torch.equal(x, kept)
    assert torch.equal(y, apply_photometric(x, change))
    assert not torch.allclose(x, y)
    assert 0 <= y.min() <= y.max() <= 1


def test_without_saturation_an_image_is_grey_and_hue_leaves_grey_alone():
    grey = apply_photometric(torch.rand(3, 8, 8), Photometric(saturation=0))
    assert torch.allclose(grey[0], grey[1], atol=1e-4)
    flat = torch.full((3, 4, 4), 0.4)
    assert torch.allclose(apply_photometric(flat, Photometric(hue=0.2, contrast=0.3)), flat, atol=1e-3)


def test_draws_follow_the_seed():
    x = {"image": torch.rand(3, 8, 8)}
    transform = RandPhotometricd("image")
    first = [transform.set_random_state(s)(x)["image"] for s in range(4)]
    again = [transform.set_random_state(s)(x)["image"] for s in range(4)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_the_teacher_keeps_the_true_light():
    data = {"image": torch.randint(0, 256, (3, 4, 4), dtype=torch.uint8), "label": torch.ones(1, 4, 4).byte()}
    out = NormalizeImaged("image")(RandPhotometricd("image", prob=1.0)(SplitTeacherd()(data)))
    assert torch.allclose(out["teacher_image"] * 255, data["image"].float())
    assert out["label"].dtype == torch.float32
    assert "teacher_image" not in SplitTeacherd(teacher_key=None)(data)


def test_wrong_input_is_refused():
    for wrong, message in (
        (lambda: apply_photometric(torch.rand(1, 4, 4), Photometric()), "RGB"),
        (lambda: RandPhotometricd("image", hue=0.7), "hue"),
        (lambda: SplitTeacherd()({"image": torch.zeros(3, 4, 4, dtype=torch.int32)}), "int32"),
        (lambda: NormalizeImaged("image", std=(0, 1, 1)), "std"),
        (lambda: NormalizeImaged("image")({"image": torch.rand(1, 4, 4)}), "3 float"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
