"""A network that segments the task itself as a teacher: hidden layers and predictions."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ...utils import IMAGENET_MEAN, IMAGENET_STD
from ..lora import adapter_digest, load_adapters, merge_lora
from ..student import as_student
from ..taps import Tap, declared_taps, read_taps
from ..weights import fill_network, read_weights
from .base import InputContract, Teacher, TeacherMap, fixed_size


class SegmentingTeacher(Teacher):
    """Give the hidden layers and the logits of a segmentation network that was adapted to, or trained on, the task.

    The map ``logits`` is what the network predicts before sigmoid or softmax: the tap ``logits`` where the network
    names one (a SAM's mask decoder, at its own grid), its output otherwise. The other maps are hidden layers.

    A SAM with adapters is merged when it is loaded: it costs what the plain one costs. Any other network that segments
    needs no adapters: give its ``weights`` and name its layers by ``taps``.

    Args:
        network: the network, called as ``network(image)``; frozen in place.
        weights: state dict of the whole network; None when it holds its weights, or when adapters bring what is new.
        adapters: file of `monai_difom.networks.lora.save_adapters` for the network as it is. A network that carries
            adapters already is merged without a file.
        layers: numbers of encoder layers to give as ``layer{i}``, counted from 1; the network must name them as taps.
        taps: further maps, name -> dotted module path (or a `Tap`).
        logits: give the map ``logits``.
        input_size: side, or (height, width), that the image is resized to; None keeps the size of the image, rounded to
            the network's ``divisor``.
        multiple_of: what the sides must be multiples of; None takes the network's ``divisor``, or 32 where
            that is 1.
        mean: per-channel mean for an image in [0, 1]; what the network was trained with.
        std: per-channel standard deviation, in the same way.
        licence: licence of the weights.
        source: where they came from; None takes the file that was given.

    Raises:
        ValueError: no map at all, a layer or tap that the network has not, or weights that do not fit.
        FileNotFoundError: there is no such file.

    Example::

        network = SamSegmenter(out_channels=1, weights="sam_vit_b_01ec64.pth")
        teacher = SegmentingTeacher(network, adapters="adapters.safetensors", layers=[6, 12])
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        weights: str | os.PathLike | None = None,
        adapters: str | os.PathLike | None = None,
        layers: Sequence[int] = (),
        taps: Mapping[str, str | Tap] | None = None,
        logits: bool = True,
        input_size: int | Sequence[int] | None = None,
        multiple_of: int | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        licence: str = "see the source of the weights",
        source: str | None = None,
    ) -> None:
        identity = ""
        if weights is not None:
            state = read_weights(weights, "`weights` takes the state dict of exactly this network.")
            fill_network(network, state, weights, "It is the model.pt of the phase that trained the network.")
        if adapters is not None:
            load_adapters(network, adapters)
        if getattr(network, "lora_settings", None) is not None:
            identity = adapter_digest(network)
            merge_lora(network)
        divisor = as_student(network).divisor
        step = multiple_of or (divisor if divisor > 1 else 32)
        size = fixed_size(input_size, step)
        wanted = _wanted_taps(network, layers, taps or {}, logits)
        if not wanted:
            raise ValueError("a teacher needs at least one map: name layers or taps, or set logits to true.")
        found = declared_taps(network, wanted, 3, size or (2 * step, 2 * step))
        given = [os.fspath(file) for file in (weights, adapters) if file is not None]
        super().__init__(
            {name: TeacherMap(tap.channels, tap.stride) for name, tap in found.items()},
            InputContract(size, tuple(mean), tuple(std), step),
            licence,
            source or " + ".join(given) or type(network).__name__,
        )
        self.adapter = identity
        self.taps = found
        self.network = network
        self.freeze()

    def extract(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the hidden maps and ``logits``, each ``(B, C, h, w)``, for a prepared batch ``(B, 3, H, W)``."""
        return read_taps(self.network, image, self.taps)[1]

    def signature_extra(self) -> str:
        """Return the adapters' digest, the tap paths and the printed network."""
        paths = sorted((name, tap.module, tap.source) for name, tap in self.taps.items())
        return f"{self.adapter} {paths} {self.network!r}"


def _wanted_taps(
    network: nn.Module,
    layers: Sequence[int],
    extra: Mapping[str, str | Tap],
    logits: bool,
) -> dict[str, str | Tap]:
    """Return every wanted map: the network's own tap, or a module's path."""
    own = as_student(network).taps
    missing = [layer for layer in layers if f"layer{layer}" not in own]
    if missing:
        known = sorted(name for name in own if name.startswith("layer"))
        raise ValueError(
            f"{type(network).__name__} has no layer {missing[0]}; it names {', '.join(known) or 'no layers'}. Give a "
            "module's path in taps instead."
        )
    wanted: dict[str, str | Tap] = {f"layer{layer}": own[f"layer{layer}"] for layer in layers}
    wanted.update(extra)
    if logits:
        wanted.setdefault("logits", own.get("logits", ""))
    return wanted
