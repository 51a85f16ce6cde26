"""Masked autoencoder and momentum contrast of a tiny timm transformer."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from monai_difom.networks.nets import VitMaskedAutoencoder, VitMomentumContrast
from monai_difom.networks.nets.self_supervised import make_vit, momentum_at

VIT = "test_vit"  # timm's own for tests: 6 blocks of 64 channels, patches of 16


def image(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def mae() -> VitMaskedAutoencoder:
    torch.manual_seed(0)
    return VitMaskedAutoencoder(VIT, decoder_width=32, decoder_depth=1).eval()


@pytest.fixture
def moco() -> VitMomentumContrast:
    torch.manual_seed(0)
    return VitMomentumContrast(VIT, hidden=32, features=16).train()


def test_three_quarters_of_the_patches_are_hidden_in_every_image(mae: VitMaskedAutoencoder) -> None:
    mask = mae.random_mask(image(5))
    assert mask.shape == (5, 24)
    assert (mask.sum(1) == 18).all()
    assert not torch.equal(mask[0], mask[1])


@torch.no_grad()
def test_the_encoder_sees_nothing_of_a_hidden_patch(mae: VitMaskedAutoencoder) -> None:
    first, mask = image(), mae.random_mask(image(), torch.Generator().manual_seed(1))
    hidden = nn.functional.fold(mask[:, None].expand(-1, 3 * 16 * 16, -1).float(), (64, 96), 16, stride=16)
    changed = first + 5 * hidden
    assert mae.encode_visible(first, mask).shape == (2, 1 + 6, 64)
    assert torch.equal(mae.encode_visible(first, mask), mae.encode_visible(changed, mask))
    assert not torch.equal(
        mae.encode_visible(first, mask), mae.encode_visible(first - 5 * (1 - hidden), mask)
    )


@torch.no_grad()
def test_with_nothing_hidden_the_encoder_is_timms(mae: VitMaskedAutoencoder) -> None:
    nothing = torch.zeros(2, 24, dtype=torch.bool)
    torch.testing.assert_close(mae.encode_visible(image(), nothing), mae.encoder.forward_features(image()))


@torch.no_grad()
def test_only_hidden_patches_count_and_the_right_drawing_costs_nothing(
    mae: VitMaskedAutoencoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = mae.patches(image())
    target = (target - target.mean(2, keepdim=True)) / (target.var(2, keepdim=True) + 1e-6).sqrt()
    drawing = {"is": target}
    monkeypatch.setattr(mae, "reconstruct", lambda _image, mask: drawing["is"] + 3.0 * (~mask)[..., None])
    assert float(mae(image())) == 0
    drawing["is"] = target + 2
    assert float(mae(image())) == pytest.approx(4, rel=1e-5)


def test_a_gradient_reaches_encoder_and_decoder_of_the_autoencoder(mae: VitMaskedAutoencoder) -> None:
    mae(image()).backward()
    without = [name for name, p in mae.named_parameters() if p.grad is None]
    assert without == []


def test_the_momentum_encoder_gets_no_gradient_and_follows(moco: VitMomentumContrast) -> None:
    moco(image(4), image(4).flip(-1)).backward()
    slow = [p for name, p in moco.named_parameters() if name.startswith("slow_")]
    assert slow
    assert all(p.grad is None and not p.requires_grad for p in slow)
    assert all(p.grad is None for p in moco.encoder.patch_embed.parameters())
    assert all(p.grad is not None for p in moco.encoder.blocks.parameters())
    with torch.no_grad():
        for p in moco.encoder.parameters():
            p.add_(1)
    before = [p.clone() for p in moco.slow_encoder.parameters()]
    moco.follow(0.9)
    for kept, old, new in zip(moco.slow_encoder.parameters(), before, moco.encoder.parameters(), strict=True):
        torch.testing.assert_close(kept, 0.9 * old + 0.1 * new)


def test_views_of_one_image_are_nearer_than_others(moco: VitMomentumContrast) -> None:
    features = torch.eye(4)
    right = moco.contrast(features, features)
    wrong = moco.contrast(features, features.roll(1, 0))
    assert right < wrong
    expected = 2 * 0.2 * -torch.log_softmax(torch.tensor([5.0, 0, 0, 0]), 0)[0]
    torch.testing.assert_close(right, expected)


def test_momentum_goes_to_one() -> None:
    assert momentum_at(0.0, 0.99) == pytest.approx(0.99)
    assert momentum_at(1.0, 0.99) == 1


def test_the_state_is_timms(mae: VitMaskedAutoencoder) -> None:
    plain = timm.create_model(VIT, pretrained=False, num_classes=0)
    assert {k: v.shape for k, v in mae.encoder.state_dict().items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }


def test_what_is_no_vision_transformer_is_refused() -> None:
    with pytest.raises(ValueError, match="timm has no model 'vit_x'"):
        make_vit("vit_x")
    with pytest.raises(ValueError, match="no plain vision transformer"):
        make_vit("resnet18")
    with pytest.raises(ValueError, match="mask_ratio is 1"):
        VitMaskedAutoencoder(VIT, mask_ratio=1)
