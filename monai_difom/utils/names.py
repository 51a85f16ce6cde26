"""Names in messages: misspelt ones, and long lists of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def unknown_name(kind: str, name: object, options: Iterable[str]) -> str:
    """Return a sentence that says what was found, what is nearest and what is allowed.

    Args:
        kind: what the name stands for, for example ``"phase term"``.
        name: the name that was given.
        options: the allowed names.
    """
    allowed = sorted(str(option) for option in options)
    by_lower = {option.lower(): option for option in reversed(allowed)}
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    hint = f" Did you mean {by_lower[near[0]]!r}?" if near else ""
    return f"unknown {kind} {name!r}.{hint} Allowed: {', '.join(allowed) or 'none'}."


def look_up(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return ``table[name]``.

    Args:
        kind: what the name stands for, for the message.
        name: the name that was given.
        table: allowed name -> what it stands for.

    Raises:
        ValueError: no such name; names the nearest.
    """
    if name not in table:
        raise ValueError(unknown_name(kind, name, table))
    return table[name]


def few(names: Sequence[str], shown: int = 10, between: str = ", ") -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return between.join(names[:shown]) + more


def listed(problems: Sequence[str], shown: int = 20) -> str:
    """Return the first problems, one to a line, and how many more there are; begins with a line end."""
    more = f"\n  ... and {len(problems) - shown} more" if len(problems) > shown else ""
    return "".join(f"\n  - {problem}" for problem in problems[:shown]) + more
