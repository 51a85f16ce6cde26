"""Values that a person gives, checked: what was found, what is allowed, and an example to write instead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def whole(value: Any, name: str, least: int = 0, most: int | None = None, example: int | None = None) -> int:
    """Return a whole number.

    Args:
        value: what was given; a text is no number.
        name: of the option, for the message.
        least: lowest that is allowed.
        most: highest that is allowed; None for no limit.
        example: to write instead; None takes the lowest.

    Raises:
        ValueError: it is no whole number, or out of the range.
    """
    found = _number(value)
    if found is None or found != int(found) or found < least or (most is not None and found > most):
        span = f"from {least} up" if most is None else f"from {least} to {most}"
        raise ValueError(
            refusal(name, value, f"a whole number {span}", least if example is None else example)
        )
    return int(found)


def number(
    value: Any,
    name: str,
    low: float = -math.inf,
    high: float = math.inf,
    open_ends: str = "",
    example: float = 1,
) -> float:
    """Return a number that is finite.

    Args:
        value: what was given; a text is no number.
        name: of the option, for the message.
        low: lowest that is allowed.
        high: highest that is allowed.
        open_ends: ends that are not allowed themselves: ``"low"``, ``"high"`` or ``"low high"``.
        example: to write instead.

    Raises:
        ValueError: it is no number, infinite, or out of the range.
    """
    found = _number(value)
    bad = found is None or not low <= found <= high
    if bad or (found == low and "low" in open_ends) or (found == high and "high" in open_ends):
        begin = f"above {low:g}" if "low" in open_ends else f"from {low:g}"
        end = f"below {high:g}" if "high" in open_ends else f"to {high:g}"
        span = " and ".join(part for part, there in ((begin, low), (end, high)) if math.isfinite(there))
        span = span.replace(" and to", " to")
        raise ValueError(refusal(name, value, f"a number {span}".rstrip(), example))
    assert found is not None
    return found


def flag(value: Any, name: str) -> bool:
    """Return a truth value.

    Raises:
        ValueError: it is neither True nor False.
    """
    if not isinstance(value, bool):
        raise ValueError(refusal(name, value, "True or False", True))
    return value


def sides(value: Any, name: str, axes: Sequence[int] = (2, 3), example: int = 352) -> Any:
    """Return the size of an image: one side, or one per axis, as it was given.

    Args:
        value: a number or a list of them.
        name: of the option, for the message.
        axes: how many numbers a list may have.
        example: to write instead.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, list | tuple):
        if len(value) not in axes or not all(_is_side(side) for side in value):
            lengths = " or ".join(map(str, axes))
            raise ValueError(
                refusal(name, value, f"one side, or a list of {lengths} whole numbers from 1 up", example)
            )
    elif not _is_side(value):
        raise ValueError(
            refusal(name, value, "a side, a whole number from 1 up, or a list of one per axis", example)
        )
    return value


def refusal(name: str, value: Any, allowed: str, example: Any) -> str:
    """Return the sentence for a value that is not allowed."""
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return f"{name} is {shown}; allowed is {allowed}. Give, for example, --{name} {example}."


def _is_side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _number(value: Any) -> float | None:
    """The number that a value is; None for none, and for those that are not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None
