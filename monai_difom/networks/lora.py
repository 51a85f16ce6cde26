"""Low-rank adapters (Hu et al., LoRA, ICLR 2022) on any network, by peft.

The network is changed in place: each target layer is wrapped, all other weights are frozen. What was trained is
saved alone, megabytes where the network has gigabytes, and merging leaves the plain network behind: the same modules,
the same keys, no added cost.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..utils import atomic_path, few
from ..utils.documents import parse_json
from .taps import get_module

# query, key and value of the image encoder (one fused layer), and queries and values of the mask decoder's attention,
# by the names of segment-anything and of transformers alike
SAM_TARGETS = ("qkv", "q_proj", "v_proj")
_FORMAT = "monai_difom.lora"
_SUPPORTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)


@dataclass(frozen=True)
class LoraSettings:
    """How a network was adapted; saved with the adapters.

    Args:
        modules: dotted paths of the layers with an adapter.
        rank: rank of the update.
        alpha: the update is scaled by ``alpha / rank``.
        dropout: dropout in front of the adapter, in training.
        train: dotted paths of the modules that are trained in full.
    """

    modules: tuple[str, ...]
    rank: int
    alpha: float
    dropout: float
    train: tuple[str, ...]


def add_lora(
    network: nn.Module,
    targets: str | Sequence[str] = SAM_TARGETS,
    rank: int = 4,
    alpha: float | None = None,
    dropout: float = 0.0,
    train: Sequence[str] | None = None,
) -> nn.Module:
    r"""Give a network low-rank adapters, in place; everything else is frozen.

    A layer :math:`W x` becomes :math:`W x + \frac{\alpha}{r} B A x` with :math:`A \in R^{r \times n}` random and
    :math:`B = 0`: at the start the network computes what it did.

    Args:
        network: any module.
        targets: layers to adapt: a module's name (``"qkv"``: every module called so), a dotted path or the end of one,
            or a pattern with ``*`` over whole paths (``"sam.image_encoder.*.qkv"``). Linear, convolution and embedding
            layers.
        rank: rank of the update, from 1.
        alpha: scale; None takes ``rank``, so that the update counts as it is.
        dropout: dropout in front of the adapters, in [0, 1).
        train: modules that are trained in full beside the adapters, such as a new head; None takes the network's
            ``task_modules``, where it names any.

    Returns:
        ``network``.

    Raises:
        ValueError: a target matches no layer (the nearest names are listed), a number out of range, or a network that
            has adapters already.

    Example::

        network = add_lora(SamSegmenter(out_channels=1, weights="sam_vit_b_01ec64.pth"), rank=8)
    """
    if getattr(network, "lora_settings", None) is not None:
        raise ValueError(f"{type(network).__name__} has adapters already: merge_lora() them first.")
    if rank < 1 or not 0 <= dropout < 1:
        raise ValueError(
            f"rank is {rank} and dropout {dropout}; allowed are rank from 1 and dropout in [0, 1)."
        )
    found = find_targets(network, [targets] if isinstance(targets, str) else targets)
    full = tuple(getattr(network, "task_modules", ()) if train is None else train)
    for path in full:
        get_module(network, path)
    clash = [path for path in found if any(path == name or path.startswith(name + ".") for name in full)]
    if clash and len(clash) == len(found):
        raise ValueError(f"all targets lie in modules that are trained in full: {', '.join(clash[:5])}.")
    modules = tuple(path for path in found if path not in clash)
    scale = float(rank if alpha is None else alpha)
    return _inject(network, LoraSettings(modules, int(rank), scale, float(dropout), full))


def find_targets(network: nn.Module, targets: Sequence[str]) -> list[str]:
    """Return the paths of the layers that targets name, in the order of the network.

    Raises:
        ValueError: a target matches no layer; lists the nearest names.
    """
    layers = [name for name, module in network.named_modules() if name and isinstance(module, _SUPPORTED)]
    chosen: set[str] = set()
    for target in targets:
        matched = {name for name in layers if _matches(name, target)}
        if not matched:
            # digits apart, so that "qvk" lists one "qkv" and not one for every block
            names = {re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in layers}
            options = sorted(
                {name.rpartition(".")[2] for name in layers if not name.rpartition(".")[2].isdigit()} | names
            )
            near = difflib.get_close_matches(target, options, n=5, cutoff=0.4)
            raise ValueError(
                f"LoRA target {target!r} matches no linear, convolution or embedding layer of "
                f"{type(network).__name__}. Near: {', '.join(near) or 'none'}. All: {', '.join(options[:40])}."
            )
        chosen |= matched
    if not chosen:
        raise ValueError("LoRA needs at least one target layer.")
    return [name for name in layers if name in chosen]


def _matches(path: str, target: str) -> bool:
    if any(mark in target for mark in "*?["):
        return fnmatch.fnmatchcase(path, target)
    return path == target or path.endswith("." + target)


def _inject(network: nn.Module, settings: LoraSettings) -> nn.Module:
    from peft import LoraConfig, inject_adapter_in_model

    network.requires_grad_(False)
    pattern = "|".join(re.escape(path) for path in settings.modules)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=pattern,
    )
    inject_adapter_in_model(config, network)
    for path in settings.train:
        get_module(network, path).requires_grad_(True)
    network.lora_settings = settings  # type: ignore[assignment]
    return network


def _settings_of(network: nn.Module) -> LoraSettings:
    settings = getattr(network, "lora_settings", None)
    if settings is None:
        raise ValueError(
            f"{type(network).__name__} has no adapters: call add_lora() or load_adapters() first."
        )
    return settings


def adapter_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return what adaptation trains: the adapters, and the modules that are trained in full with their buffers."""
    settings = _settings_of(network)
    kept = tuple(path + "." for path in settings.train)
    return {
        key: value.detach()
        for key, value in network.state_dict().items()
        if ".lora_" in key or key.startswith(kept or ("\0",))
    }


def base_digest(network: nn.Module) -> str:
    """Return the SHA-256 over all weights that adaptation does not touch, by their plain names."""
    trained = set(adapter_state(network))
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        if key not in trained:
            digest.update(f"{key.replace('.base_layer.', '.')} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(_bytes(value))
    return digest.hexdigest()


def adapter_digest(network: nn.Module) -> str:
    """Return the SHA-256 over settings and adapters: the identity of an adaptation."""
    digest = hashlib.sha256(json.dumps(asdict(_settings_of(network)), sort_keys=True).encode())
    for key, value in sorted(adapter_state(network).items()):
        digest.update(f"{key} {value.dtype}".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def _bytes(value: torch.Tensor) -> bytes:
    return value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def save_adapters(network: nn.Module, path: str | os.PathLike) -> Path:
    """Write the adapters and the modules trained in full to one safetensors file; nothing of the base.

    Args:
        network: a network with adapters.
        path: file to write, ``.safetensors``.

    Returns:
        The path.
    """
    from safetensors.torch import save_file

    if Path(path).suffix != ".safetensors":
        raise ValueError(
            f"adapters are saved as safetensors; give a path that ends so, not {os.fspath(path)!r}."
        )
    about = {
        "format": _FORMAT,
        "settings": json.dumps(asdict(_settings_of(network))),
        "base": base_digest(network),
    }
    state = {key: value.cpu().contiguous().clone() for key, value in adapter_state(network).items()}
    with atomic_path(path) as temporary:
        save_file(state, str(temporary), metadata=about)
    return Path(path)


def load_adapters(network: nn.Module, path: str | os.PathLike, check_base: bool = True) -> nn.Module:
    """Give a plain network the adapters of a file, in place.

    Args:
        network: the network that was adapted, with its base weights and without adapters.
        path: file of `save_adapters`.
        check_base: refuse a network whose base weights are not those that the adapters were trained on.

    Returns:
        ``network``, with adapters that are not merged.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no adapters, or they belong to another network or to other base weights.
    """
    state, settings, base = _read(Path(path))
    layers = dict(network.named_modules())
    absent = [name for name in (*settings.modules, *settings.train) if name not in layers]
    if absent:
        raise ValueError(
            f"{path} belongs to another network: {type(network).__name__} has no {few(absent, 3)}."
        )
    _inject(network, settings)
    wanted = adapter_state(network)
    wrong = sorted(set(wanted) ^ set(state)) or [k for k in wanted if wanted[k].shape != state[k].shape]
    if wrong:
        raise ValueError(f"{path} belongs to another network: {', '.join(wrong[:3])} differ.")
    if check_base and base_digest(network) != base:
        raise ValueError(
            f"{path} was trained on other base weights than {type(network).__name__} has now. Load the base weights that "
            "the adaptation started from, or give check_base=False."
        )
    network.load_state_dict(state, strict=False)
    return network


def _read(path: Path) -> tuple[dict[str, torch.Tensor], LoraSettings, str]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(
            f"no adapter file at {path}. save_adapters() writes one at the end of an adaptation."
        )
    try:
        with safe_open(str(path), framework="pt") as file:
            about: dict[str, Any] = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    if about.get("format") != _FORMAT:
        raise ValueError(f"{path} holds no adapters of this package. save_adapters() writes them.")
    found = parse_json(about["settings"], f"{path}: its settings")
    found.update(modules=tuple(found["modules"]), train=tuple(found["train"]))
    return state, LoraSettings(**found), about["base"]


def merge_lora(network: nn.Module) -> nn.Module:
    """Add the adapters to the weights and take them out, in place.

    What is left has the modules and the keys of the network before `add_lora`; all its weights are trainable again.

    Returns:
        ``network``.
    """
    settings = _settings_of(network)
    for path in settings.modules:
        wrapped: Any = get_module(network, path)
        wrapped.merge(safe_merge=True)
        parent, _, name = path.rpartition(".")
        setattr(get_module(network, parent) if parent else network, name, wrapped.get_base_layer())
    network.lora_settings = None  # type: ignore[assignment]
    if hasattr(network, "peft_config"):
        del network.peft_config
    return network.requires_grad_(True)
