import numpy as np
import pytest

from monai_difom.data import check_pairs, make_polyps, polyp_image, training_pairs
from monai_difom.data import test_sets as sets_of


def test_a_seed_fixes_the_pixels():
    a, b, c = (polyp_image(np.random.default_rng(seed), 64) for seed in (1, 1, 2))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert not np.array_equal(a[0], c[0])


def test_images_and_masks_have_their_types_and_a_polyp():
    for seed in range(20):
        image, mask = polyp_image(np.random.default_rng(seed), 96)
        assert (image.shape, image.dtype, mask.shape, mask.dtype) == (
            (96, 96, 3),
            np.uint8,
            (96, 96),
            np.uint8,
        )
        assert set(np.unique(mask)) == {0, 255}
        assert 0.005 < (mask > 0).mean() < 0.6


def test_the_folder_is_a_valid_data_set(tmp_path):
    make_polyps(tmp_path, train=3, test=2, size=40)
    assert len(training_pairs(tmp_path)) == 3
    assert len(sets_of(tmp_path)["synthetic"]) == 2
    check_pairs(training_pairs(tmp_path), progress=False)


def test_wrong_numbers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="train is 0"):
        make_polyps(tmp_path, train=0)
    with pytest.raises(ValueError, match="size is 16"):
        polyp_image(np.random.default_rng(0), 16)


def test_contrast_moves_the_colour_of_a_polyp_and_nothing_else():
    def images(contrast: float) -> tuple[np.ndarray, np.ndarray]:
        pairs = [polyp_image(np.random.default_rng(seed), 64, contrast) for seed in range(8)]
        return np.stack([pair[0] for pair in pairs]).astype(float), np.stack([pair[1] for pair in pairs]) > 0

    (usual, masks), (clear, same) = images(1.0), images(3.0)
    assert np.array_equal(masks, same)
    inside = [np.abs(usual - clear)[region].mean() for region in (masks, ~masks)]
    assert inside[0] > 5 * inside[1]


def test_a_negative_contrast_is_refused():
    with pytest.raises(ValueError, match=r"contrast is -1"):
        polyp_image(np.random.default_rng(0), 32, -1)
