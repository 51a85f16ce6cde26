"""The figures of a finished run in one file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import monai
import torch

from ... import __version__
from ...data.survey import shared_images
from ...engines import DistillationTrainer
from ...handlers import CollapseMonitor, PhaseLog, TeacherDiagnostics, TrainingCheckpoint
from ...handlers.teachers import FIGURES
from ...utils import main_rank_only, write_json
from ..autolabel.adapted import read_adapted
from ..bundle.current_config import running_config, running_parser, running_settings
from ..bundle.typed_paths import is_path
from .folder import RunFolder
from .identity import IDS, RunIdentity
from .record import count_images, describe_student, describe_teachers


@main_rank_only
def summarize(
    trainer: DistillationTrainer,
    test_sets: Mapping[str, Mapping[str, float]],
    output_dir: str | os.PathLike,
    adapted: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """Write ``summary.json`` and ``history.json`` of a run.

    Args:
        trainer: the trainer after its run; its handlers `PhaseLog`, `CollapseMonitor` and `TrainingCheckpoint` are read
            where they are attached.
        test_sets: scores by test set, of `evaluate_sets`.
        output_dir: the run's folder.
        adapted: folder of the adapted teacher that made the soft masks, of the id ``adapt``.

    Returns:
        The summary: ``recipe`` (of the running configuration); ``about`` (task, structures, modality, data_source);
        ``labelled`` and ``unlabelled`` (numbers of training images);
        ``test_sets``; ``steps`` (batches in all phases); ``phases`` (name, epochs, seconds, last value of every term and weight);
        ``collapse`` (term -> r2, target_variance, effective_rank, collapsed); ``best`` (score and epoch of ``model.pt``);
        ``balancer`` (name, and by phase each term's weight, share of the loss, gradient cosines and CKA; where
        `TeacherDiagnostics` is attached); ``targets`` (what was fitted); ``teachers`` (source, licence, signature,
        parameters); ``trained_on`` (test set -> number of its images that are also trained or validated on; where there are
        some); ``stages`` (``adapt`` -> the adapted teacher's ``best`` and ``test_sets``); ``student``; ``versions``.
    """
    log, monitor, saver = (trainer.stateful.get(name) for name in ("phase_log", "collapse", "checkpoint"))
    summary = {
        "recipe": (running_config() or {}).get("recipe"),
        "about": _about(),
        **count_images(trainer),
        "test_sets": {name: dict(scores) for name, scores in test_sets.items()},
        "steps": trainer.state.iteration,
        "phases": log.summary() if isinstance(log, PhaseLog) else [],
        "collapse": monitor.results if isinstance(monitor, CollapseMonitor) else {},
        "best": saver.state_dict() if isinstance(saver, TrainingCheckpoint) else {},
        "targets": trainer.targets.report() if trainer.distils else {},
        "teachers": describe_teachers(trainer),
        "student": describe_student(trainer),
        "versions": {"monai_difom": __version__, "monai": monai.__version__, "torch": torch.__version__},
    }
    if trained_on := _trained_on():
        summary["trained_on"] = trained_on
    if adapted is not None:
        _add_adapted(summary, adapted)
    teachers = trainer.stateful.get("teachers")
    figures: dict[int, dict[str, Any]] = {}
    if isinstance(teachers, TeacherDiagnostics):
        summary["balancer"] = teachers.summary()
        figures = {entry["epoch"]: {f: entry.get(f, {}) for f in FIGURES} for entry in teachers.epochs}
    if isinstance(log, PhaseLog):
        log.conclude(_hyper_parameters(), test_sets)
        history = [{**entry, **figures.get(entry["epoch"], {})} for entry in log.epochs]
        write_json(RunFolder(output_dir).history, history)
    write_json(RunFolder(output_dir).summary, summary)
    return summary


def _about() -> dict[str, Any]:
    """What the run is about, see `RunIdentity`."""
    if running_parser() is None:
        return {}
    found = RunIdentity.of(running_settings(*IDS, "structures"))
    return {
        "task": found.task,
        "structures": list(found.structures),
        "modality": found.modality,
        "data_source": found.data_source,
    }


def _trained_on() -> dict[str, int]:
    """Test sets of the running configuration that hold images which are also trained or validated on, and how many."""
    parser = running_parser()
    if parser is None or any(name not in parser for name in ("train_data", "val_data", "test_sets")):
        return {}
    sets = {name: parser.get_parsed_content(name) for name in ("train_data", "val_data")}
    tests = {f"test set {name}": items for name, items in parser.get_parsed_content("test_sets").items()}
    shared = shared_images({**sets, **tests})
    return {
        name.removeprefix("test set "): len({test for pairs in others.values() for test, _ in pairs})
        for name, others in shared.items()
    }


def _hyper_parameters() -> dict[str, Any]:
    """Settings of the running configuration that are numbers or texts, without places and expressions."""
    return {
        name: value
        for name, value in (running_config() or {}).items()
        if isinstance(value, (bool, int, float))
        or (isinstance(value, str) and value and not value.startswith(("$", "@", "%")) and not is_path(name))
    }


def _add_adapted(summary: dict[str, Any], folder: str | os.PathLike) -> None:
    """Put an adapted teacher's scores beside the student's, and its source and licence with the teachers of the soft masks."""
    teacher = read_adapted(folder)
    best = max((member.best for member in teacher.members), key=lambda found: found.get("best") or 0.0)
    summary["stages"] = {"adapt": {"best": dict(best), "test_sets": dict(teacher.test_sets)}}
    signatures = {teacher.signature(member) for member in teacher.members}
    for found in summary["teachers"].values():
        if found["signature"] in signatures:
            found.update(source=teacher.source, licence=teacher.licence)
