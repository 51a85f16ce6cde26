"""Sections about the training: what was trained with what, curves, collapse monitor, cost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from markupsafe import Markup

from ...utils.durations import duration
from ..doctor.findings import term_verdict
from ..runs.folder import RunFolder
from ..runs.run import Run
from .charts import Series, line_chart, sample
from .columns import Column
from .html import NONE, Part, below, details, grid, join, number, piece, section, short, table

# configuration of a bundle -> its name for people
OPTIONS = {
    "task": "Task",
    "structure": "Structure",
    "modality": "Modality",
    "dataset_dir": "Data set",
    "image_size": "Image size",
    "batch_size": "Batch size",
    "learning_rate": "Learning rate",
    "val_fraction": "Validation share",
    "limit": "Limit of images",
}


def phases_of(run: Run) -> list[tuple[str, float]]:
    """Return name and last epoch of every phase that ran, in order."""
    ends: dict[str, float] = {}
    for epoch in run.history:
        ends[epoch["phase"]] = epoch["epoch"]
    return list(ends.items())


def curves(columns: Sequence[Column]) -> Part | None:
    """Validation of all runs together, then every term, weight and learning rate of each."""
    shown = [column for column in columns if column.runs[0].history]
    if not shown:
        return None
    metrics = dict.fromkeys(
        name for column in shown for e in column.runs[0].history for name in e["validation"]
    )
    parts = []
    for metric in metrics:
        lines = [_series(c.label, c.runs[0], "validation", metric, c.style) for c in shown]
        same = len({str(phases_of(c.runs[0])) for c in shown}) == 1
        title = "Validation Dice" if metric == "val_dice" else f"Validation: {metric}"
        parts.append(line_chart(title, lines, phases_of(shown[0].runs[0]) if same else ()))
    together = phases_of(shown[0].runs[0]) if len({str(phases_of(c.runs[0])) for c in shown}) == 1 else ()
    lines = [_series(c.label, c.runs[0], "terms", "segmentation", c.style) for c in shown]
    parts.append(line_chart("Segmentation loss", lines, together))
    body = [grid(*parts, kind="grid wide")]
    for column in shown:
        run = column.runs[0]
        terms = list(dict.fromkeys(term for epoch in run.history for term in epoch["terms"]))
        distilled = [term for term in terms if term != "segmentation"]
        phases = phases_of(run)
        charts = [
            line_chart(
                "Distillation terms",
                [_series(term, run, "terms", term, i + 1) for i, term in enumerate(distilled)],
                phases,
            ),
            line_chart(
                "Weights of the terms",
                [_series(t, run, "weights", t, i, 0.0) for i, t in enumerate(["segmentation", *distilled])],
                phases,
                zero=True,
            ),
            line_chart("Learning rate", [_rate(run)], phases, zero=True),
        ]
        seeds = f" (the first of {len(column.runs)} runs)" if len(column.runs) > 1 else ""
        body.append(piece("heading", join(sample(column.style), f" {column.label}{seeds}")))
        body.append(grid(*charts))
    return section(
        "Training, by phase", *body, note="Means over each epoch. Dashed rules stand between phases."
    )


def collapse(columns: Sequence[Column]) -> Part | None:
    """What the collapse monitor measured last, term by term."""
    rows = []
    for column in columns:
        for run in column.runs:
            for term, found in (run.summary.get("collapse") or {}).items():
                verdict: object = term_verdict(found)
                if verdict == "collapsed":
                    verdict = piece("strong", verdict, "warn")
                rows.append(
                    [
                        below(term, join(sample(column.style), f" {run.name}")),
                        number(found["r2"]),
                        number(found.get("r2_image")),
                        number(found.get("same")),
                        short(found["target_variance"]),
                        number(found["effective_rank"]),
                        f"{found.get('phase', NONE)}, epoch {found.get('epoch', NONE)}",
                        verdict,
                    ]
                )
    head = [
        "term",
        "R²",
        "R² about the mean image",
        "the same in all images",
        "target variance",
        "effective rank",
        "measured after",
        "verdict",
    ]
    note = (
        "On validation images. R²: share of the teachers' variance that the student explains, 0 where it does no better than the "
        "mean; about the mean image, 0 where it does no better than what is the same in every image, whose share of the variance "
        "stands beside. Effective rank: directions that the target has; a target near one direction, or without variance, "
        "teaches nothing."
    )
    return section("Collapse monitor", table(head, rows), note=note)


def cost(columns: Sequence[Column]) -> Part | None:
    """Parameters, multiply-adds and time of students and teachers."""
    rows = []
    for column in columns:
        run = column.runs[0]
        student = run.summary.get("student") or run.record.get("student") or {}
        measured = run.record.get("cost") or {}
        if student:
            rows.append([column.head, *_cost_cells(student, measured, measured.get("milliseconds"))])
    seen = set()
    for column in columns:
        measured = column.runs[0].record.get("cost") or {}
        for name, teacher in teachers_of(column.runs[0]).items():
            if teacher.get("signature") in seen or not teacher.get("parameters"):
                continue
            seen.add(teacher.get("signature"))
            own = {**measured, **(measured.get("teachers") or {}).get(name, {"gmacs": None})}
            rows.append([f"teacher {name} (training only)", *_cost_cells(teacher, own, None)])
    head = ["network", "parameters", "GMACs", "ms per image", "measured on"]
    note = (
        "One image at a time, median of 20 passes. GMACs: thousand million multiply-adds of convolutions and matrix "
        "products. A dash: not measured."
    )
    return section("Cost", table(head, rows), note=note)


def record(columns: Sequence[Column]) -> Part | None:
    """What was trained with what, one column of a table each, and the whole configuration."""
    rows: dict[str, list[object]] = {}
    for i, column in enumerate(columns):
        for name, value in _facts(column.runs).items():
            rows.setdefault(name, [NONE] * len(columns))[i] = value
    body = [[name, *values] for name, values in rows.items()]
    parts = [table(["", *(column.head for column in columns)], body, numeric=False), teachers(columns)]
    for column in columns:
        for run in column.runs:
            file = RunFolder(run.folder).config
            if file.is_file():
                written = file.read_text(encoding="utf-8")
                parts.append(details(f"Configuration of {run.name}", piece("pre", written)))
    return section("What was trained with what", *parts)


def teachers(columns: Sequence[Column]) -> Markup:
    """Sources, licences and signatures of all teachers."""
    rows: dict[tuple[str, str], list[object]] = {}
    for column in columns:
        for name, found in teachers_of(column.runs[0]).items():
            cells = [name, *(found.get(key, NONE) for key in ("source", "licence"))]
            signature = found.get("signature", "")
            rows[name, signature] = [*cells, piece("code", signature[:12] or NONE)]
    return table(["teacher", "source", "licence", "signature"], list(rows.values()), numeric=False)


def teachers_of(run: Run) -> dict[str, Any]:
    """Return the teachers that a run names."""
    return run.summary.get("teachers") or run.record.get("teachers") or {}


def _facts(runs: Sequence[Run]) -> dict[str, object]:
    run = runs[0]
    student = run.summary.get("student") or run.record.get("student") or {}
    sessions = run.record.get("sessions") or []
    latest = sessions[-1] if sessions else {}
    versions = latest.get("versions") or run.summary.get("versions") or {}
    seconds = sum(epoch.get("seconds", 0) for epoch in run.history)
    found = {
        "Folder": piece("lines", [str(r.folder) for r in runs]),
        "Student": student.get("network", ""),
        "Parameters": f"{student['parameters']:,}".replace(",", " ") if student.get("parameters") else "",
        "Training images": str(run.record.get("train_images", "")),
        **{name: str(run.config[key]) for key, name in OPTIONS.items() if run.config.get(key) is not None},
        "Seed": ", ".join(str(r.record["seed"]) for r in runs if "seed" in r.record),
        "Phases": piece(
            "lines", [_phase(phase) for phase in run.summary.get("phases") or _phases_so_far(run)]
        ),
        "Training time": duration(seconds) if seconds else "",
        "Epoch kept": run.epoch_kept,
        "Teachers": ", ".join(teachers_of(run)) or "none",
        "Device": latest.get("device", ""),
        "Started": piece("lines", [_moment(s["started"]) + _end(s) for s in sessions]),
        "Versions": piece("lines", [f"{name} {v}" for name, v in versions.items()]),
        "Command": piece("code", latest["command"]) if latest.get("command") else "",
    }
    return {name: value for name, value in found.items() if value}


def _phase(phase: dict[str, Any]) -> Markup:
    weights = ", ".join(f"{term} {short(w)}" for term, w in phase["weights"].items())
    took = f", {duration(phase['seconds'])}" if phase.get("seconds") else ""
    length = f" {phase['epochs']} epoch{'' if phase['epochs'] == 1 else 's'}"
    return join(piece("strong", phase["name"]), f"{length}{took}: {weights}")


def _phases_so_far(run: Run) -> list[dict[str, Any]]:
    phases: dict[str, dict[str, Any]] = {}
    for epoch in run.history:
        own = phases.setdefault(epoch["phase"], {"name": epoch["phase"], "epochs": 0, "seconds": 0.0})
        own["epochs"] += 1
        own["seconds"] += epoch.get("seconds", 0.0)
        own["weights"] = epoch["weights"]
    return list(phases.values())


def _moment(stamp: str) -> str:
    return datetime.fromisoformat(stamp).strftime("%Y-%m-%d %H:%M UTC")


def _end(session: dict[str, Any]) -> str:
    if "finished" not in session:
        return ", not finished"
    return " to " + datetime.fromisoformat(session["finished"]).strftime("%H:%M")


def _cost_cells(
    network: dict[str, Any], measured: dict[str, Any], milliseconds: float | None
) -> list[object]:
    size = "\u00d7".join(str(n) for n in measured.get("input", []))
    threads = ""
    if measured.get("device", "").startswith("cpu"):
        threads = f", {measured['threads']} thread{'s' if measured['threads'] != 1 else ''}"
    return [
        f"{network['parameters'] / 1e6:.2f} M",
        number(measured.get("gmacs")),
        number(milliseconds),
        below(f"{measured['device']}{threads}", f"{size} px") if measured.get("device") else NONE,
    ]


def _series(label: str, run: Run, part: str, name: str, style: int, absent: float | None = None) -> Series:
    """A value by epoch; epochs without it are left out, or take the value ``absent``."""
    points = [(e["epoch"], e[part].get(name, absent)) for e in run.history]
    kept = [(float(x), float(y)) for x, y in points if y is not None]
    return Series(label, tuple(x for x, _ in kept), tuple(y for _, y in kept), style)


def _rate(run: Run) -> Series:
    points = [(float(epoch["epoch"]), float(epoch["lr"])) for epoch in run.history if "lr" in epoch]
    return Series("learning rate", tuple(x for x, _ in points), tuple(y for _, y in points), 0)
