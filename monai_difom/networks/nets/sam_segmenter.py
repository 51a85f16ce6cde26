"""Segment Anything without prompts, for K classes."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...utils import look_up, unknown_name
from ..blocks import check_input_size
from ..taps import Tap
from ..weights import fill_network, read_weights

_PIXELS = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
_DOWNLOADS = "https://dl.fbaipublicfiles.com/segment_anything/"
# published sizes, and two to train from scratch
MODEL_TYPES: dict[str, dict[str, Any]] = {
    "vit_b": {"embed_dim": 768, "depth": 12, "num_heads": 12, "global_attn_indexes": (2, 5, 8, 11)},
    "vit_l": {"embed_dim": 1024, "depth": 24, "num_heads": 16, "global_attn_indexes": (5, 11, 17, 23)},
    "vit_h": {"embed_dim": 1280, "depth": 32, "num_heads": 16, "global_attn_indexes": (7, 15, 23, 31)},
    "small": {
        **{"embed_dim": 96, "depth": 4, "num_heads": 3, "global_attn_indexes": (1, 3)},
        **{"img_size": 256, "patch_size": 8, "out_chans": 64, "decoder_mlp_dim": 256},
    },
}
_COMMON: dict[str, Any] = {
    "img_size": 1024,
    "patch_size": 16,
    "window_size": 14,
    "out_chans": 256,
    "decoder_depth": 2,
    "decoder_heads": 8,
    "decoder_mlp_dim": 2048,
}


class SamSegmenter(nn.Module):
    """SAM's image encoder and mask decoder with one mask token per class, run without any prompt.

    The prompt encoder gives its "no prompt" embedding, as published adaptations of SAM do (SAMed, arXiv 2304.13785).
    The K mask tokens and their hypernetworks start as copies of the published ones. Adapters go in by
    `monai_difom.networks.lora.add_lora`, which trains the modules in `task_modules` in full.

    Takes images with ImageNet's mean and deviation, which are SAM's own. The image is not padded: position embeddings
    are resampled to its grid, so that every map covers the image and nothing else.

    Args:
        spatial_dims: 2.
        in_channels: 3.
        out_channels: K; 1 for one class against background (sigmoid), K for a softmax with the background as class 0,
            or K classes that may overlap (sigmoid): the loss decides.
        model_type: ``"vit_b"``, ``"vit_l"``, ``"vit_h"``, or ``"small"`` (0.8 million parameters, patches of 8 pixels) to be
            trained from scratch.
        weights: a native ``.pth`` of segment-anything (MedSAM's has its layout), or a folder with a SAM of transformers
            (``config.json``, ``model.safetensors``). None starts from random weights.
        architecture: values that replace those of ``model_type``: ``embed_dim``, ``depth``, ``num_heads``,
            ``global_attn_indexes``, ``img_size``, ``patch_size``, ``window_size``, ``out_chans``, ``decoder_depth``,
            ``decoder_heads``, ``decoder_mlp_dim``. A folder brings its own.

    Attributes:
        sam: the model of segment-anything or of transformers, with K mask tokens.
        taps: ``layer1`` ... ``layerN`` (outputs of the encoder's blocks), ``embedding`` (what the decoder takes) and
            ``logits`` (the decoder's map, four times finer than the embedding).
        task_modules: what is new for the task: mask tokens and their hypernetworks.

    Raises:
        ValueError: an unknown model type or architecture value, weights that do not fit, or not 2D RGB.
        FileNotFoundError: there is no such weight file.

    Example::

        network = SamSegmenter(out_channels=1, model_type="vit_b", weights="sam_vit_b_01ec64.pth")
        network(torch.rand(1, 3, 352, 352)).shape  # (1, 1, 352, 352)
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 1,
        model_type: str = "vit_b",
        weights: str | os.PathLike | None = None,
        architecture: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if spatial_dims != 2 or in_channels != 3 or out_channels < 1:
            raise ValueError(
                f"spatial_dims {spatial_dims}, in_channels {in_channels}, out_channels {out_channels}: Segment Anything "
                "takes 2D RGB images, and at least one class."
            )
        self.out_channels = out_channels
        self.from_transformers = weights is not None and os.path.isdir(weights)
        if self.from_transformers:
            if architecture:
                raise ValueError(
                    "a SAM from a transformers folder brings its own architecture: leave that out."
                )
            self.sam = _transformers_sam(os.fspath(weights))  # type: ignore[arg-type]
            _set_classes(self.sam.mask_decoder, out_channels, spare=1)
        else:
            self.sam = _native_sam(model_type, weights, architecture or {})
            _set_classes(self.sam.mask_decoder, out_channels, spare=0)
        blocks, embed_dim, width = _facts(self.sam, self.from_transformers)
        self.patch = _patch(self.sam, self.from_transformers)
        self.divisor = self.patch
        self.training_only: tuple[str, ...] = ()
        self.hidden = nn.ModuleList(_ChannelsFirst() for _ in blocks)
        self.embedding, self.logits = nn.Identity(), nn.Identity()
        layers = {
            f"layer{i}": Tap(f"hidden.{i - 1}", embed_dim, self.patch) for i in range(1, len(blocks) + 1)
        }
        self.taps: dict[str, Tap] = {
            **layers,
            "embedding": Tap("embedding", width, self.patch),
            "logits": Tap("logits", out_channels, self.patch / 4),
        }
        self.task_modules = ("sam.mask_decoder.mask_tokens", "sam.mask_decoder.output_hypernetworks_mlps")
        # nothing reads SAM's guess of its own quality, nor its encoders of points and masks: no gradient comes there
        self.sam.mask_decoder.iou_prediction_head.requires_grad_(False)
        self.sam.prompt_encoder.requires_grad_(False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits ``(B, K, H, W)`` of an image ``(B, 3, H, W)`` whose sides are multiples of the patch."""
        check_input_size(image.shape[2:], self.patch, type(self).__name__)
        embedding = self.embedding(self.encode(image))
        logits = self.logits(self._decode(embedding))
        return F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=False)

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """Return the image embedding ``(B, C, H / patch, W / patch)``."""
        encoder: Any = self.sam.vision_encoder if self.from_transformers else self.sam.image_encoder
        patches = encoder.patch_embed.projection if self.from_transformers else encoder.patch_embed.proj
        x = patches(image).permute(0, 2, 3, 1)
        if encoder.pos_embed is not None:
            x = x + _resampled(encoder.pos_embed, (x.shape[1], x.shape[2]))
        for block, tap in zip(_facts(self.sam, self.from_transformers)[0], self.hidden, strict=True):
            x = block(x)
            tap(x)
        return encoder.neck(x if self.from_transformers else x.permute(0, 3, 1, 2))

    def _decode(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return the mask decoder's map of every class, ``(B, K, 4 h, 4 w)``, for the "no prompt" embedding."""
        grid = (embedding.shape[2], embedding.shape[3])
        prompt: Any = self.sam.prompt_encoder
        decoder: Any = self.sam.mask_decoder
        dense = prompt.no_mask_embed.weight.reshape(1, -1, 1, 1)
        if self.from_transformers:
            positions = _positions(self.sam.shared_image_embedding, grid, embedding)
            batch = embedding.shape[0]
            masks, _ = decoder(
                embedding, positions.expand(batch, -1, -1, -1), None, dense, multimask_output=True
            )
            return masks[:, 0]
        positions = prompt.pe_layer(grid)[None].to(embedding.dtype)
        # one set of tokens for all images: attention broadcasts it over the batch
        sparse = embedding.new_zeros(1, 0, embedding.shape[1])
        masks, _ = decoder.predict_masks(embedding, positions, sparse, dense)
        return masks


class _ChannelsFirst(nn.Module):
    """A place to read a block's tokens ``(B, h, w, C)`` as a map ``(B, C, h, w)``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 3, 1, 2)


def _facts(sam: Any, from_transformers: bool) -> tuple[nn.ModuleList, int, int]:
    """Return the encoder's blocks, their channels and those of the embedding."""
    if from_transformers:
        config = sam.config.vision_config
        return sam.vision_encoder.layers, config.hidden_size, config.output_channels
    encoder = sam.image_encoder
    return encoder.blocks, encoder.patch_embed.proj.out_channels, encoder.neck[0].out_channels


def _patch(sam: Any, from_transformers: bool) -> int:
    size = (
        sam.config.vision_config.patch_size
        if from_transformers
        else sam.image_encoder.patch_embed.proj.stride[0]
    )
    return int(size)


def _resampled(positions: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Return the absolute position embedding ``(1, h, w, C)`` on another grid."""
    if tuple(positions.shape[1:3]) == grid:
        return positions
    maps = positions.permute(0, 3, 1, 2)
    maps = F.interpolate(maps.float(), size=grid, mode="bicubic", align_corners=False, antialias=True)
    return maps.to(positions.dtype).permute(0, 2, 3, 1)


def _positions(embed: nn.Module, grid: tuple[int, int], like: torch.Tensor) -> torch.Tensor:
    """Return the decoder's positional encoding of a grid's centres, ``(1, C, h, w)``."""
    y, x = (torch.arange(n, device=like.device, dtype=like.dtype).add(0.5) / n for n in grid)
    centres = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)
    return embed(centres).permute(2, 0, 1)[None]


def _set_classes(decoder: Any, classes: int, spare: int) -> None:
    """Give a mask decoder one token per class, copied from those it has; ``spare`` leading tokens stay as they are."""
    old = decoder.mask_tokens.weight.detach()
    # published tokens 1 to 3 are three guesses of what is meant, from part to whole; 0 is for many prompts
    order = [*range(1, len(old)), 0] if len(old) > 1 else [0]
    picked = [0] * spare + [order[k % len(order)] for k in range(classes)]
    tokens = nn.Embedding(len(picked), old.shape[1], device=old.device, dtype=old.dtype)
    with torch.no_grad():
        # copies that are equal would stay equal: a small difference lets two classes part
        tokens.weight.copy_(old[picked] + 0.02 * old.std() * torch.randn(len(picked), old.shape[1]).to(old))
    decoder.mask_tokens = tokens
    decoder.output_hypernetworks_mlps = nn.ModuleList(
        copy.deepcopy(decoder.output_hypernetworks_mlps[i]) for i in picked
    )
    head = decoder.iou_prediction_head
    last: nn.Linear = head.proj_out if hasattr(head, "proj_out") else head.layers[-1]
    replaced = nn.Linear(last.in_features, len(picked), device=old.device, dtype=old.dtype)
    with torch.no_grad():
        replaced.weight.copy_(last.weight[picked])
        replaced.bias.copy_(last.bias[picked])
    if hasattr(head, "proj_out"):
        head.proj_out = replaced
    else:
        head.layers[-1] = replaced
    decoder.num_mask_tokens = len(picked)
    decoder.num_multimask_outputs = len(picked) - 1


def _native_sam(model_type: str, weights: str | os.PathLike | None, changes: Mapping[str, Any]) -> Any:
    """Build a SAM of segment-anything, and fill it where weights are given."""
    shape = {**_COMMON, **look_up("Segment Anything model type", model_type, MODEL_TYPES)}
    for name, value in changes.items():
        if name not in shape:
            raise ValueError(unknown_name("architecture value", name, shape))
        shape[name] = value
    if weights is None:
        return _build_sam(shape)
    where = f"Published files: {_DOWNLOADS}sam_vit_b_01ec64.pth, sam_vit_l_0b3195.pth, sam_vit_h_4b8939.pth."
    state = read_weights(weights, where)
    with torch.device("meta"):  # the random weights of vit_h alone take many seconds
        sam = _build_sam(shape)
    # buffers that no file holds
    sam.pixel_mean, sam.pixel_std = (torch.tensor(values).view(-1, 1, 1) for values in _PIXELS)
    advice = f"Is it a whole SAM (encoder, prompt encoder and mask decoder) of type {model_type!r}? {where}"
    fill_network(sam, state, weights, advice, assign=True)
    return sam.float()


def _build_sam(shape: Mapping[str, Any]) -> Any:
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    side, patch, width = int(shape["img_size"]), int(shape["patch_size"]), int(shape["out_chans"])
    encoder = ImageEncoderViT(
        img_size=side,
        patch_size=patch,
        embed_dim=shape["embed_dim"],
        depth=shape["depth"],
        num_heads=shape["num_heads"],
        global_attn_indexes=tuple(shape["global_attn_indexes"]),
        window_size=shape["window_size"],
        out_chans=width,
        mlp_ratio=4,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
    )
    nn.init.trunc_normal_(encoder.pos_embed, std=0.02)
    prompt = PromptEncoder(width, (side // patch, side // patch), (side, side), 16)
    transformer = TwoWayTransformer(
        depth=shape["decoder_depth"],
        embedding_dim=width,
        num_heads=shape["decoder_heads"],
        mlp_dim=shape["decoder_mlp_dim"],
    )
    decoder = MaskDecoder(transformer_dim=width, transformer=transformer, iou_head_hidden_dim=width)
    return Sam(encoder, prompt, decoder, *_PIXELS)


def _transformers_sam(folder: str) -> Any:
    """Load a SAM of transformers from a folder and see that no weight is missing."""
    from transformers import SamModel

    try:
        sam, report = SamModel.from_pretrained(
            folder, output_loading_info=True, dtype=torch.float32, weights_only=True, local_files_only=True
        )
    except Exception as error:  # configuration, safetensors and shape errors have no common class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{folder} holds no SAM of transformers: {reason} Give a folder of save_pretrained."
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(f"{folder} lacks {len(missing)} keys of SamModel (first: {', '.join(missing[:3])}).")
    return sam
