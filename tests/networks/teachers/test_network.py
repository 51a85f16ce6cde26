"""Any module, timm models and MONAI Bundles as teachers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from monai.networks.nets import BasicUNet
from PIL import Image
from safetensors.torch import save_file

from monai_difom.networks.taps import Tap
from monai_difom.networks.teachers import NetworkTeacher, Teacher, bundle_teacher, timm_teacher
from tests.testers import TeacherTester

PLAIN: dict[str, Any] = {"mean": [0, 0, 0], "std": [1, 1, 1], "multiple_of": 16}
UNET: dict[str, Any] = {
    "spatial_dims": 2,
    "in_channels": 3,
    "out_channels": 1,
    "features": [4, 4, 8, 8, 8, 4],
}
TAPS = {"bottleneck": "down_4", "decoder": "upcat_2"}
SHARED = Path(os.environ.get("DIFOM_TEST_DATA", Path(__file__).parents[4] / "shared" / "data")).parent
MOBILENET = SHARED / "weights" / "mobilenetv2_100_same_imagenet.safetensors"
POLYPS = SHARED / "data" / "polyp"


def unet() -> BasicUNet:
    return BasicUNet(**UNET)


class TestNetworkTeacher(TeacherTester):
    other_size = {"input_size": 32}
    other_maps = {"taps": {"bottleneck": "down_4"}}

    def save(self, folder: Path) -> None:
        torch.save({"model": unet().state_dict()}, folder / "model.pt")

    def load(self, folder: Path, **changes: Any) -> Teacher:
        return NetworkTeacher(unet(), **{"taps": TAPS, "weights": folder / "model.pt", **PLAIN, **changes})


class TestTimmTeacher(TeacherTester):
    other_size = {"input_size": 32}
    other_maps = {"out_indices": [2]}

    def save(self, folder: Path) -> None:
        save_file(timm.create_model("test_resnet").state_dict(), folder / "model.safetensors")

    def load(self, folder: Path, **changes: Any) -> Teacher:
        return timm_teacher("test_resnet", folder / "model.safetensors", **{"out_indices": [1, 2], **changes})


class TestBundleTeacher(TeacherTester):
    other_size = {"input_size": 32}

    def save(self, folder: Path) -> None:
        save_bundle(folder)

    def load(self, folder: Path, **changes: Any) -> Teacher:
        return bundle_teacher(folder, TAPS, **PLAIN, **changes)


def save_bundle(folder: Path, name: str = "inference.json") -> BasicUNet:
    network = unet().eval()
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    config = {
        "bundle_root": ".",
        "channels": 3,
        "network_def": {"_target_": "BasicUNet", **UNET, "in_channels": "@channels"},
    }
    (folder / "configs" / name).write_text(json.dumps(config))
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return network


def hooked(network: torch.nn.Module, path: str, image: torch.Tensor) -> torch.Tensor:
    """The output of one module, read without the project's code."""
    found = []
    handle = network.get_submodule(path).register_forward_hook(lambda _m, _i, output: found.append(output))
    with torch.no_grad():
        network(image)
    handle.remove()
    return found[0]


def test_taps_give_the_outputs_of_the_named_modules(tmp_path: Path) -> None:
    network = save_bundle(tmp_path)
    image = torch.rand(1, 3, 32, 48)
    for teacher in (NetworkTeacher(network, TAPS, **PLAIN), bundle_teacher(tmp_path, TAPS, **PLAIN)):
        found = teacher(image)
        for name, path in TAPS.items():
            torch.testing.assert_close(found[name], hooked(network, path, image), atol=1e-5, rtol=1e-5)
        assert {name: spec.stride for name, spec in teacher.maps.items()} == {"bottleneck": 16, "decoder": 2}


def test_a_declared_tap_needs_no_run_of_the_network() -> None:
    class NeverRun(torch.nn.Conv2d):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            raise AssertionError("was run")

    teacher = NetworkTeacher(NeverRun(3, 4, 1), {"map": Tap("", 4, 1)}, **PLAIN)
    assert (teacher.maps["map"].channels, teacher.maps["map"].stride) == (4, 1)


def test_a_misspelt_tap_names_the_nearest_module() -> None:
    with pytest.raises(ValueError, match=r"'down_44'. Did you mean 'down_4'"):
        NetworkTeacher(unet(), {"map": "down_44"}, **PLAIN)


def test_a_wrong_checkpoint_is_refused_with_the_first_missing_and_unexpected_keys(tmp_path: Path) -> None:
    state = unet().state_dict()
    state["other"] = state.pop("final_conv.bias")
    torch.save(state, tmp_path / "wrong.pt")
    with pytest.raises(
        ValueError, match=r"wrong.pt .*missing keys \(first: final_conv.bias\).*first: other\)"
    ):
        NetworkTeacher(unet(), TAPS, weights=tmp_path / "wrong.pt", **PLAIN)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod."])
def test_checkpoints_of_wrapped_networks_load(wrapper: str, tmp_path: Path) -> None:
    state = {f"{wrapper}{key}": value for key, value in unet().state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "wrapped.pt")
    teacher = NetworkTeacher(unet(), TAPS, weights=tmp_path / "wrapped.pt", **PLAIN)
    assert torch.equal(teacher.network.state_dict()["final_conv.bias"], state[f"{wrapper}final_conv.bias"])


def test_a_missing_weight_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.pt"):
        NetworkTeacher(unet(), TAPS, weights=tmp_path / "nowhere.pt", **PLAIN)
    with pytest.raises(FileNotFoundError, match=r"nowhere.pth.*timm's layout of resnet18"):
        timm_teacher("resnet18", tmp_path / "nowhere.pth")


def test_a_file_without_tensors_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(ValueError, match=r"empty.pt holds a dict with the keys epoch, not a state dict"):
        NetworkTeacher(unet(), TAPS, weights=tmp_path / "empty.pt", **PLAIN)


def test_a_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(unet(), tmp_path / "whole.pt")
    with pytest.raises(ValueError, match=r"whole.pt is refused: it holds pickled Python objects"):
        NetworkTeacher(unet(), TAPS, weights=tmp_path / "whole.pt", **PLAIN)


# one model per kind of timm's feature extractors: own class, flattened list, getter, channels last
@pytest.mark.parametrize(
    ("name", "arguments", "names"),
    [
        (
            "test_efficientnet",
            {"pad_type": "same"},
            ["stride2", "stride4", "stride8", "stride16", "stride32"],
        ),
        ("test_convnext", {}, ["stride4", "stride8", "stride16", "stride32"]),
        ("test_vit", {"map_names": ["a", "b"], "out_indices": [1, 3]}, ["a", "b"]),
        (
            "swin_tiny_patch4_window7_224",
            {"out_indices": [0, 1], "embed_dim": 16, "num_heads": (1, 1, 1, 1)},
            ["stride4", "stride8"],
        ),
    ],
)
def test_a_local_file_in_the_published_layout_gives_what_timm_gives(
    name: str, arguments: dict[str, Any], names: list[str], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model_arguments = {
        key: value for key, value in arguments.items() if key not in ("map_names", "out_indices")
    }
    source = timm.create_model(name, **model_arguments).eval()
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    teacher = timm_teacher(name, tmp_path / "weights.pth", **arguments)
    prepared = teacher.prepare(torch.rand(1, 3, *teacher.input_size((64, 64))))
    with torch.no_grad():
        indices = arguments.get("out_indices")
        expected = source.forward_intermediates(prepared, indices=indices, intermediates_only=True)
    assert list(teacher.maps) == names
    for found, wanted in zip(teacher.extract(prepared).values(), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_normalisation_is_timms_own_unless_given(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    config = timm.data.resolve_data_config(
        {}, model="test_resnet", pretrained_cfg=timm.get_pretrained_cfg("test_resnet").to_dict()
    )
    transform = timm.data.create_transform(64, mean=config["mean"], std=config["std"], crop_pct=1.0)
    teacher = timm_teacher("test_resnet", tmp_path / "weights.pth")
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    expected = transform(Image.fromarray(pixels))[None]
    torch.testing.assert_close(teacher.prepare(image), expected, atol=1e-5, rtol=1e-5)
    given = timm_teacher("test_resnet", tmp_path / "weights.pth", mean=[0.5] * 3, std=[0.5] * 3)
    torch.testing.assert_close(given.prepare(image), image * 2 - 1)


def test_a_timm_file_that_lacks_what_the_features_need_is_refused(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet", num_classes=0).state_dict()
    del state["bn1.running_mean"]
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"1 missing keys \(first: bn1.running_mean\)"):
        timm_teacher("test_resnet", tmp_path / "weights.pth")


def test_a_bias_that_the_network_would_drop_is_refused(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet").state_dict()
    state["layer1.0.conv1.bias"] = torch.ones(64)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"1 unexpected keys \(first: layer1.0.conv1.bias\)"):
        timm_teacher("test_resnet", tmp_path / "weights.pth")


def test_stages_of_equal_stride_need_names(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"names are stride16, stride16.*different map_names"):
        timm_teacher("test_vit", tmp_path / "weights.pth")


def test_an_unknown_timm_model_names_near_ones() -> None:
    with pytest.raises(ValueError, match=r"no model 'resnet5'. Near: .*resnet"):
        timm_teacher("resnet5")


def test_without_network_the_error_names_the_way_to_local_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"timm's test_resnet cannot be had: .*teacher_weights"):
        timm_teacher("test_resnet")


@pytest.mark.parametrize("name", ["train.json", "inference.yaml", "train.yml"])
def test_a_bundle_is_read_from_whichever_configuration_it_has(name: str, tmp_path: Path) -> None:
    save_bundle(tmp_path, name)  # JSON is YAML too
    assert bundle_teacher(tmp_path, TAPS, **PLAIN).source == str(tmp_path)


def test_a_folder_that_is_no_bundle_or_has_no_such_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no configs/inference.json"):
        bundle_teacher(tmp_path, TAPS, **PLAIN)
    save_bundle(tmp_path)
    with pytest.raises(ValueError, match=r"no 'net'; it has .*bundle_root, channels, network_def"):
        bundle_teacher(tmp_path, TAPS, network_key="net", **PLAIN)
    with pytest.raises(ValueError, match=r"'channels' of .* is a int, not a torch module"):
        bundle_teacher(tmp_path, TAPS, network_key="channels", **PLAIN)


@pytest.mark.real_data
@pytest.mark.skipif(not MOBILENET.is_file() or not POLYPS.is_dir(), reason="no real weights beside the data")
def test_the_real_mobilenet_sees_something_in_a_real_polyp_image() -> None:
    teacher = timm_teacher(
        "mobilenetv2_100", MOBILENET, pad_type="same", mean=[0.5] * 3, std=[0.5] * 3, input_size=224
    )
    file = next(path for path in sorted(POLYPS.rglob("*.png")) if "mask" not in str(path).lower())
    pixels = torch.from_numpy(np.array(Image.open(file).convert("RGB")))
    found = teacher(pixels.permute(2, 0, 1)[None] / 255)
    shapes = [tuple(each.shape[1:]) for each in found.values()]
    assert shapes == [(16, 112, 112), (24, 56, 56), (32, 28, 28), (96, 14, 14), (320, 7, 7)]
    spatial = found["stride16"].flatten(2).var(dim=-1)
    assert torch.isfinite(found["stride16"]).all()
    assert (spatial > 0.01).float().mean() > 0.9
