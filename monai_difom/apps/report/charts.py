"""Charts as inline SVG: drawn by hand, so that they take the page's colours, fonts and dark mode and need no script.

Every series has a colour of Okabe and Ito, a dash pattern and a marker of its own: any one of the three tells it apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .html import EMPTY, Shape, piece, short

Scale = Callable[[float], float]  # from a value to its place
STYLES = 6
DASHES = ("", "7 3", "2 3", "9 3 2 3", "5 2", "1 2")
WIDTH, HEIGHT = 440, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 24, 34
NARROW = 6.2  # width of a letter


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Args:
        name: what it shows.
        x: places, ascending.
        y: values.
        style: number of its colour, dash and marker.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    style: int = 0


@dataclass(frozen=True)
class Dot:
    """One row of an interval chart; a heading when it has no mean.

    Args:
        label: its name.
        mean: where the dot stands.
        low: lower end of the whisker, NaN for none.
        high: upper end.
        style: number of its colour and marker.
    """

    label: str
    mean: float | None = None
    low: float = math.nan
    high: float = math.nan
    style: int = 0


def line_chart(
    title: str, series: Sequence[Series], phases: Sequence[tuple[str, float]] = (), zero: bool = False
) -> Markup:
    """Return a chart of values by epoch with its legend; empty without a value.

    Args:
        title: what the values are.
        series: the lines; a gap in the epochs is a gap in the line.
        phases: name and last epoch of every phase, in order.
        zero: whether the axis must begin at zero.
    """
    series = [line for line in series if line.x]
    if not series:
        return EMPTY
    xs = [x for line in series for x in line.x]
    ys = [y for line in series for y in line.y if math.isfinite(y)]
    ticks = _ticks(0.0 if zero else min(ys), max(ys))
    first = 1.0 if phases else min(xs)
    last = max([*xs, *(end for _, end in phases), first + 1])

    def px(x: float) -> float:
        return LEFT + (x - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def py(y: float) -> float:
        return TOP + (ticks[-1] - y) / (ticks[-1] - ticks[0]) * (HEIGHT - TOP - BOTTOM)

    shapes = _bands(phases, first, last, px)
    for tick in ticks:
        shapes.append(Shape("path", {"class": "rule", "d": f"M{LEFT} {py(tick):.1f}H{WIDTH - RIGHT}"}))
        shapes.append(_text("end", LEFT - 6, py(tick) + 4, short(tick)))
    shapes += [_text("mid", px(tick), HEIGHT - 18, str(tick)) for tick in _whole_ticks(first, last)]
    shapes.append(_text("mid", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 3, "epoch"))
    shapes += [shape for line in series for shape in _line(line, px, py)]
    label = f"{title}: " + ", ".join(line.name for line in series)
    return piece("figure", title, piece("svg", "chart", WIDTH, HEIGHT, label, shapes), legend(series))


def interval_chart(title: str, rows: Sequence[Dot], zero: bool = False) -> Markup:
    """Return dots with whiskers, one row each; empty without a value.

    Args:
        title: what the values are.
        rows: dots, and headings between them.
        zero: whether a rule marks zero, as for differences.
    """
    dots = [row for row in rows if row.mean is not None]
    if not dots:
        return EMPTY
    ends = [v for row in dots for v in (row.mean, row.low, row.high) if v is not None and math.isfinite(v)]
    ticks = _ticks(min([*ends, *([0.0] if zero else [])]), max([*ends, *([0.0] if zero else [])]))
    step, left = 22, min(170, 16 + NARROW * max(len(row.label) for row in dots))
    height = step * len(rows) + 30

    def px(x: float) -> float:
        return left + (x - ticks[0]) / (ticks[-1] - ticks[0]) * (WIDTH - left - 24)

    shapes = []
    for tick in ticks:
        kind = "zero" if zero and abs(tick) < 1e-12 else "rule"
        shapes.append(Shape("path", {"class": kind, "d": f"M{px(tick):.1f} 4V{height - 24}"}))
        shapes.append(_text("mid", px(tick), height - 8, short(tick)))
    for i, row in enumerate(rows):
        y = 4 + step * (i + 0.5)
        if row.mean is None:
            shapes.append(_text("head", 2, y + 4, row.label))
            continue
        shapes.append(_text(None, 8, y + 4, _fit(row.label, left - 14), row.label))
        if math.isfinite(row.low):
            whisker = f"M{px(row.low):.1f} {y:.1f}H{px(row.high):.1f}"
            shapes.append(Shape("path", {"class": f"line s{row.style % STYLES}", "d": whisker}))
        shapes.append(_marker(px(row.mean), y, row.style, 5))
    label = f"{title}: " + ", ".join(f"{row.label} {short(row.mean)}" for row in dots if row.mean is not None)
    return piece("figure", title, piece("svg", "chart", WIDTH, height, label, shapes))


def legend(series: Sequence[Series]) -> Markup:
    """Return the names of lines with a sample of each."""
    items = [
        (
            piece("svg", "swatch", 34, 12, "", [_stroke(line, "M1 6H33"), _marker(17, 6, line.style, 4)]),
            line.name,
        )
        for line in series
    ]
    return piece("legend", items)


def sample(style: int) -> Markup:
    """Return the marker of a style, to stand before a name."""
    return piece("svg", "mark", 12, 12, "", [_marker(6, 6, style, 4.5)])


def _text(kind: str | None, x: float, y: float, words: str, title: str = "") -> Shape:
    return Shape("text", {"class": kind, "x": f"{x:.1f}", "y": f"{y:.1f}"}, words, title)


def _stroke(line: Series, path: str) -> Shape:
    dash = DASHES[line.style % STYLES] or None
    return Shape("path", {"class": f"line s{line.style % STYLES}", "stroke-dasharray": dash, "d": path})


def _line(line: Series, px: Scale, py: Scale) -> list[Shape]:
    path, before = "", None
    points = [(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
    for x, y in points:
        joined = before is not None and x - before <= 1.5
        path += f"{'L' if joined else 'M'}{px(x):.1f} {py(y):.1f}"
        before = x
    every = max(1, math.ceil(len(points) / 10))
    shift = (3 * line.style) % every
    marked = [p for i, p in enumerate(points) if i % every == shift or len(points) == 1]
    return [_stroke(line, path), *(_marker(px(x), py(y), line.style, 3.2) for x, y in marked)]


def _bands(phases: Sequence[tuple[str, float]], first: float, last: float, px: Scale) -> list[Shape]:
    """Phase names above, and a dashed border after the last epoch of each."""
    shapes, begin = [], px(first)
    for i, (name, end) in enumerate(phases):
        stop = px(min(end + 0.5, last)) if i + 1 < len(phases) else px(last)
        if i % 2:
            size = {"width": f"{max(stop - begin, 0):.1f}", "height": HEIGHT - TOP - BOTTOM}
            shapes.append(Shape("rect", {"class": "band", "x": f"{begin:.1f}", "y": TOP, **size}))
        if i + 1 < len(phases):
            shapes.append(Shape("path", {"class": "border", "d": f"M{stop:.1f} 6V{HEIGHT - BOTTOM}"}))
        shapes.append(_text("mid", (begin + stop) / 2, 15, _fit(name, stop - begin - 6), name))
        begin = stop
    return shapes


def _fit(label: str, room: float) -> str:
    letters = int(room / NARROW)
    return label if len(label) <= letters else label[: letters - 1] + "…" if letters > 1 else ""


def _marker(x: float, y: float, style: int, r: float) -> Shape:
    """Circle, square, triangle, diamond, cross or inverted triangle."""
    shapes = (
        f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0Z",
        f"M{x - r * 0.9:.1f} {y - r * 0.9:.1f}h{1.8 * r:.1f}v{1.8 * r:.1f}h{-1.8 * r:.1f}Z",
        f"M{x:.1f} {y - 1.2 * r:.1f}l{1.1 * r:.1f} {2 * r:.1f}h{-2.2 * r:.1f}Z",
        f"M{x:.1f} {y - 1.3 * r:.1f}l{1.3 * r:.1f} {1.3 * r:.1f}l{-1.3 * r:.1f} {1.3 * r:.1f}l{-1.3 * r:.1f} {-1.3 * r:.1f}Z",
        f"M{x - r:.1f} {y - r:.1f}L{x + r:.1f} {y + r:.1f}M{x + r:.1f} {y - r:.1f}L{x - r:.1f} {y + r:.1f}",
        f"M{x:.1f} {y + 1.2 * r:.1f}l{-1.1 * r:.1f} {-2 * r:.1f}h{2.2 * r:.1f}Z",
    )
    return Shape("path", {"class": f"dot s{style % STYLES}", "d": shapes[style % STYLES]})


def _ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round values that enclose a range."""
    if high - low < 1e-12:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    raw = (high - low) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(start, stop + 1)]


def _whole_ticks(first: float, last: float, count: int = 6) -> list[int]:
    step = max(1, math.ceil((last - first) / count))
    step = next(s for s in (1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000, 10**9) if s >= step)
    ticks = [i for i in range(0, int(last) + 1, step) if i >= first]
    return (
        ticks if ticks and ticks[0] == first else [int(first), *[t for t in ticks if t - first >= step / 2]]
    )
