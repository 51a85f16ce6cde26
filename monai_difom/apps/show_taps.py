"""What a network's modules give, so that a person can choose where to read it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..networks.student import as_student
from ..networks.taps import Tap, evaluating, first_convolution

Row = tuple[str, str, torch.Size]  # path, class, shape


def run_taps(
    config: Sequence[str | Path],
    depth: int = 2,
    image_size: Sequence[int] | None = None,
    channels: int | None = None,
    network: str = "network_def",
) -> int:
    """Print the modules of a network that give feature maps, and return the exit code: 0, or 2 for a bad configuration.

    Args:
        config: YAML or JSON files, merged in their order, with a network in them.
        depth: levels of modules to show; 0 for all.
        image_size: side, or one per axis, of the image; None takes 64.
        channels: channels of the image; None takes those of the network's first convolution.
        network: id of the network in the files.
    """
    try:
        module = build_from_files([Path(file) for file in config], network, image_size)
        image = make_image(module, image_size, channels)
        rows, output = module_outputs(module, image, depth)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(format_table(rows, image, as_student(module).taps))
    side = "x".join(map(str, image.shape[2:]))
    print(
        f"\n{type(module).__name__}, {sum(p.numel() for p in module.parameters()):,} parameters; image {side}: {output}"
    )
    return 0


def build_from_files(files: Sequence[Path], key: str, image_size: Sequence[int] | None = None) -> nn.Module:
    """Build the network of configuration files.

    Args:
        files: merged in their order.
        key: id of the network, with ``::`` or ``#`` between levels.
        image_size: takes the place of ``@image_size`` where the files do not say it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the files hold no such id, or it is no network.
    """
    from monai.bundle import ConfigParser

    for file in files:
        if not file.is_file():
            raise FileNotFoundError(
                f"no configuration at {file}. Give a YAML file with {key}, as in configs/students."
            )
    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    if "image_size" not in parser.config:
        parser["image_size"] = (
            list(image_size) if image_size and len(image_size) > 1 else (image_size or [64])[0]
        )
    if key not in parser:
        raise ValueError(
            f"the configuration has no {key!r}; it has {', '.join(sorted(parser.config))}. Give --network."
        )
    try:
        found = parser.get_parsed_content(key)
    except RuntimeError as error:  # MONAI's own says which component failed, its causes say why
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        inner = f"{key}::network"
        hint = f" To see the modules that it has: --network {inner}" if inner in parser else ""
        raise ValueError(f"{key} cannot be built: {cause}{hint}") from error
    if not isinstance(found, nn.Module):
        raise ValueError(f"{key!r} is a {type(found).__name__}, not a torch module.")
    return found


def make_image(network: nn.Module, size: Sequence[int] | None, channels: int | None) -> torch.Tensor:
    """Return an empty image that the network takes, ``(1, C, *spatial)``."""
    if channels is not None and size is not None and len(size) > 1:
        return torch.zeros(1, channels, *size)
    dims, own = first_convolution(network)
    sides = list(size or [64])
    if len(sides) not in (1, dims):
        raise ValueError(
            f"image_size has {len(sides)} numbers; the network takes {dims} axes: give 1 or {dims}."
        )
    return torch.zeros(1, channels or own, *(sides * dims if len(sides) == 1 else sides))


def module_outputs(network: nn.Module, image: torch.Tensor, depth: int) -> tuple[list[Row], str]:
    """Run the network once and return its modules' maps in the order they are built, and what the network gives.

    A module of several maps has one row each, as ``path[i]``.
    """
    found: dict[str, Any] = {}
    handles = [
        module.register_forward_hook(partial(_keep, found, path))
        for path, module in network.named_modules()
        if path and (depth < 1 or path.count(".") < depth)
    ]
    try:
        with evaluating(network):
            output = network(image)
    finally:
        for handle in handles:
            handle.remove()
    rows: list[Row] = []
    for path, module in network.named_modules():
        value = found.get(path)
        items = value if isinstance(value, list) else [value]
        for i, item in enumerate(items):
            if isinstance(item, torch.Size) and len(item) == image.ndim:
                rows.append((path if item is value else f"{path}[{i}]", type(module).__name__, item))
    return rows, _describe(output)


def _keep(found: dict[str, Any], path: str, _module: nn.Module, _args: object, output: object) -> None:
    """Hook: keep the shapes, not the maps."""
    if isinstance(output, torch.Tensor):
        found[path] = output.shape
    elif isinstance(output, (list, tuple)):
        found[path] = [item.shape if isinstance(item, torch.Tensor) else None for item in output]


def _describe(output: object) -> str:
    """Say in a few words what a network gives."""
    if isinstance(output, torch.Tensor):
        return f"one output {'x'.join(map(str, output.shape))}"
    if isinstance(output, (list, tuple)):
        return f"a {type(output).__name__} of {len(output)} outputs: put the network into MainOutput"
    return f"a {type(output).__name__}: a student gives one tensor"


def format_table(rows: Sequence[Row], image: torch.Tensor, taps: Mapping[str, Tap]) -> str:
    """Return the rows as text: tap names, module, class, channels, stride and shape."""
    names: dict[str, list[str]] = {}
    for name, tap in taps.items():
        names.setdefault(tap.module, []).append(name)
    cells = [("module", "class", "channels", "stride", "shape", "tap")]
    for path, kind, shape in rows:
        stride = image.shape[-1] / shape[-1]
        size = "x".join(map(str, shape[2:]))
        cells.append((path, kind, str(shape[1]), f"{stride:g}", size, ", ".join(names.get(path, []))))
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return "\n".join(lines)
