"""Weights that a small network inherits from a bigger one of its family."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from monai_difom.networks.encoders import load_encoder
from monai_difom.networks.inherit import inherit_weights, select_weights
from monai_difom.networks.nets import DifomUNet, LightSegmenter


def test_evenly_spaced_or_first_channels_are_taken_along_both_axes() -> None:
    big = torch.arange(6 * 4).reshape(6, 4, 1, 1).float()
    wanted = {"weight": torch.zeros(3, 2, 1, 1)}
    uniform = select_weights({"weight": big, "other": big}, wanted)
    assert set(uniform) == {"weight"}
    assert torch.equal(uniform["weight"][..., 0, 0], big[[0, 2, 4]][:, [0, 2], 0, 0])
    first = select_weights({"weight": big}, wanted, "first")
    assert torch.equal(first["weight"], big[:3, :2])
    same = select_weights({"weight": big}, {"weight": big})
    assert torch.equal(same["weight"], big)


def test_what_a_layer_gives_is_what_the_next_one_reads() -> None:
    # a bigger network whose channels come in equal pairs says on every second of them what it says on all
    torch.manual_seed(0)
    small = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Conv2d(3, 2, 3))
    big = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3), torch.nn.BatchNorm2d(6), torch.nn.Conv2d(6, 2, 3))
    state = {}
    for name, value in small.state_dict().items():
        for axis, (a, b) in enumerate(zip(value.shape, big.state_dict()[name].shape, strict=True)):
            if a != b:
                value = value.repeat_interleave(2, axis)
        state[name] = value
    for how, wanted in (("uniform", True), ("first", False)):
        cut = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Conv2d(3, 2, 3))
        cut.load_state_dict(select_weights(state, cut.state_dict(), how))
        x = torch.rand(1, 1, 8, 8)
        assert torch.allclose(cut.eval()(x), small.eval()(x)) == wanted


def test_a_network_inherits_from_a_bigger_one_of_more_levels(tmp_path: Path) -> None:
    file = tmp_path / "big.safetensors"
    big = DifomUNet(2, 3, 1, (8, 16, 24))
    save_file(big.state_dict(), str(file))
    small = DifomUNet(2, 3, 1, (4, 8, 12))
    inherit_weights(small, file)
    assert torch.equal(
        small.state_dict()["encoder.0.conv1.weight"], big.state_dict()["encoder.0.conv1.weight"][::2]
    )


def test_an_encoder_is_cut_from_a_bigger_one_of_its_family(tmp_path: Path) -> None:
    torch.manual_seed(0)
    donor = timm.create_model("mobilenetv2_100", features_only=True)
    file = tmp_path / "donor.safetensors"
    save_file(donor.state_dict(), str(file))
    student = LightSegmenter(encoder="mobilenetv2_050", pretrained=file, select="uniform", decoder="unet")
    name = "blocks.1.0.bn2.weight"
    assert torch.equal(student.encoder.state_dict()[name], donor.state_dict()[name][::2])
    assert student(torch.rand(2, 3, 32, 32)).shape == (2, 1, 32, 32)


def test_another_family_a_smaller_donor_and_other_kernels_are_refused(tmp_path: Path) -> None:
    wanted = {"a": torch.zeros(4, 4, 3, 3)}
    for wrong in (torch.zeros(2, 4, 3, 3), torch.zeros(8, 8, 5, 5), torch.zeros(8)):
        with pytest.raises(ValueError, match=r"a is .* in the file and \(4, 4, 3, 3\) here.*same family"):
            select_weights({"a": wrong}, wanted)
    with pytest.raises(ValueError, match="Did you mean 'uniform'"):
        select_weights({}, wanted, "unifrom")
    file = tmp_path / "other.safetensors"
    save_file({"other": torch.zeros(1)}, str(file))
    with pytest.raises(ValueError, match=r"missing keys .*same family"):
        inherit_weights(DifomUNet(2, 3, 1, (4, 8)), file)
    with pytest.raises(ValueError, match="local weight file of a bigger encoder"):
        load_encoder("mobilenetv2_050", True, select="uniform")
