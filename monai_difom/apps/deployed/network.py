"""The network of a bundle for inference: only classes of known packages, no expression, no weights but its own file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from torch import nn

from ...networks.weights import fill_network, read_weights
from .facts import INFERENCE, resolved

NETWORK, WEIGHTS = "network_def", "models/model.pt"
PACKAGES = ("monai.networks", "monai_difom.networks", "segmentation_models_pytorch", "timm", "torch.nn")
_trusted: ContextVar[tuple[str, ...]] = ContextVar("trusted", default=())
# a class named by an expression, as MONAI's networks take their activation
_CLASS = re.compile(r"\$torch\.nn\.\w+")
_WRAPPER = re.compile(r"monai_difom\.networks\.nets\.(any_network\.)?tapped")


@contextmanager
def trusting(modules: Sequence[str]) -> Iterator[None]:
    """Within the context, networks may be built from these modules too; they are imported, which runs their code.

    Args:
        modules: names of modules or packages that the caller knows, such as ``my_network``.
    """
    token = _trusted.set((*_trusted.get(), *modules))
    try:
        yield
    finally:
        _trusted.reset(token)


def network_definition(bundle: str | os.PathLike) -> dict[str, Any]:
    """Return how a bundle's network is built for inference.

    The taps of the training are taken off (the network is the same without), and first weights are not asked for: those of the
    bundle fill all of it.

    Args:
        bundle: folder with ``configs/inference.yaml``.

    Raises:
        ValueError: the configuration has no ``network_def``, or one that could run code; see `check_definition`.
    """
    file = Path(bundle) / INFERENCE
    found = resolved(file, NETWORK)
    if not isinstance(found, dict) or "_target_" not in found:
        raise ValueError(f"{file} has no {NETWORK} with a _target_.")
    while _WRAPPER.fullmatch(str(found["_target_"])):
        found = found["network"]
    definition = _without_first_weights(found)
    check_definition(definition, f"{file}: {NETWORK}")
    return definition


def check_definition(value: Any, place: str) -> None:
    """Refuse what could run code when a network is built from a file of unknown origin.

    Args:
        value: a definition, references filled in.
        place: where it is, for the message.

    Raises:
        ValueError: an expression other than the name of a class of ``torch.nn``, or a class of a package that holds no
            networks.
    """
    if isinstance(value, Mapping):
        target = value.get("_target_")
        if (
            target is not None
            and "." in str(target)
            and not str(target).startswith(tuple(f"{p}." for p in (*PACKAGES, *_trusted.get())))
        ):
            raise ValueError(
                f"{place} calls {target}; a network is built from {', '.join(PACKAGES)} only. If that class is yours, export "
                f"it with --trust {str(target).rpartition('.')[0]}, and use the model.ts or model.onnx that this leaves."
            )
        for key, child in value.items():
            check_definition(child, f"{place}::{key}")
    elif isinstance(value, list | tuple):
        for number, child in enumerate(value):
            check_definition(child, f"{place}::{number}")
    elif isinstance(value, str) and value.startswith("$") and not _CLASS.fullmatch(value):
        raise ValueError(
            f"{place} is the expression {value!r}; a network's definition runs no code. Write the value."
        )


def build_network(definition: Mapping[str, Any]) -> nn.Module:
    """Build a network of a checked definition, in eval mode, with random weights."""
    check_definition(definition, NETWORK)
    parser = ConfigParser({"imports": ["$import torch"], NETWORK: dict(definition)})
    parser.parse()
    return parser.get_parsed_content(NETWORK).eval()


def load_network(bundle: str | os.PathLike) -> nn.Module:
    """Return the trained network of a bundle on the CPU, in eval mode; its file is read without running code in it.

    Raises:
        FileNotFoundError: there is no ``models/model.pt``.
        ValueError: the definition is refused, or the weights do not fit.
    """
    file = Path(bundle) / WEIGHTS
    network = build_network(network_definition(bundle))
    advice = f"{NETWORK} of {INFERENCE} is not the network that was trained."
    fill_network(network, read_weights(file, "It is what a training leaves."), file, advice)
    return network


def is_plain_monai(definition: Any) -> bool:
    """True when nothing in a definition is of this package, so that it can be built without it."""
    if isinstance(definition, Mapping):
        return all(is_plain_monai(child) for child in definition.values())
    if isinstance(definition, list | tuple):
        return all(is_plain_monai(child) for child in definition)
    return not (isinstance(definition, str) and "monai_difom" in definition)


def _without_first_weights(value: Any) -> Any:
    """Return a definition that neither fetches nor reads weights of its own."""
    if isinstance(value, Mapping):
        plain = {key: _without_first_weights(child) for key, child in value.items() if key != "pretrained"}
        return {**plain, "encoder_weights": None} if "encoder_weights" in plain else plain
    if isinstance(value, list | tuple):
        return [_without_first_weights(child) for child in value]
    return value
