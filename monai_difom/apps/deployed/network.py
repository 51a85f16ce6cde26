"""The network of a bundle for inference: only classes of known packages, no expression, no weights but its own file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ...networks.definition import build_network, check_definition, deployed_definition
from ...networks.weights import fill_network, read_weights
from ...utils.configurations import resolved
from ...utils.weight_files import BUNDLE_WEIGHTS
from .facts import inference_config

NETWORK, WEIGHTS = "network_def", BUNDLE_WEIGHTS


def network_definition(bundle: str | os.PathLike) -> dict[str, Any]:
    """Return how a bundle's network is built for inference.

    The taps of the training are taken off (the network is the same without), and first weights are not asked for: those of the
    bundle fill all of it.

    Args:
        bundle: folder with ``configs/inference.yaml``, or JSON.

    Raises:
        ValueError: the configuration has no ``network_def``, or one that could run code; see `check_definition`.
    """
    file = inference_config(bundle)
    found = resolved(file, NETWORK)
    if not isinstance(found, dict) or "_target_" not in found:
        raise ValueError(f"{file} has no {NETWORK} with a _target_.")
    definition = deployed_definition(found)
    check_definition(definition, f"{file}: {NETWORK}")
    return definition


def load_network(bundle: str | os.PathLike) -> nn.Module:
    """Return the trained network of a bundle on the CPU, in eval mode; its file is read without running code in it.

    Raises:
        FileNotFoundError: there is no ``models/model.pt``.
        ValueError: the definition is refused, or the weights do not fit.
    """
    folder = Path(bundle)
    file = folder / WEIGHTS
    definition = network_definition(folder)
    state = read_weights(file, "It is what a training leaves.")
    config = inference_config(folder)
    network = build_network(definition, f"{config}: {NETWORK}", file.stat().st_size)
    advice = f"{NETWORK} of {config.name} is not the network that was trained."
    fill_network(network, state, file, advice)
    return network


def is_plain_monai(definition: Any) -> bool:
    """True when nothing in a definition is of this package, so that it can be built without it."""
    if isinstance(definition, Mapping):
        return all(is_plain_monai(child) for child in definition.values())
    if isinstance(definition, list | tuple):
        return all(is_plain_monai(child) for child in definition)
    return not (isinstance(definition, str) and "monai_difom" in definition)
