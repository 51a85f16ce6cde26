"""Arguments of a command: numbers of a range, paths that must be there, options that may be given several times.

Nothing heavy is imported here: `--help` reads this file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

TYPE_CHECKING = False  # true for type checkers; without the module typing, see the package
if TYPE_CHECKING:
    from typing import Any


class Number:
    """Type of an argument that is a number of a range; what is not is refused with the range and an example.

    Args:
        example: of a right value; whole numbers are asked for by a whole one.
        low: lowest that is allowed.
        high: highest that is allowed; None for no limit.
        above: ``low`` itself is not allowed.
    """

    def __init__(
        self, example: float, low: float = 0, high: float | None = None, above: bool = False
    ) -> None:
        self.example, self.low, self.high, self.above = example, low, high, above

    def __call__(self, text: str) -> float:
        """Return the number."""
        try:
            found = int(text) if isinstance(self.example, int) else float(text)
            # of nan every comparison is false
            good = (found > self.low if self.above else found >= self.low) and found < float("inf")
        except (ValueError, OverflowError):
            found, good = 0, False
        if not good or (self.high is not None and found > self.high):
            kind = "whole number" if isinstance(self.example, int) else "number"
            begin = "" if self.low == -float("inf") else f" {'above' if self.above else 'from'} {self.low}"
            end = "" if self.high is None else f" to {self.high}"
            raise argparse.ArgumentTypeError(
                f"{text!r} was given; allowed is a {kind}{begin}{end}. Give, for example, {self.example}."
            )
        return found


class Existing:
    """Type of an argument whose path must be there: `main` looks before anything heavy is imported.

    Args:
        problem: what is said where it is not, with ``{}`` for the path.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem

    def __call__(self, text: str) -> Path:
        """Return the path; argparse would say less of it than `main`."""
        return Path(text)


class _Store(argparse._StoreAction):
    """An option of several values that is given twice has all of them; argparse itself would drop the first without a word."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: Any = None) -> None:
        """Store the values, behind those of the same option before."""
        before = getattr(namespace, self.dest, None)
        if self.nargs in ("+", "*") and option and before is not self.default:
            values = [*(before or []), *values]
        super().__call__(parser, namespace, values, option)


class Parser(argparse.ArgumentParser):
    """A parser whose options of several values may be given several times."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.register("action", None, _Store)
        self.register("action", "store", _Store)
