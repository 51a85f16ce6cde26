"""Mask2Former and OneFormer as teachers: what their pixel decoders give, and where they see any object.

Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022; Jain et al., "OneFormer",
CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...utils import look_up
from .base import Teacher, TeacherMap
from .hub import (
    Normalisation,
    config_text,
    explained,
    hub_contract,
    licence_of,
    load_config,
    load_hub_network,
)

_LARGEST = 32
_FINEST = 4
_EVIDENCE = "evidence"


@dataclass(frozen=True)
class _Family:
    """What differs between the two.

    Args:
        loader: class of the library.
        channels: configuration value with the channels of the pixel decoder.
        fine_channels: the same of its stride-4 map.
        coarse: name of the levels in the pixel decoder's output.
        fine: name of the stride-4 map in it.
    """

    loader: str
    channels: str
    fine_channels: str
    coarse: str
    fine: str


_FAMILIES = {
    "mask2former": _Family(
        loader="Mask2FormerForUniversalSegmentation",
        channels="feature_size",
        fine_channels="mask_feature_size",
        coarse="decoder_hidden_states",
        fine="decoder_last_hidden_state",
    ),
    "oneformer": _Family(
        loader="OneFormerForUniversalSegmentation",
        channels="conv_dim",
        fine_channels="mask_dim",
        coarse="decoder_features",
        fine="decoder_last_feature",
    ),
}
# the loss has buffers that some files lack, and a temperature that is read in training alone
_UNUSED = ("criterion.",)


class MaskFormerTeacher(Teacher):
    """Give the maps of a universal segmenter's pixel decoder, and its mask evidence.

    ``stride8``, ``stride16`` and ``stride32`` are the pixel decoder's levels, ``stride4`` the map that its mask
    embeddings are compared with: 256 channels each in the published models. ``evidence`` is one channel at stride 4 in
    [0, 1] that knows no classes: at each place the highest, over the queries, of a query's mask probability times the
    probability that it holds any object. Only with ``evidence`` does the transformer decoder run.

    Args:
        model: hub name (``"shi-labs/oneformer_coco_swin_large"``, ``"facebook/mask2former-swin-large-coco-panoptic"``)
            or local folder.
        maps: which of ``stride4``, ``stride8``, ``stride16``, ``stride32`` and ``evidence`` to give.
        input_size: side, or (height, width), multiples of 32; None keeps the size of the image, rounded so.
        task: what OneFormer is asked for where there is ``evidence``: ``"semantic"``, ``"instance"`` or ``"panoptic"``;
            its tokenizer files must be in the folder then.
        mean: per-channel mean for an image in [0, 1]; None takes ``preprocessor_config.json``, or ImageNet's.
        std: per-channel standard deviation, in the same way.
        licence: licence of the weights; None takes the publisher's.

    Raises:
        ValueError: the model is of another family, its weights do not fit, or a size, map or task is not allowed.
        OSError: the model is neither a local folder nor reachable on the hub, or lacks a file.

    Example::

        teacher = MaskFormerTeacher("facebook/mask2former-swin-large-coco-panoptic", input_size=512)
        teacher(torch.rand(1, 3, 352, 352))["stride8"].shape  # (1, 256, 64, 64)
    """

    def __init__(
        self,
        model: str,
        maps: Sequence[str] = ("stride8",),
        input_size: int | Sequence[int] | None = None,
        task: str = "panoptic",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        licence: str | None = None,
    ) -> None:
        model = str(model)
        config = load_config(model)
        kind = config.model_type
        family = look_up(f"model type of {model}", kind, _FAMILIES)
        channels, fine = getattr(config, family.channels), getattr(config, family.fine_channels)
        known = {f"stride{stride}": TeacherMap(int(channels), stride) for stride in (8, 16, _LARGEST)}
        known |= {f"stride{_FINEST}": TeacherMap(int(fine), _FINEST), _EVIDENCE: TeacherMap(1, _FINEST)}
        chosen = {name: look_up(f"map of {model}", name, known) for name in maps}
        network = load_hub_network(model, family.loader, _UNUSED)
        contract = hub_contract(model, Normalisation(), input_size, _LARGEST, mean, std)
        super().__init__(chosen, contract, licence or licence_of(model), model)
        self.family = family
        self.task_tokens: torch.Tensor
        self.network = network
        self.task = task if _EVIDENCE in chosen and kind == "oneformer" else None
        if self.task is not None:
            self.register_buffer("task_tokens", _task_tokens(model, task, int(config.task_seq_len)))
        self.freeze()

    def extract(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the maps ``(B, C, h, w)`` of a prepared batch ``(B, 3, H, W)``."""
        network: Any = self.network
        pixels = network.model.pixel_level_module
        if _EVIDENCE not in self.maps:
            return self._pyramid(pixels(image), image.shape[-1])
        kept: list[Any] = []
        handle = pixels.register_forward_hook(lambda _module, _args, output: kept.append(output))
        try:
            more = {} if self.task is None else {"task_inputs": self.task_tokens.expand(image.shape[0], -1)}
            output = network(image, **more)
        finally:
            handle.remove()
        evidence = mask_evidence(output.masks_queries_logits, output.class_queries_logits)
        return {**self._pyramid(kept[0], image.shape[-1]), _EVIDENCE: evidence}

    def _pyramid(self, output: Any, side: int) -> dict[str, torch.Tensor]:
        """Name the maps of the pixel decoder by their stride."""
        found = [*getattr(output, self.family.coarse), getattr(output, self.family.fine)]
        return {f"stride{side // level.shape[-1]}": level for level in found}

    def signature_extra(self) -> str:
        """Return the task and the configuration, which hold what the weights alone do not show."""
        config: Any = self.network.config
        return f"{self.task} {config_text(config)}"


def mask_evidence(masks: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return where any query sees any object.

    Args:
        masks: mask logits ``(B, Q, h, w)``.
        classes: class logits ``(B, Q, K + 1)``, the last class being "no object".

    Returns:
        ``(B, 1, h, w)`` in [0, 1]: the highest, over the queries, of mask probability times 1 - P(no object).
    """
    objectness = 1 - classes.softmax(-1)[..., -1]
    return (masks.sigmoid() * objectness[..., None, None]).amax(1, keepdim=True)


def _task_tokens(model: str, task: str, length: int) -> torch.Tensor:
    """Return OneFormer's task prompt as tokens ``(1, length)``, as its own processor writes it."""
    from transformers import AutoTokenizer

    tasks = ("semantic", "instance", "panoptic")
    look_up("task of OneFormer", task, dict.fromkeys(tasks))
    tokenizer = explained(model, lambda: AutoTokenizer.from_pretrained(model, trust_remote_code=False))
    prompt = f"the task is {task}"
    tokens = tokenizer(
        [prompt], padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    # without its files the library gives a tokenizer that knows no word, and says nothing
    if tokenizer.decode(tokens["input_ids"][0], skip_special_tokens=True).strip() != prompt:
        raise ValueError(
            f"{model} has no tokenizer that can write {prompt!r}, which OneFormer's evidence needs: put the published "
            "tokenizer files (vocab.json, merges.txt, tokenizer_config.json) into the folder, or leave `evidence` out."
        )
    return tokens["input_ids"] * tokens["attention_mask"]
