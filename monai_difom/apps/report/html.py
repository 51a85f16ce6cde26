"""Pieces of a page: text, tables, numbers. Everything that comes from outside is escaped here."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from ... import __version__
from ...metrics import Estimate, Score

STYLE = Path(__file__).with_name("style.css")
MINUS, NONE = "\u2212", "\u2013"


def text(value: object) -> str:
    """Return any value as text that cannot become markup."""
    return html.escape(str(value), quote=True)


def document(name: str, title: str, lead: str, *parts: str) -> str:
    """Return a whole page that needs no other file.

    Args:
        name: of the window.
        title: of the page.
        lead: what stands below the title, markup.
        parts: sections and other markup.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{text(name)}</title><style>{STYLE.read_text(encoding='utf-8')}</style></head><body><main>"
        f"<header><h1>{text(title)}</h1>{lead}</header>{''.join(parts)}"
        f"<footer>monai_difom {__version__}, {date.today().isoformat()}. Research software: not a medical device.</footer>"
        "</main></body></html>\n"
    )


def section(title: str, *parts: str, note: str = "") -> str:
    """Return a section of the page; empty when it has no content."""
    body = "".join(parts)
    if not body:
        return ""
    lead = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{text(title)}</h2>{lead}{body}</section>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numeric: bool = True) -> str:
    """Return a table in a box that scrolls by itself where the page is narrow.

    Args:
        head: cells of the head, markup; the first may be empty.
        rows: cells, markup; the first of each row is its head.
        numeric: align all but the first column to the right.
    """
    if not rows:
        return ""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    kind = " class=numeric" if numeric else ""
    return f'<div class="scroll" tabindex="0"><table{kind}><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def details(title: str, body: str) -> str:
    """Return a part that is folded away on the screen."""
    return f"<details><summary>{text(title)}</summary>{body}</details>"


def grid(*parts: str, kind: str = "grid") -> str:
    """Return parts side by side, as many as there is room for; empty when there is none."""
    content = "".join(parts)
    return f'<div class="{kind}">{content}</div>' if content else ""


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


def with_interval(estimate: Estimate, score: Score, sign: str = "") -> str:
    """Return a score's mean above its interval, for a cell."""
    ends = interval(estimate, score, sign)
    return f"<b>{number(estimate.mean, sign, score)}</b>" + (
        f'<span class="ends">{ends}</span>' if ends else ""
    )
