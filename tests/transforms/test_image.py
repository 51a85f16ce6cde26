import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, Invertd, LoadImaged, Transposed
from PIL import Image

from monai_difom.transforms import PictureReader, ResizeImaged, to_gray, to_rgb


def chain(size):
    return Compose(
        [
            LoadImaged("image", reader=PictureReader("rgb"), dtype=np.uint8),
            EnsureChannelFirstd("image"),
            Transposed("image", indices=[0, 2, 1]),
            ResizeImaged("image", size),
        ]
    )


@pytest.mark.parametrize("suffix", ["png", "tiff", "bmp"])
def test_images_stand_upright_and_come_back_to_their_own_size(tmp_path, suffix):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:10, :, 0] = 200  # a red band on top
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    pre = chain((20, 30))
    data = pre({"image": str(tmp_path / f"a.{suffix}")})
    assert data["image"].shape == (3, 20, 30)
    assert data["image"].dtype == torch.uint8
    assert data["image"][0, 0].min() == 200
    assert data["image"][0, -1].max() == 0
    data["pred"] = MetaTensor(data["image"][:1].float(), meta=data["image"].meta)
    back = Invertd("pred", pre, orig_keys="image", nearest_interp=False)(data)["pred"]
    assert back.shape == (1, 60, 40)  # as the reader gives it, width first: what SaveImaged expects
    assert back[0, :, 0].min() > 190
    assert back[0, :, -1].max() < 10


def test_resizing_equals_pillows_antialiased_filter():
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    ours = ResizeImaged("image", (20, 30))({"image": torch.from_numpy(pixels).permute(2, 0, 1)})["image"]
    theirs = np.asarray(Image.fromarray(pixels).resize((30, 20), Image.Resampling.BILINEAR))
    assert np.abs(ours.permute(1, 2, 0).numpy().astype(int) - theirs).max() <= 1


def test_masks_keep_their_two_values():
    mask = (torch.rand(1, 50, 40) > 0.5).byte()
    out = ResizeImaged("label", 17, mode="nearest-exact")({"label": mask})["label"]
    assert set(out.unique().tolist()) <= {0, 1}
    assert out.dtype == torch.uint8


def test_grey_transparent_and_sixteen_bit_images_become_rgb(tmp_path):
    for mode in ("L", "RGBA", "P", "1", "LA"):
        assert to_rgb(Image.new(mode, (4, 4))).mode == "RGB"
    Image.fromarray(np.array([[0, 65535, 32768]], np.uint16)).save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as deep:
        assert np.asarray(to_rgb(deep))[0, :, 0].tolist() == [0, 255, 128]
    with pytest.raises(ValueError, match="32-bit floats"):
        to_rgb(Image.new("F", (4, 4)))


def test_colour_masks_are_taken_only_with_equal_channels():
    assert to_gray(Image.new("RGB", (2, 2), (9, 9, 9))).getpixel((0, 0)) == 9
    with pytest.raises(ValueError, match="channels differ"):
        to_gray(Image.new("RGB", (2, 2), (9, 8, 9)))


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="mode"):
        ResizeImaged("image", 8, mode="area")
    with pytest.raises(ValueError, match=r"\(C, H, W\)"):
        ResizeImaged("image", 8)({"image": torch.rand(8, 8)})


def test_a_refused_picture_is_not_loaded_by_another_reader(tmp_path):
    Image.new("F", (4, 4)).save(tmp_path / "float.tiff")
    with pytest.raises(RuntimeError) as caught:
        chain(8)({"image": str(tmp_path / "float.tiff")})
    assert "32-bit floats" in str(caught.value.__cause__)
    with pytest.raises(ValueError, match="picture mode"):
        PictureReader("cmyk")
