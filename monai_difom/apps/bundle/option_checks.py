"""Values of a bundle's options are checked before anything is built: what was found, what is allowed, what to write instead."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pydoc import locate
from typing import Any

from monai.bundle import ConfigParser

from ...utils.values import flag, number, refusal, sides, whole
from ...utils.weight_files import KEPT

Check = Callable[[Any, str], Any]


def _or_none(check: Check) -> Check:
    return lambda value, name: None if value is None else check(value, name)


def _listed(check: Check, what: str, example: str) -> Check:
    def each(value: Any, name: str) -> Any:
        try:
            if isinstance(value, list | tuple):
                return [check(item, name) for item in value]
        except ValueError:
            pass
        raise ValueError(refusal(name, value, f"a list of {what}", example))

    return each


def _device(value: Any, name: str) -> Any:
    import torch

    try:
        device = torch.device(value)
    except (RuntimeError, TypeError) as error:
        raise ValueError(refusal(name, value, "a device of PyTorch, such as cpu or cuda:0", "cpu")) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        there = ", ".join(f"cuda:{i}" for i in range(torch.cuda.device_count())) or "no GPU"
        raise ValueError(refusal(name, str(value), f"what this machine has: cpu and {there}", "cpu"))
    return device


def _text(value: Any, name: str) -> Any:
    if not isinstance(value, str) or not value:
        raise ValueError(refusal(name, value, "a text", "polyp"))
    return value


def _among(*allowed: str) -> Check:
    def one(value: Any, name: str) -> Any:
        if value not in allowed:
            raise ValueError(refusal(name, value, " or ".join(allowed), allowed[0]))
        return value

    return one


_share = partial(number, low=0, high=1, example=0.5)
_rate = partial(number, low=0, open_ends="low", example=0.001)
_count = partial(whole, least=1)
#: options of the bundles -> what they may be; an option that a bundle has not is passed over
CHECKS: dict[str, Check] = {
    "image_size": sides,
    "teacher_size": sides,
    "batch_size": partial(whole, least=1, example=8),
    "epochs": _listed(whole, "whole numbers from 0 up, one for each phase", "[8,20,12]"),
    "structure": _or_none(_text),
    "limit": _or_none(partial(whole, least=1, example=100)),
    "unlabelled_share": _or_none(_share),
    "trust": _share,
    "min_confidence": partial(_share, example=0.8),
    "val_fraction": partial(_share, open_ends="high", example=0.1),
    "epoch_steps": _or_none(partial(whole, least=1, example=100)),
    "val_interval": _count,
    "save_interval": _count,
    "keep": _among(*KEPT),
    "seed": partial(whole, least=0, most=2**32 - 1),
    "num_workers": partial(whole, least=0, most=1024),
    "cache_rate": partial(_share, example=1.0),
    "device": _device,
    "amp": flag,
    "overwrite": flag,
    "check_data": flag,
    "progress": flag,
    "report": flag,
    "strict": flag,
    "feature_raw": flag,
    "mask_threshold": _or_none(partial(number, example=128)),
    "classes": _or_none(partial(whole, least=2)),
    "learning_rate": _rate,
    "distil_rate": _rate,
    "adapt_rate": _rate,
    "pretrain_rate": _rate,
    "ema": _or_none(partial(_share, open_ends="low high", example=0.999)),
    "rotate": partial(number, low=0, high=180, example=180),
    "scale": _listed(partial(number, low=0, open_ends="low"), "two numbers above 0", "[0.7,1.4]"),
    "shift": _share,
    "shear": partial(number, low=0, example=0.1),
    "elastic": partial(number, low=0, example=0.1),
    "feature_views": lambda value, name: (
        _listed(partial(whole, most=7), "whole numbers from 0 to 7", "[0,1,2,3]")(value, name)
        if isinstance(value, list | tuple)
        else whole(value, name, 1, 8)
    ),
    "adapt_seeds": _count,
    "adapt_folds": _count,
    "adapt_steps": _or_none(_count),
    "label_views": partial(whole, least=1, most=8),
    "transfer_count": _count,
    "synthesis_steps": _count,
    "pretrain_steps": _count,
    "pretrain_batch": _count,
}


def check_values(parser: ConfigParser, options: Iterable[str] = ()) -> None:
    """Check the options of a configuration, and the arguments inside of it that a command sets.

    Args:
        parser: the configuration, with the command's overrides.
        options: names of the overrides, nested ones with ``#`` or ``::`` between levels.

    Raises:
        ValueError: the first value that is not allowed; says what was found, what is allowed, and what to write.
    """
    for name, check in CHECKS.items():
        if name in parser.config and _is_plain(parser.config[name]):
            check(parser.config[name], name)
    for name in options:
        _check_nested(parser, name.replace("#", "::"))


def _is_plain(value: Any) -> bool:
    """True where a value stands in the configuration itself; what is computed is not computed for this."""
    return not (isinstance(value, str) and value[:1] in ("$", "@", "%"))


def _check_nested(parser: ConfigParser, name: str) -> None:
    """Check an argument of a class against what the class says of it."""
    parent, _, key = name.rpartition("::")
    holder = parser[parent] if parent and parent in parser else None
    if not isinstance(holder, Mapping) or not isinstance(holder.get("_target_"), str) or key not in holder:
        return
    value = holder[key]
    if not _is_plain(value):
        return
    kind = _kind_of(holder["_target_"], key)
    if kind is not None and not fits(value, kind):
        shown = name.replace("::", "#")
        raise ValueError(refusal(shown, value, _name(kind), _example(kind)))


def _kind_of(target: str, key: str) -> Any:
    """The type that a class or function gives an argument; None where it gives none that is understood."""
    try:
        function = locate(target) if "." in target else None
        taken = inspect.signature(function).parameters if callable(function) else {}  # type: ignore[arg-type]
        made: Any = function.__init__ if inspect.isclass(function) else function
        return typing.get_type_hints(made).get(key) if key in taken else None
    except Exception:  # of classes that say nothing of themselves
        return None


def fits(value: Any, kind: Any) -> bool:
    """Return whether plain data may be of a type; True for types that say too little."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in arguments)
    if origin is typing.Literal:
        return value in arguments
    if kind in (None, type(None)):
        return value is None
    if kind in (int, float):
        whole_number = isinstance(value, int) and not isinstance(value, bool)
        return whole_number or (kind is float and isinstance(value, float) and math.isfinite(value))
    if kind in (bool, str):
        return isinstance(value, kind)
    if origin in (list, tuple, Sequence) or kind in (list, tuple, Sequence):
        item = [part for part in arguments if part is not Ellipsis]
        return isinstance(value, list | tuple) and (
            len(item) != 1 or all(fits(part, item[0]) for part in value)
        )
    if origin in (dict, Mapping) or kind in (dict, Mapping):
        return isinstance(value, Mapping)
    # no plain value is a tensor or a module; of what is no class, or a protocol, nothing is known
    known = inspect.isclass(kind) and origin is None and kind is not Any
    return isinstance(value, kind) if known and not getattr(kind, "_is_protocol", False) else True


def _name(kind: Any) -> str:
    words = {
        int: "a whole number",
        float: "a number",
        bool: "True or False",
        str: "a text",
        type(None): "null",
    }
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in words:
        return words[kind]
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_name(part) for part in arguments))
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (list, tuple, Sequence):
        return f"a list of which each is {_name(arguments[0])}" if arguments else "a list"
    return str(getattr(kind, "__name__", kind))


def _example(kind: Any) -> Any:
    examples: dict[Any, Any] = {int: 1, float: 0.1, bool: True, str: "name"}
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in examples:
        return examples[kind]
    if origin in (typing.Union, types.UnionType, typing.Literal) and arguments:
        return arguments[0] if origin is typing.Literal else _example(arguments[0])
    return "[1,2]" if origin in (list, tuple, Sequence) else "null"
