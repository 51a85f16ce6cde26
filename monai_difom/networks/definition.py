"""A network from a definition of unknown origin: plain data, classes of known packages, nothing run, read or fetched.

What is checked is what is built: `check_definition` returns classes and plain arguments, `build_network` calls just those.
MONAI's own parser, which evaluates expressions and finds any Python name, never sees the definition.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from math import prod
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..utils.sealed import sealed

PACKAGES = (
    "monai.networks",
    "monai_difom.networks.blocks",
    "monai_difom.networks.nets",
    "segmentation_models_pytorch",
    "timm",
    "torch.nn",
)
# where MONAI finds a name without dots, and the only place where one is looked for here
_BARE = "monai.networks.nets"
_NAME = re.compile(r"(?!\d)[A-Za-z0-9]\w*(\.[A-Za-z0-9]\w*)*")
_WRAPPER = re.compile(r"monai_difom\.networks\.nets\.(any_network\.)?tapped")
# what asks a library for weights of its own: those of the bundle fill the whole network
FIRST_WEIGHTS = (
    "pretrained",
    "encoder_weights",
    "weights",
    "pretrained_url",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "checkpoint",
    "checkpoint_path",
    "cache_dir",
)
_LONGEST = 200
_SLACK = 1_000_000_000
_trusted: ContextVar[tuple[str, ...]] = ContextVar("trusted", default=())


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


@dataclass(frozen=True)
class Call:
    """A class that was checked and what it is called with: plain data and further calls."""

    target: type[nn.Module]
    arguments: Mapping[str, Any]


def deployed_definition(value: Any, first_weights: bool = False) -> Any:
    """Return a definition as it is deployed: without taps, and without first weights, which those of the bundle replace.

    Args:
        value: a definition, references filled in.
        first_weights: keep those.
    """
    if isinstance(value, Mapping):
        while isinstance(value.get("_target_"), str) and _WRAPPER.fullmatch(value["_target_"]):
            value = value.get("network")
            if not isinstance(value, Mapping):
                return value
        kept = {
            key: deployed_definition(child, first_weights)
            for key, child in value.items()
            if first_weights or key not in FIRST_WEIGHTS
        }
        return kept if first_weights else {**kept, **_without_first_weights(value)}
    if isinstance(value, list | tuple):
        return [deployed_definition(child, first_weights) for child in value]
    return value


def check_definition(value: Any, place: str, first_weights: bool = False) -> Any:
    """Return a definition as plain data and checked classes, or refuse it.

    Args:
        value: of `deployed_definition`.
        place: where it is, for the message.
        first_weights: let `FIRST_WEIGHTS` name files and models of a hub.

    Raises:
        ValueError: an expression, a reference or a macro anywhere; a target that is no text, or names anything but a network
            class that one of `PACKAGES` (or a module of `trusting`) defines; a text that could be a path, an address or a
            name of a hub; an argument that the class does not take.
    """
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or (key.startswith("_") and key not in ("_target_", "_desc_")):
                raise ValueError(
                    f"{place} has the key {key!r}; a definition holds _target_ and plain names only."
                )
        children = {
            key: child
            if first_weights and key in FIRST_WEIGHTS and isinstance(child, str) and child[:1] not in "$@%"
            else check_definition(child, f"{place}::{key}", first_weights)
            for key, child in value.items()
            if not key.startswith("_")
        }
        if "_target_" not in value:
            return children
        return Call(_network_class(value["_target_"], place), children)
    if isinstance(value, list | tuple):
        return [
            check_definition(child, f"{place}::{number}", first_weights) for number, child in enumerate(value)
        ]
    if isinstance(value, str):
        _check_text(value, place)
    elif value is not None and not isinstance(value, bool | int | float):
        raise ValueError(
            f"{place} is a {type(value).__name__}; allowed are numbers, texts, lists and mappings."
        )
    return value


def build_network(
    definition: Any, place: str = "network_def", limit: int | None = None, first_weights: bool = False
) -> nn.Module:
    """Build a network in eval mode, with random weights.

    Args:
        definition: plain data; taps and first weights in it are left out, see `deployed_definition`.
        place: where it is, for messages.
        limit: bytes that its weights may take; None sets none.
        first_weights: get those that the definition names, from files or a hub: for definitions of one's own, whose adapters
            were trained on them.

    Raises:
        ValueError: it is refused, see `check_definition`; or it cannot be built, or would be larger than the limit.
    """
    checked = check_definition(deployed_definition(definition, first_weights), place, first_weights)
    if not isinstance(checked, Call):
        raise ValueError(f"{place} has no _target_; it is a {type(definition).__name__}.")
    bounded = nullcontext() if limit is None else _Bounded(4 * limit + _SLACK)
    # a class that the person trusts may read what it likes
    is_open = first_weights or _trusted.get()
    with bounded, nullcontext() if is_open else sealed():
        network = _make(checked, place)
    return network.eval()


def _make(value: Any, place: str) -> Any:
    if isinstance(value, Call):
        arguments = {key: _make(child, f"{place}::{key}") for key, child in value.arguments.items()}
        try:
            return value.target(**arguments)
        except Exception as error:  # any class has errors of its own
            raise ValueError(
                f"{place} cannot be built: {value.target.__name__}: {type(error).__name__}: {error}"
            ) from error
    if isinstance(value, dict):
        return {key: _make(child, f"{place}::{key}") for key, child in value.items()}
    if isinstance(value, list):
        return [_make(child, f"{place}::{number}") for number, child in enumerate(value)]
    return value


def _network_class(target: Any, place: str) -> type[nn.Module]:
    """Return the class that a target names, if one of the packages defines it."""
    if not isinstance(target, str) or len(target) > _LONGEST or not _NAME.fullmatch(target):
        raise ValueError(
            f"{place}: _target_ is {str(target)[:80]!r}; allowed is the dotted name of a network's class."
        )
    dotted = target if "." in target else f"{_BARE}.{target}"
    module, _, name = dotted.rpartition(".")
    found = None
    if _is_within(module):
        try:
            holder: ModuleType | None = import_module(module)
        except ImportError:
            holder = None
        # a name that a module only imported leads out of it, and is found where it is defined or not at all
        found = getattr(holder, name, None) if holder is not None and holder.__name__ == module else None
    if (
        not isinstance(found, type)
        or not issubclass(found, nn.Module)
        or not _is_within(found.__module__)
        or "._" in found.__module__
    ):
        advice = f"--trust {module}" if "." in target else "its full name"
        raise ValueError(
            f"{place} calls {target}; a network is built from {', '.join(PACKAGES)} only, and of those from the classes of "
            f"networks that they define. If that class is yours, export it with {advice}, and use the model.ts or "
            "model.onnx that this leaves."
        )
    return found


def _is_within(module: str) -> bool:
    return f"{module}.".startswith(tuple(f"{package}." for package in (*PACKAGES, *_trusted.get())))


def _check_text(value: str, place: str) -> None:
    shown = repr(value[:80])
    if any(sign in value for sign in "$@%"):
        raise ValueError(
            f"{place} is {shown}, an expression, reference or macro; a network's definition runs no code. Write the value."
        )
    if any(sign in value for sign in ("/", "\\", ":", "~", "..", "\0", "\n")) or len(value) > _LONGEST:
        raise ValueError(
            f"{place} is {shown}, which could be a file, an address or a model of a hub; a bundle's network is built without "
            "reading any. Leave it out: the weights are those of the bundle."
        )


def _without_first_weights(value: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that keep a class from getting weights where it would if nothing were said, or was told to."""
    target = value.get("_target_")
    if not isinstance(target, str):
        return {}
    try:
        taken = inspect.signature(_network_class(target, "")).parameters
    except ValueError:  # refused later, with its place
        return {}
    off: dict[str, Any] = {}
    for name in FIRST_WEIGHTS:
        default = taken[name].default if name in taken else None
        if default is inspect.Parameter.empty or default is True:
            off[name] = False
        elif default:
            off[name] = None
    return off


class _Bounded(TorchDispatchMode):
    """Stop before tensors of more bytes than a limit are made, or of so many parts that it takes hours."""

    _PART = 1000

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.left = limit

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        sizes = args[0] if args and isinstance(args[0], list | tuple) else ()
        # made: asked for before it is there; copied: as large as what it is a copy of
        self._charge(4 * prod(sizes) if sizes and all(isinstance(n, int) for n in sizes) else 0)
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor) and "clone" in str(func):
            self._charge(found.nbytes)
        return found

    def _charge(self, size: int) -> None:
        self.left -= self._PART + size
        if self.left < 0:
            raise MemoryError("it is far larger than the file of its weights")
