"""Pieces of a page. They are Jinja2's macros of ``templates/parts.html``, which escape all that is no such piece itself."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ... import __version__
from ...metrics import Estimate, Score

FOLDER = Path(__file__).parent
MINUS, NONE = "\u2212", "\u2013"
EMPTY = Markup("")
# columns of a table beyond which a phone shows its rows as cards
NARROW = 3


@dataclass(frozen=True)
class Part:
    """A section of a page, with what the contents need of it.

    Args:
        id: its anchor.
        title: its heading.
        markup: all of it.
    """

    id: str
    title: str
    markup: Markup


@dataclass(frozen=True)
class Shape:
    """An element of a drawing.

    Args:
        tag: ``path``, ``text`` or ``rect``.
        attributes: name -> value; those that are None are left out.
        words: its text.
        title: what is shown where a pointer rests.
    """

    tag: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    words: str = ""
    title: str = ""


@cache
def _macros() -> Any:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("parts.html").module


def piece(name: str, *values: Any, **named: Any) -> Markup:
    """Return a piece of a page: a macro of ``templates/parts.html`` with its values, escaped unless they are pieces."""
    return Markup(getattr(_macros(), name)(*values, **named))


def join(*parts: object, between: str = "") -> Markup:
    """Return pieces and texts one after the other; texts are escaped."""
    return Markup(between).join(Markup.escape(part) for part in parts)


def document(name: str, title: str, lead: Markup, *parts: Markup | Part | None) -> str:
    """Return a whole page that needs no other file.

    Args:
        name: of the window.
        title: of the page.
        lead: what stands below the title.
        parts: sections, which the contents list, and other pieces; None is left out.
    """
    there = [part for part in parts if part]
    style, script = (Markup((FOLDER / file).read_text(encoding="utf-8")) for file in ("style.css", "page.js"))
    contents = [(part.id, part.title) for part in there if isinstance(part, Part)]
    body = join(*(part.markup if isinstance(part, Part) else part for part in there))
    day = date.today().isoformat()
    return str(piece("document", name, title, lead, contents, body, style, script, __version__, day))


def section(title: str, *parts: Markup, note: str = "") -> Part | None:
    """Return a section of the page; None when it has no content."""
    body = join(*parts)
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return Part(name, title, piece("section", name, title, note, body)) if body else None


def table(head: Sequence[object], rows: Sequence[Sequence[object]], numeric: bool = True) -> Markup:
    """Return a table; where the page is narrow, the rows of one with many columns stand as cards, and no column is lost.

    Args:
        head: cells of the head; the first may be empty.
        rows: cells; the first of each row is its head.
        numeric: align all but the first column to the right.
    """
    stacked = len(head) > (NARROW if numeric else NARROW - 1)
    return piece("table", list(head), list(rows), numeric, stacked) if rows else EMPTY


def details(title: str, body: Markup) -> Markup:
    """Return a part that is folded away on the screen."""
    return piece("details", title, body)


def grid(*parts: Markup, kind: str = "grid") -> Markup:
    """Return parts side by side, as many as there is room for; empty when there is none."""
    content = join(*parts)
    return piece("grid", kind, content) if content else EMPTY


def below(words: object, ends: object) -> Markup:
    """Return words with smaller ones below them, for a cell."""
    return join(words, piece("ends", ends)) if ends else join(words)


# a figure that is no score
FIGURE = Score("", "", "", digits=None)


def number(value: float | None, sign: str = "", score: Score = FIGURE) -> str:
    """Return a figure as text, a score with its own digits; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NONE
    return score.show(value, sign).replace("-", MINUS)


def short(value: float) -> str:
    """Return a figure with about three digits, for axes and lists."""
    return f"{value:.3g}".replace("-", MINUS)


def interval(estimate: Estimate, score: Score, sign: str = "") -> str:
    """Return the two ends of a score's interval; empty where there is none."""
    if not math.isfinite(estimate.low):
        return ""
    return f"{number(estimate.low, sign, score)} to {number(estimate.high, sign, score)}"


def with_interval(estimate: Estimate, score: Score, sign: str = "") -> Markup:
    """Return a score's mean above its interval, for a cell."""
    return below(piece("strong", number(estimate.mean, sign, score)), interval(estimate, score, sign))
