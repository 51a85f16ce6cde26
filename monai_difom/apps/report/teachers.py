"""What several teachers did to one student: weights, shares of the loss, gradients and likeness."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from ..runs.run import Run
from .charts import Series, line_chart, sample
from .columns import Column
from .html import Part, below, grid, join, number, piece, section, table
from .training import phases_of

# figure of the history -> title, and whether its axis must hold zero
CURVES = {
    "balance": ("Weight by the balancer", True),
    "share": ("Share of the distillation loss", True),
    "gradient_cosine": ("Cosine between the teachers' gradients", False),
}


def diagnostics(columns: Sequence[Column]) -> Part | None:
    """Curves by epoch and likeness by phase, of the first run of every column whose history has them."""
    parts = []
    for column in columns:
        run = column.runs[0]
        phases = phases_of(run)
        charts = [line_chart(title, _series(run, key), phases, zero) for key, (title, zero) in CURVES.items()]
        if any(charts):
            name = (run.summary.get("balancer") or {}).get("name", "")
            title = join(sample(column.style), f" {column.label}", f", {name}" if name else "")
            parts.append(piece("heading", title))
            parts.append(grid(*charts, kind="grid wide"))
        parts.append(_likeness(run))
    note = (
        "The balancer's weight is the teacher's before the phase's own. A cosine below 0: two teachers pull the student apart. "
        "CKA: likeness of student and teacher on validation images, from 0 to 1, blind to rotation and scale; of several runs "
        "the first."
    )
    return section("Teachers side by side", *parts, note=note)


def _series(run: Run, figure: str) -> list[Series]:
    """One line for every teacher, or pair of teachers, that the history has the figure of."""
    names = dict.fromkeys(name for epoch in run.history for name in epoch.get(figure) or {})
    lines = []
    for style, name in enumerate(names):
        own = [epoch for epoch in run.history if name in (epoch.get(figure) or {})]
        x, y = tuple(float(e["epoch"]) for e in own), tuple(float(e[figure][name]) for e in own)
        lines.append(Series(name.replace("|", " and "), x, y, style))
    return lines


def _likeness(run: Run) -> Markup:
    """A table of CKA: teachers down, phases across; empty where it was not measured."""
    found = run.summary.get("balancer") or {}
    stages = [("before training", found.get("start") or {})]
    stages += [(phase["name"], phase.get("cka") or {}) for phase in found.get("phases") or []]
    names = dict.fromkeys(name for _, values in stages for name in values)
    sources = found.get("sources") or {}
    rows = [
        [
            below(name, sources.get(name, "")),
            *(number(values.get(name)) for _, values in stages),
        ]
        for name in names
    ]
    return table(["CKA of student and teacher", *(stage for stage, _ in stages)], rows)
