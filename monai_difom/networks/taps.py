"""Named places in a network where feature maps are read.

A tap is read with a forward hook that lives for one call. The network itself is not changed: any
`torch.nn.Module` can be tapped, and what is exported later is the plain network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from ..utils import unknown_name


@dataclass(frozen=True)
class Tap:
    """One feature map of a network.

    Args:
        module: dotted path of the module whose output is the map. Of a module that gives several maps the last one is
            read, or the one whose index is in brackets: ``"encoder[2]"``.
        channels: channels of the map.
        stride: input pixels per map pixel along an axis (16 for a 22x22 map of a 352x352 image).
        source: name of another tap. When given, `module` is not part of the network's forward pass: it is
            applied to that tap's map when the taps are read (a side head that is dropped at export).
    """

    module: str
    channels: int
    stride: float
    source: str | None = None


def get_module(network: nn.Module, path: str) -> nn.Module:
    """Return the submodule at a dotted path.

    Args:
        network: any module.
        path: as ``named_modules()`` writes it; empty for the network itself.

    Raises:
        ValueError: there is none; names the nearest path.
    """
    modules = dict(network.named_modules())
    if path not in modules:
        # a network has hundreds of modules: those as deep as the path are enough to choose from
        options = (name for name in modules if name and name.count(".") <= path.count("."))
        raise ValueError(unknown_name(f"module of {type(network).__name__}", path, options))
    return modules[path]


def split_index(path: str) -> tuple[str, int | None]:
    """Return the module path of a tap, and which of the module's maps is meant: ``"encoder[2]"`` -> ``("encoder", 2)``."""
    found = re.fullmatch(r"(.*)\[(-?\d+)\]", path)
    return (found[1], int(found[2])) if found else (path, None)


def tapped_module(network: nn.Module, tap: Tap) -> nn.Module:
    """Return the module of a network whose output is a tap's map, see `get_module`."""
    return get_module(network, split_index(tap.module)[0])


def map_of(output: object, path: str) -> torch.Tensor:
    """Return the map in the output of the module at a tap's path; a list or tuple gives its last tensor (the deepest, by custom).

    Raises:
        ValueError: there is no map, or no such one.
    """
    index = split_index(path)[1]
    if isinstance(output, (list, tuple)) and output:
        index = -1 if index is None else index
        if not -len(output) <= index < len(output):
            raise ValueError(f"{path!r}: the module gives {len(output)} maps; count them from 0.")
        output = output[index]
    elif index is not None:
        raise ValueError(f"{path!r}: the module gives one output, not a list. Leave out the [{index}].")
    if not isinstance(output, torch.Tensor) or output.ndim < 4:
        found = type(output).__name__
        if isinstance(output, torch.Tensor):
            found = f"a tensor of shape {tuple(output.shape)}"
        raise ValueError(
            f"module {path!r} gives {found}, not a feature map (B, C, *spatial). Tap another module."
        )
    return output


def _version(value: torch.Tensor) -> int:
    """How often the values in a tensor's memory were written; inference tensors do not count it."""
    return 0 if value.is_inference() else value._version


def _keep(
    maps: dict[str, torch.Tensor],
    versions: dict[str, int],
    name: str,
    path: str,
    _module: nn.Module,
    _args: object,
    output: object,
) -> None:
    maps[name] = map_of(output, path)
    versions[name] = _version(maps[name])


def read_taps(
    network: nn.Module, image: torch.Tensor, taps: Mapping[str, Tap]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Run a network once and return its output with the maps at its taps.

    Args:
        network: any module, called as ``network(image)``.
        image: ``(B, C, *spatial)``.
        taps: tap name -> `Tap`.

    Returns:
        ``(output, {tap name: (B, channels, *grid)})``; gradients flow through the maps.

    Raises:
        ValueError: a tap names no module, or a module that gives no feature map, or one whose map a later module overwrites.
        RuntimeError: a tapped module did not run in the forward pass.
    """
    maps: dict[str, torch.Tensor] = {}
    versions: dict[str, int] = {}
    handles = []
    try:
        for name, tap in taps.items():
            if tap.source is None:
                hook = partial(_keep, maps, versions, name, tap.module)
                handles.append(tapped_module(network, tap).register_forward_hook(hook))
        output = network(image)
    finally:
        for handle in handles:
            handle.remove()
    missing = sorted(name for name, tap in taps.items() if tap.source is None and name not in maps)
    if missing:
        raise RuntimeError(
            f"the modules of the taps {', '.join(missing)} did not run in the forward pass of "
            f"{type(network).__name__}."
        )
    for name, version in versions.items():
        if _version(maps[name]) != version:
            raise ValueError(
                f"the map of tap {name!r} (module {taps[name].module!r}) was overwritten after it was read: a module behind it "
                "works in place. Tap that following module, or build the network with inplace=False."
            )
    return output, complete_maps(network, taps, maps)


def complete_maps(
    network: nn.Module, taps: Mapping[str, Tap], maps: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the maps of a forward pass with those of the taps that are computed from another one's."""
    for name in taps:
        _apply_source(network, name, taps, maps)
    return maps


def _apply_source(
    network: nn.Module, name: str, taps: Mapping[str, Tap], maps: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Return a tap's map; a tap with a source is computed from it first, whatever the order of the taps."""
    if name not in maps:
        tap = taps[name]
        if tap.source is None or tap.source not in taps:
            raise ValueError(unknown_name(f"source of tap {name!r}", tap.source, taps))
        maps[name] = get_module(network, tap.module)(_apply_source(network, tap.source, taps, maps))
    return maps[name]


def first_convolution(network: nn.Module) -> tuple[int, int]:
    """Return spatial dimensions and input channels of a network, as its first convolution has them.

    Raises:
        ValueError: the network has no convolution.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            return len(module.kernel_size), module.in_channels
    raise ValueError(
        f"{type(network).__name__} has no convolution that shows what image it takes. Give spatial_dims and in_channels."
    )


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the network in eval mode, without gradients; afterwards each module has its own mode back."""
    # each module has a mode of its own: a frozen encoder in eval mode must not wake up
    training = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            yield network
    finally:
        for module, mode in training:
            module.training = mode


def probe_taps(network: nn.Module, modules: Mapping[str, str], image: torch.Tensor) -> dict[str, Tap]:
    """Find channels and strides of modules by one forward pass in eval mode.

    Args:
        network: any module.
        modules: tap name -> dotted module path.
        image: an input that the network takes, ``(B, C, *spatial)``; one batch entry is enough.
    """
    drafts = {name: Tap(module=path, channels=0, stride=0) for name, path in modules.items()}
    with evaluating(network):
        _, maps = read_taps(network, image, drafts)
    return {
        name: Tap(module=modules[name], channels=found.shape[1], stride=image.shape[-1] / found.shape[-1])
        for name, found in maps.items()
    }


def declared_taps(
    network: nn.Module, taps: Mapping[str, str | Tap], channels: int, size: Sequence[int]
) -> dict[str, Tap]:
    """Return a tap for every name, running the network once where only a path is given.

    Args:
        network: any module.
        taps: tap name -> dotted module path, or a `Tap` that declares channels and stride.
        channels: of the image of that run, which is all 0.
        size: sides of that image.
    """
    paths = {name: tap for name, tap in taps.items() if isinstance(tap, str)}
    weight = next(network.parameters(), torch.zeros(1))
    image = torch.zeros(1, channels, *size, device=weight.device, dtype=weight.dtype)
    probed = probe_taps(network, paths, image) if paths else {}
    return {name: tap if isinstance(tap, Tap) else probed[name] for name, tap in taps.items()}
