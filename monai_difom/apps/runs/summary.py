"""The figures of a finished run in one file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import monai
import torch

from ... import __version__
from ...engines import DistillationTrainer
from ...handlers import CollapseMonitor, PhaseLog, TeacherDiagnostics, TrainingCheckpoint
from ...handlers.teachers import FIGURES
from ...utils import main_rank_only, write_json
from .folder import RunFolder
from .record import describe_student, describe_teachers


@main_rank_only
def summarize(
    trainer: DistillationTrainer, test_sets: Mapping[str, Mapping[str, float]], output_dir: str | os.PathLike
) -> dict[str, Any]:
    """Write ``summary.json`` and ``history.json`` of a run.

    Args:
        trainer: the trainer after its run; its handlers `PhaseLog`, `CollapseMonitor` and `TrainingCheckpoint` are read
            where they are attached.
        test_sets: scores by test set, of `evaluate_sets`.
        output_dir: the run's folder.

    Returns:
        The summary: ``test_sets``; ``phases`` (name, epochs, seconds, last value of every term and weight); ``collapse`` (term ->
        r2, target_variance, effective_rank, collapsed); ``best`` (validation score and epoch of ``model.pt``);
        ``balancer`` (name, and by phase each term's weight, share of the loss, gradient cosines and CKA; where
        `TeacherDiagnostics` is attached); ``targets`` (what was fitted); ``teachers`` (source, licence, signature,
        parameters); ``student``; ``versions``.
    """
    log, monitor, saver = (trainer.stateful.get(name) for name in ("phase_log", "collapse", "checkpoint"))
    summary = {
        "test_sets": {name: dict(scores) for name, scores in test_sets.items()},
        "phases": log.summary() if isinstance(log, PhaseLog) else [],
        "collapse": monitor.results if isinstance(monitor, CollapseMonitor) else {},
        "best": saver.state_dict() if isinstance(saver, TrainingCheckpoint) else {},
        "targets": trainer.targets.report() if trainer.distils else {},
        "teachers": describe_teachers(trainer),
        "student": describe_student(trainer),
        "versions": {"monai_difom": __version__, "monai": monai.__version__, "torch": torch.__version__},
    }
    teachers = trainer.stateful.get("teachers")
    figures: dict[int, dict[str, Any]] = {}
    if isinstance(teachers, TeacherDiagnostics):
        summary["balancer"] = teachers.summary()
        figures = {entry["epoch"]: {f: entry.get(f, {}) for f in FIGURES} for entry in teachers.epochs}
    if isinstance(log, PhaseLog):
        history = [{**entry, **figures.get(entry["epoch"], {})} for entry in log.epochs]
        write_json(RunFolder(output_dir).history, history)
    write_json(RunFolder(output_dir).summary, summary)
    return summary
