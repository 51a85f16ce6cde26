"""Segment Anything without prompts for K classes, from both libraries' own files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import SamModel

from monai_difom.networks.nets import SamSegmenter
from monai_difom.networks.nets.sam_segmenter import _COMMON, _build_sam
from monai_difom.networks.taps import read_taps
from tests.tiny import TINY_SAM, tiny_sam_segmenter, tiny_transformers_sam


@pytest.fixture
def native(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    torch.save(_build_sam({**_COMMON, **TINY_SAM}).state_dict(), tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


@pytest.fixture(params=["native", "transformers"])
def network(request: pytest.FixtureRequest, tmp_path: Path, native: Path) -> nn.Module:
    weights = native if request.param == "native" else tiny_transformers_sam(tmp_path)
    return tiny_sam_segmenter(weights=weights, out_channels=3, **_shape(weights)).eval()


def _shape(weights: Path) -> dict:
    return {} if weights.is_dir() else {"architecture": TINY_SAM}


@torch.no_grad()
def test_logits_have_k_classes_at_the_size_of_the_image(network: nn.Module) -> None:
    for height, width in ((64, 64), (32, 48), (104, 72)):
        assert network(torch.randn(2, 3, height, width)).shape == (2, 3, height, width)


@torch.no_grad()
def test_an_image_is_segmented_alike_alone_and_in_a_batch(network: nn.Module) -> None:
    images = torch.randn(3, 3, 64, 48)
    together = network(images)
    alone = torch.cat([network(image[None]) for image in images])
    assert together.std() > 1e-6
    torch.testing.assert_close(together, alone, atol=1e-5 * float(together.std()), rtol=1e-4)


@torch.no_grad()
def test_taps_are_hidden_layers_embedding_and_logits(network: nn.Module) -> None:
    output, maps = read_taps(network, torch.randn(1, 3, 32, 48), network.taps)
    shapes = {name: tuple(found.shape) for name, found in maps.items()}
    assert shapes == {
        **{
            "layer1": (1, 16, 4, 6),
            "layer2": (1, 16, 4, 6),
            "embedding": (1, 16, 4, 6),
            "logits": (1, 3, 16, 24),
        }
    }
    for name, tap in network.taps.items():
        assert (tap.channels, 48 / tap.stride) == (shapes[name][1], shapes[name][3]), name
    bigger = nn.functional.interpolate(maps["logits"], size=(32, 48), mode="bilinear")
    torch.testing.assert_close(output, bigger)


@torch.no_grad()
def test_the_native_embedding_is_that_of_the_package(native: Path) -> None:
    network = SamSegmenter(weights=native, architecture=TINY_SAM, model_type="small").eval()
    image = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(network.encode(image), network.sam.image_encoder(image))
    state = torch.load(native, weights_only=True)
    kept = {k: v for k, v in network.sam.state_dict().items() if "image_encoder" in k}
    assert all(torch.equal(value, state[key]) for key, value in kept.items())


@torch.no_grad()
def test_one_class_decodes_as_the_package_does_without_a_prompt(native: Path) -> None:
    network = SamSegmenter(weights=native, architecture=TINY_SAM, model_type="small").eval()
    image = torch.randn(1, 3, 64, 64)
    embedding = network.sam.image_encoder(image)
    sparse, dense = network.sam.prompt_encoder(points=None, boxes=None, masks=None)
    sparse = torch.zeros(1, 0, 16)
    expected, _ = network.sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=network.sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense
        if len(dense)
        else network.sam.prompt_encoder.no_mask_embed.weight.view(1, -1, 1, 1).expand(1, -1, 8, 8),
        multimask_output=False,
    )
    torch.testing.assert_close(read_taps(network, image, network.taps)[1]["logits"], expected)


@torch.no_grad()
def test_the_transformers_embedding_is_that_of_the_library(tmp_path: Path) -> None:
    folder = tiny_transformers_sam(tmp_path)
    network = SamSegmenter(weights=folder).eval()
    library = SamModel.from_pretrained(folder).eval()
    image = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(network.encode(image), library.get_image_embeddings(image))
    own = library.get_image_wide_positional_embeddings()
    from monai_difom.networks.nets.sam_segmenter import _positions

    torch.testing.assert_close(_positions(network.sam.shared_image_embedding, (8, 8), image), own)


@torch.no_grad()
def test_a_field_of_view_is_kept_at_another_size(network: nn.Module) -> None:
    """A bright corner changes the embedding most in that corner, whatever the grid."""
    grey = torch.zeros(1, 3, 96, 64)
    bright = grey.clone()
    bright[..., 72:, 48:] = 3
    change = (network.encode(bright) - network.encode(grey)).abs().mean((0, 1))
    rows, columns = change.shape
    halves = [change[: rows // 2, : columns // 2], change[: rows // 2, columns // 2 :]]
    halves += [change[rows // 2 :, : columns // 2], change[rows // 2 :, columns // 2 :]]
    assert int(torch.stack([half.mean() for half in halves]).argmax()) == 3


def test_a_gradient_reaches_every_trainable_parameter(network: nn.Module) -> None:
    network.train()(torch.randn(2, 3, 64, 64)).pow(2).sum().backward()
    without = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    # transformers' decoder keeps its token for many prompts, which nothing reads here
    assert all("hypernetworks_mlps.0" in name or "shared" in name for name in without), without


def test_what_makes_no_segmenter_is_refused(tmp_path: Path, native: Path) -> None:
    with pytest.raises(ValueError, match="takes 2D RGB images"):
        SamSegmenter(out_channels=0)
    with pytest.raises(ValueError, match="Segment Anything model type 'vit_x'"):
        SamSegmenter(model_type="vit_x")
    with pytest.raises(ValueError, match=r"architecture value 'dept'. Did you mean 'depth'"):
        SamSegmenter(model_type="small", architecture={"dept": 3})
    with pytest.raises(ValueError, match=r"does not fit Sam: .*missing keys.* of type 'small'"):
        SamSegmenter(model_type="small", weights=native)
    with pytest.raises(ValueError, match=r"cannot take a 60x64 image: every side must be a multiple of 8"):
        tiny_sam_segmenter()(torch.randn(1, 3, 60, 64))
    folder = tiny_transformers_sam(tmp_path)
    with pytest.raises(ValueError, match="brings its own architecture"):
        SamSegmenter(weights=folder, architecture={"depth": 2})
    state = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in state.items() if "neck" not in k},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ValueError, match=r"lacks \d+ keys of SamModel"):
        SamSegmenter(weights=folder)
