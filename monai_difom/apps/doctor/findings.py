"""What the figures of a run say: whether its teachers taught anything, whether it beats its control, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...metrics import Comparison, Estimate, bootstrap_mean
from ..runs.compare import compare_tables
from ..runs.run import Run, RunError, Table, merge

Level = Literal["bad", "doubt", "good"]
#: level -> its word for people
WORDS: dict[Level, str] = {"bad": "problem", "doubt": "in doubt", "good": "good"}
FEW_STEPS = (
    1000  # of the optimiser: in benchmarks/gain.md a U-Net was at its end after 2,500, a MobileNetV3 not yet
)
VIEWS = 500  # images seen in all, below which no student has learned anything yet
#: kinds that a training must have been long enough for
_OF_A_TRAINING = (
    "better",
    "worse",
    "within noise",
    "no control",
    "teacher no better",
    "teacher better",
    "learns",
    "explains nothing",
    "only what is the same",
    "not measured",
)


@dataclass(frozen=True)
class Finding:
    """One sentence about a run.

    Args:
        kind: ``collapsed``, ``explains nothing``, ``only what is the same``, ``learns``, ``not measured``, ``better``,
            ``worse``, ``within noise``, ``no control``, ``not compared``, ``teacher no better``, ``teacher better``,
            ``not scored``, ``trained on``, ``not finished``, ``few steps`` or ``short``.
        level: how much it matters.
        found: what was found, with its figures.
        advice: what to do; empty where nothing needs to be done.
    """

    kind: str
    level: Level
    found: str
    advice: str = ""


def diagnose(runs: Sequence[Run], control: Sequence[Run] = (), teacher: Sequence[Run] = ()) -> list[Finding]:
    """Return what is to be said of runs of one recipe, the worst first.

    Args:
        runs: the runs, one for every seed.
        control: runs of the same student without teachers.
        teacher: runs, or evaluations, of the teacher itself.
    """
    short = [finding for run in runs for finding in _short(run)]
    found = [
        *(short or [finding for run in runs for finding in _few_steps(run)]),
        *(finding for run in runs for finding in _finished(run)),
        *(finding for run in runs for finding in _trained_on(run)),
        *(finding for run in runs for finding in _taught(run, len(runs) > 1)),
        *_against_control(runs, control),
        *_against_teacher(runs, control, teacher),
    ]
    if short:
        found = [each for each in found if each.kind not in _OF_A_TRAINING]
    order = list(WORDS)
    return sorted(dict.fromkeys(found), key=lambda finding: order.index(finding.level))


def _short(run: Run) -> Iterator[Finding]:
    """A training that shows that everything runs, and nothing else."""
    epochs = sum(phase.get("epochs", 0) for phase in run.summary.get("phases") or [])
    images = (run.summary.get("labelled") or 0) + (run.summary.get("unlabelled") or 0)
    # where the steps of an epoch are set, as of a control, it is no pass over the images
    if run.config.get("epoch_steps") is None and 0 < epochs * images < VIEWS:
        yield Finding(
            "short",
            "doubt",
            f"{run.name} is a trial: {images} images, {epochs} epochs. Its figures say nothing of the method.",
            "Train to the end, where validation no longer rises, before anything is compared.",
        )


def _few_steps(run: Run) -> Iterator[Finding]:
    """A training that ended before its student could."""
    steps = run.summary.get("steps") or 0
    if 0 < steps < FEW_STEPS:
        yield Finding(
            "few steps",
            "doubt",
            f"{run.name} was trained for {steps:,} steps: few students are at their end by then, and a gain may be one of time.",
            "Train longer, with --set epoch_steps=50 for 2,000 steps in 40 epochs: with few images a pass over them is short.",
        )


def _finished(run: Run) -> Iterator[Finding]:
    if not run.summary:
        advice = f"Go on with it: monai-difom train --resume {run.folder}, or the command that started it with --resume."
        yield Finding("not finished", "doubt", f"{run.name} is not finished, or is still going on.", advice)
    elif not run.tables:
        advice = "Give it test images (TestDataset, or a test set split off): without them nothing is known of its quality."
        yield Finding("not scored", "doubt", f"No test image of {run.name} was scored.", advice)


def _trained_on(run: Run) -> Iterator[Finding]:
    """Test images that are no test."""
    for name, count in (run.summary.get("trained_on") or {}).items():
        yield Finding(
            "trained on",
            "bad",
            f"{run.name}: {count} images of the test set {name} are also trained or validated on: its scores are too good.",
            "Remove them from one of the two, and train again.",
        )


def _taught(run: Run, named: bool) -> Iterator[Finding]:
    """What the collapse monitor measured last, term by term."""
    of = f" of {run.name}" if named else ""
    terms: dict[str, dict[str, Any]] = run.summary.get("collapse") or {}
    bad = [name for name, figures in terms.items() if figures.get("collapsed")]
    if bad:
        yield Finding(
            "collapsed",
            "bad",
            f"{run.name}: the distillation of {', '.join(bad)} has collapsed: its teachers taught nothing.",
            "The target has lost its variance. Use fixed targets (fuse: pca); of soft masks, look whether they are all alike.",
        )
    groups: dict[str, list[str]] = {}
    for name, figures in terms.items():
        if not figures.get("collapsed"):
            groups.setdefault(term_verdict(figures), []).append(f"{name} {_shares(figures)}")
    for kind, (level, sentence, advice) in _LEARNING.items():
        if kind in groups:
            yield Finding(kind, level, sentence.format(terms="; ".join(groups[kind]), of=of), advice)


_LEARNING: dict[str, tuple[Level, str, str]] = {
    "explains nothing": (
        "bad",
        "The student{of} explains nothing of what its teachers say: {terms}.",
        "More epochs with this term, a higher weight, a tap with a finer grid or a head with more room (head: mlp). If that does "
        "not help, leave the term out: it only costs.",
    ),
    "only what is the same": (
        "doubt",
        "The student{of} has learned what is the same in every image, and nothing of what differs between images: {terms}.",
        "More epochs, a higher weight, or a deeper tap: what it explains so far, a picture of the mean would explain too.",
    ),
    "not measured": (
        "doubt",
        "Whether the student{of} learns is not known, for its loss is no distance: {terms}.",
        "Compare with the control: only that tells here.",
    ),
    "learns": ("good", "The student{of} learns from its teachers: {terms}.", ""),
}


def term_verdict(figures: dict[str, Any]) -> str:
    """Return the kind of what a term's figures say."""
    if figures.get("collapsed"):
        return "collapsed"
    if not figures.get("distance", True):
        return "not measured"
    if figures["r2"] <= 0:
        return "explains nothing"
    return "only what is the same" if figures.get("r2_image", 1) <= 0 else "learns"


def _shares(figures: dict[str, Any]) -> str:
    """What is explained, in words: of the whole map, and of what differs between images."""
    if not figures.get("distance", True):
        return f"(R² {figures['r2']:.2f})"
    text = f"explains {max(figures['r2'], 0):.0%}"
    if "r2_image" in figures:
        text += f", and {max(figures['r2_image'], 0):.0%} of what differs between images"
    return text


def _against_control(runs: Sequence[Run], control: Sequence[Run]) -> Iterator[Finding]:
    taught = any(run.terms or (run.summary.get("collapse") or {}) for run in runs)
    if not control:
        if taught and any(run.tables for run in runs):
            advice = "Train the same student without teachers (train --control) and report both."
            yield Finding(
                "no control",
                "doubt",
                "Whether the teachers helped is not known: there is no control.",
                advice,
            )
        return
    for name, found in compared(control, runs):
        if isinstance(found, str):
            yield Finding("not compared", "doubt", f"{name}: not compared with the control: {found}", "")
            continue
        change = found.difference
        words = f"{change.mean:+.3f} Dice ({change.low:+.3f} to {change.high:+.3f}) on {change.images} images of {name}"
        if change.low > 0:
            yield Finding("better", "good", f"Better than the control: {words}.")
        elif change.high < 0:
            advice = "Lower the weights of the distillation, end it earlier (phase refine), or take another teacher."
            yield Finding("worse", "bad", f"Worse than the control: {words}.", advice)
        else:
            advice = (
                "More test images or more seeds narrow the interval. Few labels, images without labels (--unlabelled) and a "
                "teacher that knows the task are where gains come from."
            )
            yield Finding("within noise", "doubt", f"No gain over the control that is sure: {words}.", advice)


def _against_teacher(
    runs: Sequence[Run], control: Sequence[Run], teacher: Sequence[Run]
) -> Iterator[Finding]:
    """Whether the teacher knows more than the student: by its own runs, or by the scores of the adapted one."""
    for name, own in _means(runs).items():
        other = _means(teacher).get(name) if teacher else _adapted(runs, name)
        if other is None:
            continue
        alone = _means(control).get(name, own)
        words = f"on {name} the teacher has a Dice of {other:.3f}, the student {own:.3f}"
        words += f", and {alone:.3f} without it" if name in _means(control) else ""
        if other <= alone:
            advice = "A teacher that is no better has nothing to teach: adapt it to the task (run id adapt), or take another one."
            yield Finding(
                "teacher no better", "bad", f"The teacher is no better than the student: {words}.", advice
            )
        else:
            yield Finding("teacher better", "good", f"The teacher knows more than the student: {words}.")


def compared(first: Sequence[Run], second: Sequence[Run]) -> Iterator[tuple[str, Comparison | str]]:
    """Yield every test set of the second runs with the comparison of its Dice, or with why there is none."""
    for name in dict.fromkeys(name for run in second for name in run.tables):
        if not all(name in run.tables for run in (*first, *second)):
            yield name, "not every run was scored on it."
            continue
        try:
            both = merge(
                [run.tables[name] for run in (*first, *second)],
                [f"{run.folder}/{name}" for run in (*first, *second)],
            )
            found = compare_tables(both, len(first), "dice")
        except (RunError, ValueError) as error:
            yield name, str(error)
            continue
        yield name, found


def _means(runs: Sequence[Run]) -> dict[str, float]:
    """Test set -> mean Dice over images and runs."""
    tables: dict[str, list[Table]] = {}
    for run in runs:
        for name, table in run.tables.items():
            tables.setdefault(name, []).append(table)
    return {
        name: mean
        for name, found in tables.items()
        if np.isfinite(mean := float(np.mean([_dice(table).mean for table in found])))
    }


def _dice(table: Table) -> Estimate:
    values = table.columns["dice"]
    if not np.isfinite(values).all(0).any():
        return Estimate(float("nan"), float("nan"), float("nan"), 0, 0, 1)
    return bootstrap_mean(values, table.groups, draws=2)


def _adapted(runs: Sequence[Run], name: str) -> float | None:
    """Dice of the adapted teacher that made the soft masks of a run."""
    scores = [
        run.summary.get("stages", {}).get("adapt", {}).get("test_sets", {}).get(name, {}).get("dice")
        for run in runs
    ]
    known = [float(score) for score in scores if score is not None]
    return float(np.mean(known)) if known else None
