import pytest
import torch

from monai_difom.transforms import VIEWS, RandViewd, apply_view, invert_view


@pytest.mark.parametrize("dims", [2, 3])
def test_views_are_distinct_and_invertible(dims):
    x = torch.arange(2 * 4**dims).reshape(2, *[4] * dims)
    seen = {tuple(apply_view(x, v, dims).flatten().tolist()) for v in range(8)}
    assert len(seen) == len(VIEWS[dims]) == 8
    assert all(torch.equal(invert_view(apply_view(x, v, dims), v, dims), x) for v in range(8))
    for a in range(8):
        for b in range(8):
            both = apply_view(apply_view(x, a, dims), b, dims)
            assert tuple(both.flatten().tolist()) in seen


def test_the_names_say_what_happens():
    x = torch.arange(9).reshape(1, 3, 3)
    assert torch.equal(apply_view(x, VIEWS[2].index("rotate_90_clockwise")), torch.rot90(x, -1, (1, 2)))
    assert torch.equal(apply_view(x, VIEWS[2].index("rotate_90_counterclockwise")), torch.rot90(x, 1, (1, 2)))
    assert torch.equal(apply_view(x, VIEWS[2].index("rotate_180")), torch.rot90(x, 2, (1, 2)))


def test_all_keys_get_the_drawn_view():
    draw = RandViewd(["a", "b"]).set_random_state(0)
    x, seen = torch.rand(3, 5, 5), set()
    for _ in range(100):
        out = draw({"a": x, "b": x[:1]})
        seen.add(out["view"])
        assert torch.equal(out["a"], apply_view(x, out["view"]))
        assert torch.equal(out["b"], out["a"][:1])
    assert seen == set(range(8))


def test_other_shapes_draw_only_flips():
    draw = RandViewd("a").set_random_state(0)
    assert {draw({"a": torch.rand(1, 4, 6)})["view"] for _ in range(60)} == {0, 1, 2, 3}
    with pytest.raises(ValueError, match="square"):
        RandViewd("a", views=[4, 5])({"a": torch.rand(1, 4, 6)})
    with pytest.raises(ValueError, match="square"):
        apply_view(torch.rand(1, 4, 6), 4)


def test_no_probability_means_the_image_itself():
    draw = RandViewd("a", prob=0.0)
    assert {draw({"a": torch.rand(1, 4, 4)})["view"] for _ in range(20)} == {0}


def test_wrong_settings_are_refused():
    x = torch.rand(1, 4, 4)
    for wrong, message in (
        (lambda: apply_view(x, 8), "view is 8"),
        (lambda: apply_view(x, 0, 4), "spatial_dims"),
        (lambda: RandViewd("a", views=9), "views"),
        (lambda: RandViewd("a", prob=2), "prob"),
        (lambda: RandViewd("a", spatial_dims=1), "spatial_dims"),
        (lambda: RandViewd(["a", "b"])({"a": x, "b": x[:, :2]}), "one size"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
