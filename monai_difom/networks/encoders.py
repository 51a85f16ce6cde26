"""Pretrained encoders from timm, for students and teachers: by name, from the hub or from a local file."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .hub_access import hub_if_there
from .inherit import select_weights
from .weights import fill_network, read_weights

_WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")

Pretrained = bool | str | os.PathLike | None


def needed_weights(file: str | os.PathLike | None, option: str = "teacher_weights") -> str | os.PathLike:
    """Return the weight file of a network that is nothing without it.

    Raises:
        ValueError: there is none.
    """
    if file is None or not str(file):
        raise ValueError(
            f"{option} is not given; a teacher from random weights knows nothing. Give --{option} FILE."
        )
    return file


def load_encoder(
    name: str,
    pretrained: Pretrained = False,
    in_channels: int = 3,
    *,
    rename: Callable[[str], str | None] | None = None,
    option: str = "`pretrained`",
    select: str | None = None,
    **arguments: Any,
) -> nn.Module:
    """Return a timm network that gives the list of its feature maps, finest first.

    Its ``feature_info.reduction()`` says the strides, `encoder_channels` the channels.

    Args:
        name: timm model, ``"res2net50d"``; ``timm.list_models()`` gives all.
        pretrained: False or None for random weights; True for the weights that timm publishes; a hub name, either a timm
            tag (``"res2net50d.in1k"``) or a repository (``"timm/res2net50d.in1k"``); or a local file (.safetensors,
            .pth) in timm's layout, read without running code in it.
        in_channels: channels of the image. Pretrained RGB weights are summed for one channel and repeated for others.
        rename: key of a local file -> timm's key, or None to leave the key out: for files in another layout.
        option: how messages call `pretrained`.
        select: the local file is of a bigger encoder of the same family, of whose weights a part is taken: ``"uniform"`` or
            ``"first"``, see `select_weights`.
        **arguments: of ``timm.create_model``: ``out_indices``, ``drop_path_rate``, ...

    Raises:
        ValueError: timm has no such model, or the file does not fit it.
        FileNotFoundError: there is no such file.
        OSError: the hub cannot be reached or has no such weights.
    """
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f" Near: {', '.join(near)}." if near else ""
        raise ValueError(f"timm has no model {name!r}.{hint} timm.list_models() gives all names.")
    arguments = dict(arguments, features_only=True, in_chans=in_channels)
    if str(pretrained).lower() in ("true", "false", "none"):  # a word of a command line
        pretrained = str(pretrained).lower() == "true"
    if not pretrained:
        return timm.create_model(name, pretrained=False, **arguments)
    if select is not None and (pretrained is True or not is_weight_file(pretrained)):
        raise ValueError(
            f"{option} is {pretrained!r}; with select it is the local weight file of a bigger encoder of the family of {name}."
        )
    if pretrained is True or not is_weight_file(pretrained):
        return _from_hub(name, pretrained, option, arguments)
    network: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    state = read_weights(pretrained, f"{option} takes a file in timm's layout of {name}.")
    if rename is not None:
        renamed = {rename(key): value for key, value in state.items()}
        state = {key: value for key, value in renamed.items() if key is not None}
    state = _fit_input(network, timm_keys(network, state), in_channels)
    if select is not None:
        state = select_weights(state, network.state_dict(), select)
    advice = f"{option} must hold every key of timm's {name}; was it saved from another model or library?"
    fill_network(network, state, pretrained, advice, allow_other_modules=True)
    return network


def encoder_channels(encoder: nn.Module) -> list[int]:
    """Return the channels of an encoder's maps, finest first."""
    info: Any = encoder.feature_info
    return list(info.channels())


def is_weight_file(pretrained: str | os.PathLike) -> bool:
    """Return whether a name means a local file: it is there, or it ends as weight files do."""
    return Path(pretrained).suffix.lower() in _WEIGHT_FILES or Path(pretrained).is_file()


def _from_hub(
    name: str, pretrained: bool | str | os.PathLike, option: str, arguments: dict[str, Any]
) -> nn.Module:
    """Create a network with weights of the hub."""
    import timm

    if pretrained is not True:
        wanted = str(pretrained).removeprefix("hf-hub:")
        if "/" in wanted:
            arguments["pretrained_cfg_overlay"] = {"hf_hub_id": wanted}
        elif wanted.partition(".")[0] == name:
            name = wanted
        else:
            raise ValueError(
                f"{option} is {wanted!r}, which is no file here and no weights of {name}. Give true, a tag as "
                f"{name}.<tag>, a hub repository as owner/name, or the path of a .safetensors or .pth file."
            )
    try:
        with hub_if_there():
            return timm.create_model(name, pretrained=True, **arguments)
    except TypeError:  # a model argument that timm does not know
        raise
    except Exception as error:  # hub, network and cache errors have no common class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OSError(
            f"the published weights of timm's {name} cannot be had: {reason} Give a local .safetensors or "
            f".pth file as {option}."
        ) from error


def timm_keys(network: nn.Module, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the keys of a timm network to those of timm's feature wrappers.

    The list wrapper flattens top-level sequences (``stages.0`` becomes ``stages_0``); the getter wrapper
    holds the whole model as ``model``.
    """
    children = dict(network.named_children())
    renamed = {}
    for key, value in state.items():
        flat = key.replace(".", "_", 1)
        if key.partition(".")[0] in children:
            renamed[key] = value
        elif flat.partition(".")[0] in children:
            renamed[flat] = value
        elif set(children) == {"model"}:
            renamed[f"model.{key}"] = value
        else:
            renamed[key] = value
    return renamed


def _fit_input(
    network: nn.Module, state: dict[str, torch.Tensor], in_channels: int
) -> dict[str, torch.Tensor]:
    """Turn the first convolution of RGB weights into one for ``in_channels``, as timm does for its own weights."""
    from timm.models import adapt_input_conv

    if in_channels == 3:
        return state
    for key, wanted in network.state_dict().items():
        found = state.get(key)
        if found is None or found.ndim != 4 or wanted.ndim != 4:
            continue
        if (wanted.shape[1], found.shape[1]) == (in_channels, 3) and found.shape[2:] == wanted.shape[2:]:
            state[key] = adapt_input_conv(in_channels, found)
    return state
