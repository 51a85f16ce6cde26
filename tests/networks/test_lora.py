"""Adapters: the base never moves, what is saved is small, what is merged is plain."""

from __future__ import annotations

import io
from pathlib import Path

import onnxruntime
import pytest
import torch
from monai.networks.nets import BasicUNet
from safetensors.torch import load_file
from segment_anything.utils.onnx import SamOnnxModel
from torch import nn
from transformers import SamModel

from monai_difom.networks.lora import (
    adapter_digest,
    add_lora,
    base_digest,
    find_targets,
    load_adapters,
    merge_lora,
    save_adapters,
)
from tests.tiny import tiny_sam_segmenter, tiny_transformers_sam


def image(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 32, 48, generator=torch.Generator().manual_seed(1))


def trained(network: nn.Module, steps: int = 2) -> nn.Module:
    """Take some large steps with everything that an optimiser would be given."""
    torch.manual_seed(2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.05, weight_decay=0.5)
    network.train()
    for _ in range(steps):
        optimizer.zero_grad()
        network(image()).pow(2).mean().backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(params=["segment_anything", "transformers"])
def network(request: pytest.FixtureRequest, tmp_path: Path) -> nn.Module:
    if request.param == "segment_anything":
        return tiny_sam_segmenter().eval()
    return tiny_sam_segmenter(weights=tiny_transformers_sam(tmp_path)).eval()


@torch.no_grad()
def test_new_adapters_change_nothing(network: nn.Module) -> None:
    before = network(image())
    torch.testing.assert_close(add_lora(network).eval()(image()), before, atol=1e-6, rtol=1e-5)


def test_training_moves_the_adapters_and_no_bit_of_the_base(network: nn.Module) -> None:
    add_lora(network, rank=2, dropout=0.1)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    digest = base_digest(network)
    trained(network)
    moved = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert base_digest(network) == digest
    assert moved
    assert all(".lora_" in key or "mask_tokens" in key or "hypernetworks" in key for key in moved)
    assert any("lora_B" in key and ("image_encoder" in key or "vision_encoder" in key) for key in moved)
    assert any("lora_B" in key and "mask_decoder" in key for key in moved)


@torch.no_grad()
def test_merged_is_unmerged_without_a_module_or_key_of_the_adapters(network: nn.Module) -> None:
    keys, modules = list(network.state_dict()), [(n, type(m)) for n, m in network.named_modules()]
    plain = network(image())
    with torch.enable_grad():
        trained(add_lora(network, rank=2, alpha=8))
    unmerged = network(image())
    assert not torch.allclose(plain, unmerged, atol=1e-3)
    merge_lora(network)
    torch.testing.assert_close(network(image()), unmerged, atol=1e-5, rtol=1e-4)
    assert list(network.state_dict()) == keys
    assert [(n, type(m)) for n, m in network.named_modules()] == modules
    assert not hasattr(network, "peft_config")


@torch.no_grad()
def test_adapters_are_saved_alone_and_come_back(tmp_path: Path) -> None:
    with torch.enable_grad():
        adapted = trained(add_lora(tiny_sam_segmenter(), rank=3, alpha=6, dropout=0.2))
    file = save_adapters(adapted, tmp_path / "adapters.safetensors")
    whole = io.BytesIO()
    torch.save(adapted.state_dict(), whole)
    assert file.stat().st_size < 0.5 * whole.tell()
    assert all(".lora_" in key or "mask_decoder" in key for key in load_file(file))
    other = load_adapters(tiny_sam_segmenter(), file).eval()
    assert torch.equal(other(image()), adapted(image()))
    assert adapter_digest(other) == adapter_digest(adapted)
    assert other.lora_settings == adapted.lora_settings


def test_the_digest_is_that_of_the_adapters(tmp_path: Path) -> None:
    adapted = add_lora(tiny_sam_segmenter())
    before = adapter_digest(adapted)
    assert adapter_digest(trained(adapted, 1)) != before
    assert adapter_digest(add_lora(tiny_sam_segmenter(), alpha=9)) != before


def test_adapters_of_another_base_or_network_are_refused(tmp_path: Path) -> None:
    file = save_adapters(add_lora(tiny_sam_segmenter()), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"trained on other base weights.*check_base=False"):
        load_adapters(tiny_sam_segmenter(seed=9), file)
    load_adapters(tiny_sam_segmenter(seed=9), file, check_base=False)
    with pytest.raises(ValueError, match=r"belongs to another network: BasicUNet has no sam\."):
        load_adapters(BasicUNet(2, 3, 1, features=(4, 4, 4, 4, 4, 4)), file)
    with pytest.raises(FileNotFoundError, match="no adapter file"):
        load_adapters(tiny_sam_segmenter(), tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="give a path that ends so"):
        save_adapters(add_lora(tiny_sam_segmenter()), tmp_path / "a.pt")


def test_targets_that_match_nothing_list_what_is_near() -> None:
    with pytest.raises(ValueError, match=r"'qvk' matches no .* layer of SamSegmenter\. Near: .*qkv"):
        add_lora(tiny_sam_segmenter(), targets=["qvk"])
    with pytest.raises(ValueError, match="rank is 0"):
        add_lora(tiny_sam_segmenter(), rank=0)
    with pytest.raises(ValueError, match="has adapters already"):
        add_lora(add_lora(tiny_sam_segmenter()))


def test_targets_are_names_ends_of_paths_or_patterns() -> None:
    network = tiny_sam_segmenter()
    assert len(find_targets(network, ["qkv"])) == 2
    assert find_targets(network, ["blocks.1.attn.qkv"]) == ["sam.image_encoder.blocks.1.attn.qkv"]
    assert find_targets(network, ["sam.image_encoder.*.qkv"]) == find_targets(network, ["qkv"])
    assert not any("image_encoder" in name for name in find_targets(network, ["q_proj"]))


@torch.no_grad()
def test_any_network_takes_adapters_convolutions_included() -> None:
    torch.manual_seed(0)
    network = BasicUNet(2, 3, 1, features=(4, 4, 8, 8, 8, 4), norm="instance").eval()
    keys = list(network.state_dict())
    with torch.enable_grad():
        trained(add_lora(network, targets=["down_1.*.conv"], rank=2, train=["final_conv"]))
    unmerged = network(image())
    torch.testing.assert_close(merge_lora(network)(image()), unmerged, atol=1e-4, rtol=1e-3)
    assert list(network.state_dict()) == keys


def test_a_plain_sam_of_transformers_takes_adapters(tmp_path: Path) -> None:
    sam = SamModel.from_pretrained(tiny_transformers_sam(tmp_path))
    keys = list(sam.state_dict())
    add_lora(sam, targets=["qkv", "q_proj"])
    assert any("lora_A" in key for key in sam.state_dict())
    assert list(merge_lora(sam).state_dict()) == keys


def test_a_merged_sam_exports_by_the_onnx_path_of_segment_anything(tmp_path: Path) -> None:
    network = merge_lora(trained(add_lora(tiny_sam_segmenter(out_channels=2)), 1)).eval()
    model = SamOnnxModel(network.sam, return_single_mask=False).eval()
    generator = torch.Generator().manual_seed(0)
    inputs = {
        "image_embeddings": torch.randn(1, 16, 8, 8, generator=generator),
        "point_coords": torch.tensor([[[10.0, 20.0], [0.0, 0.0]]]),
        "point_labels": torch.tensor([[1.0, -1.0]]),
        "mask_input": torch.zeros(1, 1, 32, 32),
        "has_mask_input": torch.zeros(1),
        "orig_im_size": torch.tensor([64.0, 64.0]),
    }
    file = tmp_path / "sam.onnx"
    torch.onnx.export(
        model, tuple(inputs.values()), str(file), input_names=list(inputs), opset_version=17, dynamo=False
    )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    taken = {i.name for i in session.get_inputs()}
    found = session.run(None, {k: v.numpy() for k, v in inputs.items() if k in taken})
    expected = model(*inputs.values())
    torch.testing.assert_close(torch.from_numpy(found[0]), expected[0], atol=1e-3, rtol=1e-3)
    assert found[0].shape[1] == 2
