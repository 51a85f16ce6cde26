from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from monai_difom.losses import MISSING
from monai_difom.transforms import VIEWS, Geometry, RandGeometryd, apply_geometry, apply_view, geometry_grid

KEYS = ["image", "label", "soft_mask"]
SAMPLING = ["bilinear", "nearest", "bilinear"]


def moved(x: torch.Tensor, change: Geometry, **options: Any) -> torch.Tensor:
    return apply_geometry(x, geometry_grid(change, *x.shape[-2:]), **options)


def smooth(height: int = 24, width: int = 24) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (rows.float() / 7).sin() + (columns.float() / 5).cos()


def item(side: int = 32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    label = torch.zeros(1, side, side, dtype=torch.uint8)
    label[:, 8:20, 4:16] = 1
    image = torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=generator)
    return {"image": image, "label": label, "soft_mask": label * 200}


def test_nothing_drawn_changes_nothing_and_quarter_turns_are_the_fixed_views() -> None:
    x = torch.rand(3, 16, 16)
    torch.testing.assert_close(moved(x, Geometry()), x)
    for name, angle in (
        ("rotate_90_counterclockwise", 90),
        ("rotate_90_clockwise", -90),
        ("rotate_180", 180),
    ):
        torch.testing.assert_close(moved(x, Geometry(angle=angle)), apply_view(x, VIEWS[2].index(name)))


def test_a_scale_above_one_shows_the_middle_larger_and_a_shift_goes_right_and_down() -> None:
    x = torch.zeros(1, 20, 20)
    x[:, 8:12, 8:12] = 1
    assert moved(x, Geometry(scale=2.0), sampling="nearest").sum() == 64
    assert moved(x, Geometry(scale=0.5), sampling="nearest", outside="zeros").sum() == 4
    assert torch.equal(
        moved(x, Geometry(shift=(0.1, 0.2)), sampling="nearest"), torch.roll(x, (4, 2), (1, 2))
    )


def test_a_turn_of_a_picture_that_is_not_square_keeps_shapes() -> None:
    x = torch.zeros(1, 40, 80)
    x[:, 16:24, 30:50] = 1  # 8 high, 20 wide
    turned = moved(x, Geometry(angle=90), sampling="nearest", outside="zeros")
    rows, columns = turned[0].nonzero().unbind(1)
    assert (int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1) == (20, 8)


def test_a_shear_and_a_bend_move_picture_and_mask_by_the_same_amount() -> None:
    x = smooth()[None]
    mask = (x > 0.5).float()
    bend = np.random.default_rng(0).uniform(-0.05, 0.05, (2, 4, 4))
    for change in (Geometry(shear=(0.2, 0.0)), Geometry(bend=bend)):
        far = (moved(x, change) - 0.5).abs() > 0.15
        assert torch.equal((moved(x, change) > 0.5)[far], moved(mask, change, sampling="nearest")[far] > 0.5)
        assert not torch.allclose(moved(x, change), x, atol=0.05)


def test_picture_mask_and_soft_mask_move_alike_and_keep_their_types() -> None:
    draw = RandGeometryd(KEYS, SAMPLING, shear=0.2, elastic=0.05, allow_missing_keys=True)
    for seed in range(5):
        out = draw.set_random_state(seed)(item())
        assert [out[key].dtype for key in KEYS] == [torch.uint8] * 3
        assert set(out["label"].unique().tolist()) <= {0, 1}
        drawn, soft = out["label"].bool(), out["soft_mask"].float() / 200
        assert (soft[drawn] >= 0.24).all()
        assert (soft[~drawn] <= 0.76).all()
    assert set(draw({"image": item()["image"]})) == {"image"}


def test_what_is_drawn_depends_on_the_random_state_alone() -> None:
    first, second = (RandGeometryd(KEYS, SAMPLING).set_random_state(4)(item()) for _ in range(2))
    other = RandGeometryd(KEYS, SAMPLING).set_random_state(5)(item())
    assert all(torch.equal(first[key], second[key]) for key in KEYS)
    assert not torch.equal(first["image"], other["image"])


def test_turn_and_scale_reach_their_ends_and_no_further() -> None:
    draw = RandGeometryd("image", rotate=180, scale=(0.7, 1.4)).set_random_state(0)
    changes = []
    for _ in range(400):
        draw.randomize()
        changes.append(draw.change)
    angles, scales = [c.angle for c in changes], [c.scale for c in changes]
    assert -180 <= min(angles) < -170
    assert 170 < max(angles) <= 180
    assert 0.7 <= min(scales) < 0.72
    assert 1.37 < max(scales) <= 1.4
    # as often smaller as larger
    assert abs(np.mean(np.log(scales)) - np.log(0.7 * 1.4) / 2) < 0.03


def test_without_any_change_or_by_chance_the_item_stays_as_it_is() -> None:
    still = RandGeometryd("image", rotate=0, scale=(1, 1), shift=0)
    assert not still.moves
    never = RandGeometryd("image", prob=0.0)
    for draw in (still, never):
        found = item()
        assert draw(found)["image"] is found["image"]


@pytest.mark.parametrize("outside", ["reflect", "zeros"])
def test_what_lies_outside_is_mirrored_or_black(outside: str) -> None:
    bright = torch.full((3, 16, 16), 200, dtype=torch.uint8)
    out = RandGeometryd("image", scale=(0.5, 0.5), shift=0, outside=outside).set_random_state(0)(
        {"image": bright}
    )
    assert bool((out["image"] == 0).any()) == (outside == "zeros")


@pytest.mark.parametrize("outside", ["reflect", "zeros"])
def test_a_structure_that_nobody_annotated_stays_so(outside: str) -> None:
    label = torch.zeros(2, 16, 16, dtype=torch.uint8)
    label[1] = MISSING
    out = RandGeometryd("label", "nearest", scale=(0.5, 0.5), outside=outside).set_random_state(0)(
        {"label": label}
    )
    assert (out["label"][1] == MISSING).all()
    assert (out["label"][0] == 0).all()


def test_a_volume_is_moved_in_its_slices() -> None:
    volume = torch.rand(1, 3, 16, 16)
    out = RandGeometryd("image").set_random_state(2)
    whole = out({"image": volume})["image"]
    part = out.set_random_state(2)({"image": volume[:, 1]})["image"]
    torch.testing.assert_close(whole[:, 1], part)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotate": 200}, "rotate is 200; allowed is 0 to 180"),
        ({"scale": (1.4, 0.7)}, "scale is"),
        ({"scale": (0, 1)}, "scale is"),
        ({"shift": -1}, "shift"),
        ({"shear": 1}, "shear"),
        ({"elastic": 0.5}, "elastic"),
        ({"prob": 2}, "prob"),
        ({"sampling": "cubic"}, "allowed are 'bilinear', 'nearest'"),
        ({"outside": "mirror"}, "allowed are 'reflect', 'zeros'"),
    ],
)
def test_numbers_outside_their_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandGeometryd("image", **options)


def test_keys_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one size"):
        RandGeometryd(["image", "label"])({"image": torch.rand(3, 8, 8), "label": torch.rand(1, 6, 8)})
