import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from monai_difom.data import BinaryMaskd, CheckPaird, binarise, check_pairs


def pair(folder, name, mask, image=None):
    image = np.zeros((12, 10, 3), np.uint8) if image is None else image
    Image.fromarray(image).save(folder / f"{name}_i.png")
    Image.fromarray(mask).save(folder / f"{name}_m.png")
    return {"image": str(folder / f"{name}_i.png"), "label": str(folder / f"{name}_m.png")}


def test_all_problems_are_reported_at_once(tmp_path):
    good = np.zeros((12, 10), np.uint8)
    noisy = np.arange(120, dtype=np.uint8).reshape(12, 10)
    items = [pair(tmp_path, "good", good), pair(tmp_path, "size", good[:5]), pair(tmp_path, "noisy", noisy)]
    check_pairs(items[:1], progress=False)
    big = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    items.append(pair(tmp_path, "cut", np.zeros((64, 64), np.uint8), big))
    whole = (tmp_path / "cut_i.png").read_bytes()
    (tmp_path / "cut_i.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="3 problem") as caught:
        check_pairs(items, progress=False)
    for part in ("5x10", "12x10", "120 different values", "mask_threshold", "cut_i.png: cannot be read"):
        assert part in str(caught.value)


def test_a_threshold_accepts_grey_masks(tmp_path):
    noisy = np.arange(120, dtype=np.uint8).reshape(12, 10)
    check_pairs([pair(tmp_path, "noisy", noisy)], mask_threshold=100, progress=False)


def test_a_decompression_bomb_is_named(tmp_path, monkeypatch):
    item = pair(tmp_path, "bomb", np.zeros((12, 10), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match=r"bomb_i.png: cannot be read \(DecompressionBombError"):
        check_pairs([item], progress=False)


def test_at_most_twenty_problems_are_listed(tmp_path):
    items = [{"image": str(tmp_path / f"{n}"), "label": str(tmp_path / f"{n}m")} for n in range(15)]
    with pytest.raises(ValueError, match="30 problem") as caught:
        check_pairs(items, progress=False)
    assert str(caught.value).count("\n  - ") == 20
    assert "and 10 more" in str(caught.value)


@pytest.mark.parametrize(("values", "wanted"), [([0, 255], [0, 1]), ([0, 1], [0, 1]), ([0, 0], [0, 0])])
def test_two_values_become_zero_and_one(values, wanted):
    out = BinaryMaskd("label")({"label": MetaTensor(torch.tensor([[values]], dtype=torch.uint8))})["label"]
    assert isinstance(out, MetaTensor)
    assert out.dtype == torch.uint8
    assert out.flatten().tolist() == wanted


def test_equal_channels_count_as_one_and_others_are_refused():
    mask = torch.tensor([[[0, 9]]])
    assert binarise(mask.expand(3, 1, 2)).tolist() == [[[0, 1]]]
    with pytest.raises(ValueError, match="channels that differ"):
        binarise(torch.cat([mask, mask + 1]))


@pytest.mark.parametrize("values", [[0, 1, 2], [1, 2, 2], [-1, 0, 0]])
def test_masks_with_other_values_are_refused_by_file_name(values):
    mask = MetaTensor(torch.tensor([[values]]), meta={"filename_or_obj": "some/mask.png"})
    with pytest.raises(ValueError, match=r"some/mask.png.*not binary.*mask_threshold"):
        BinaryMaskd("label")({"label": mask})
    assert BinaryMaskd("label", threshold=2)({"label": mask})["label"].max() <= 1


def test_different_sizes_name_both_files():
    image = MetaTensor(torch.zeros(3, 4, 5), meta={"filename_or_obj": "i.png"})
    label = MetaTensor(torch.zeros(1, 4, 6), meta={"filename_or_obj": "m.png"})
    with pytest.raises(ValueError, match=r"4x6.*4x5.*m.png and i.png"):
        CheckPaird()({"image": image, "label": label})
