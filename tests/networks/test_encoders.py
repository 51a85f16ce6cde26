"""Encoders from timm, with weights from the hub's names or from files."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from monai_difom.networks.encoders import is_weight_file, load_encoder

NAME = "test_resnet"


@pytest.fixture
def saved() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return timm.create_model(NAME).state_dict()


@torch.no_grad()
def test_maps_have_the_channels_and_strides_that_the_encoder_declares() -> None:
    encoder = load_encoder(NAME, out_indices=(1, 2, 3), in_channels=2).eval()
    maps = encoder(torch.rand(1, 2, 64, 96))
    assert [found.shape[1] for found in maps] == encoder.feature_info.channels()
    assert [64 // found.shape[2] for found in maps] == encoder.feature_info.reduction()


@torch.no_grad()
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_local_file_gives_the_weights_in_it(
    suffix: str, saved: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    file = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(saved, file)
    else:
        save_file(saved, str(file))
    whole = timm.create_model(NAME).eval()
    whole.load_state_dict(saved)
    image = torch.rand(1, 3, 64, 64)
    found = load_encoder(NAME, file).eval()(image)[-1]
    torch.testing.assert_close(found, whole.forward_features(image))


@torch.no_grad()
def test_one_channel_takes_the_sum_of_the_weights_for_red_green_and_blue(
    saved: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(saved, tmp_path / "weights.pth")
    rgb, grey = (load_encoder(NAME, tmp_path / "weights.pth", channels).eval() for channels in (3, 1))
    image = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(grey(image)[-1], rgb(image.expand(-1, 3, -1, -1))[-1], rtol=1e-4, atol=1e-5)


def test_a_file_in_another_layout_is_read_by_renaming_its_keys(
    saved: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save({"extra": torch.zeros(1), **{f"a.{k}": v for k, v in saved.items()}}, tmp_path / "other.pth")
    encoder = load_encoder(
        NAME, tmp_path / "other.pth", rename=lambda key: key[2:] if key.startswith("a.") else None
    )
    torch.testing.assert_close(next(encoder.parameters()), next(iter(saved.values())))
    with pytest.raises(ValueError, match=r"missing keys .*`pretrained` must hold every key"):
        load_encoder(NAME, tmp_path / "other.pth")


def test_what_is_no_model_and_what_are_no_weights_of_it_are_refused_with_what_would_work(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match=r"no model 'test_resne'\. Near: test_resnet"):
        load_encoder("test_resne")
    with pytest.raises(ValueError, match=r"'resnet18\.a1_in1k', which is no file here .* test_resnet\.<tag>"):
        load_encoder(NAME, "resnet18.a1_in1k")
    with pytest.raises(FileNotFoundError, match=r"no weight file at .*nowhere\.pth"):
        load_encoder(NAME, tmp_path / "nowhere.pth")


@pytest.mark.parametrize("pretrained", [True, "test_resnet.r160_in1k", "timm/test_resnet.r160_in1k"])
def test_a_hub_that_cannot_be_reached_is_said_with_the_way_to_a_local_file(
    pretrained: bool | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def create(name: str, **arguments: object) -> None:
        asked.update(arguments, name=name)
        raise RuntimeError("no route to the hub")

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(OSError, match=r"cannot be had: no route to the hub Give a local .* as `pretrained`"):
        load_encoder(NAME, pretrained)
    assert asked["pretrained"] is True
    repository = asked.get("pretrained_cfg_overlay", {}).get("hf_hub_id")
    assert (asked["name"], repository) == {
        True: (NAME, None),
        "test_resnet.r160_in1k": ("test_resnet.r160_in1k", None),
        "timm/test_resnet.r160_in1k": (NAME, "timm/test_resnet.r160_in1k"),
    }[pretrained]


def test_a_name_means_a_file_where_it_ends_as_one_or_is_one(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    assert is_weight_file("somewhere/weights.safetensors")
    assert is_weight_file(tmp_path / "plain")
    assert not is_weight_file("timm/res2net50d.in1k")
