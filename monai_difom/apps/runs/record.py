"""What was trained with what: ``config.yaml`` and ``run.json`` of a run, written when it starts and completed when it ends."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import datetime, timezone
from typing import Any

import monai
import numpy as np
import torch
import yaml
from ignite.engine import Events
from torch.utils.flop_counter import FlopCounterMode

from ... import __version__
from ...data import ViewDataset
from ...engines import DistillationTrainer
from ...handlers import TrainingCheckpoint
from ...networks.student import as_student
from ...utils import atomic_path, is_main_rank, main_rank_only, write_json
from ...utils.plain import plain_data
from ..bundle.current_config import running_config
from .claim import claim_of, close_records, release_runs
from .folder import RunFolder
from .timing import milliseconds

_HEAD = """# The configuration of this run: its files merged, with the command line's overrides.
#
# Run: python -m monai.bundle run training --config_file {file}
"""


def run_training(trainer: DistillationTrainer, output_dir: str | os.PathLike) -> None:
    """Train, with a record that says how it went.

    The record, and ``config.yaml``, are written when everything has been checked and the first epoch begins: a command that
    fails before leaves those of an earlier run as they were. A training that fails, or is stopped, is recorded as that.

    Args:
        trainer: the trainer; what it was resumed from is checked by it.
        output_dir: the run's folder.
    """
    config = running_config()
    if is_main_rank():
        trainer.add_event_handler(Events.STARTED, lambda: _begin(trainer, output_dir, config))
    try:
        trainer.run()
    except BaseException as error:
        stopped = isinstance(error, (KeyboardInterrupt, SystemExit))
        close_records(
            "interrupted" if stopped else "failed",
            "stopped by a signal" if stopped else f"{type(error).__name__}: {error}",
        )
        release_runs()
        raise


def _begin(
    trainer: DistillationTrainer, output_dir: str | os.PathLike, config: dict[str, Any] | None
) -> None:
    claim = claim_of(output_dir)
    if claim is not None:
        claim.begin()
    _write_record(trainer, RunFolder(output_dir), config)


@main_rank_only
def start_record(trainer: DistillationTrainer, output_dir: str | os.PathLike) -> dict[str, Any]:
    """Write ``run.json`` and, inside a bundle command or workflow, ``config.yaml``.

    Called before training, so that an interrupted run tells what it was. A resumed run adds a session to the record.

    Args:
        trainer: the trainer that is about to run.
        output_dir: the run's folder.

    Returns:
        The record: ``status`` ("running"), ``sessions`` (command, times, device, versions; one per start), ``seed``, ``plan``,
        ``epochs``, ``train_images``, ``checkpoints``, ``student`` and ``teachers`` (source, licence, signature, parameters).
    """
    return _write_record(trainer, RunFolder(output_dir), running_config())


def _write_record(
    trainer: DistillationTrainer, files: RunFolder, config: dict[str, Any] | None
) -> dict[str, Any]:
    if config is not None:
        with atomic_path(files.config) as temporary:
            text = yaml.safe_dump(plain_data(config), sort_keys=False, allow_unicode=True, width=120)
            temporary.write_text(_HEAD.format(file=files.config) + text, encoding="utf-8")
    saver = trainer.stateful.get("checkpoint")
    record = {
        "status": "running",
        "sessions": [*(_earlier(files) if trainer.resume is not None else []), _session(trainer)],
        "seed": trainer.seed,
        "plan": trainer.plan.as_dict(),
        "epochs": trainer.plan.epochs,
        "train_images": len(getattr(trainer.data_loader, "dataset", [])),
        **count_images(trainer),
        "checkpoints": str(saver.folder) if isinstance(saver, TrainingCheckpoint) else None,
        "student": describe_student(trainer),
        "teachers": describe_teachers(trainer),
    }
    write_json(files.record, record)
    return record


def finish_record(trainer: DistillationTrainer, output_dir: str | os.PathLike) -> dict[str, Any]:
    """Mark the record of a run as finished, and add when.

    Args:
        trainer: the trainer after its run.
        output_dir: the run's folder; a record that was never started is made now.
    """
    files = RunFolder(output_dir)
    record = files.read(files.record) or start_record(trainer, files.path)
    record["status"] = "finished"
    record.pop("reason", None)
    record["sessions"][-1]["finished"] = _now()
    write_json(files.record, record)
    return record


def count_images(trainer: DistillationTrainer) -> dict[str, int]:
    """Return how many training images have masks drawn by a person (``labelled``), and how many have none (``unlabelled``)."""
    dataset: Any = getattr(trainer.data_loader, "dataset", None)
    if not isinstance(dataset, ViewDataset):
        return {}
    return {"labelled": dataset.labelled, "unlabelled": len(dataset) - dataset.labelled}


def describe_student(trainer: DistillationTrainer) -> dict[str, Any]:
    """Return class and parameters of the student, without what is dropped from the exported file."""
    student = trainer.distiller.student
    dropped = as_student(student).training_only
    kept = (p for name, p in student.named_parameters() if not name.startswith(dropped))
    return {"network": type(student).__name__, "parameters": sum(p.numel() for p in kept)}


def describe_teachers(trainer: DistillationTrainer) -> dict[str, dict[str, Any]]:
    """Return source, licence, signature and parameters of every teacher, and of the teachers of soft masks what these know.

    Empty when none is used.
    """
    masks = getattr(getattr(trainer.data_loader, "dataset", None), "soft_masks", None)
    signed = {} if masks is None else masks.teachers
    said = {
        name: {"source": f"soft masks of {name}", "licence": "that of its weights", "signature": signature}
        for name, signature in signed.items()
    }
    own = {
        name: {
            "source": teacher.source,
            "licence": teacher.licence,
            "signature": teacher.signature,
            "parameters": sum(p.numel() for p in teacher.parameters()),
        }
        for name, teacher in (trainer.targets.teachers.items() if trainer.distils else ())
    }
    return {**said, **own}


@torch.no_grad()
def measure_cost(trainer: DistillationTrainer, output_dir: str | os.PathLike) -> dict[str, Any]:
    """Measure what one image costs the student, and each teacher, and add it to the record as ``cost``.

    Args:
        trainer: the trainer after its run; sizes are those of its training images.
        output_dir: the run's folder, with a record.

    Returns:
        ``input`` (height, width), ``device``, ``threads``; for the student ``gmacs`` (multiply-adds of convolutions and matrix
        products, in thousand millions) and ``milliseconds`` (median, one image at a time); ``teachers`` -> ``gmacs``.
    """
    batch = next(iter(trainer.data_loader))
    device, student = trainer.state.device, trainer.distiller.student
    image, was_training = batch["image"][:1].to(device), student.training
    student.eval()
    cost = {
        "input": list(image.shape[2:]),
        "device": _device(device),
        "threads": torch.get_num_threads(),
        "gmacs": _gmacs(student, image),
        "milliseconds": milliseconds({"student": student}, image)["student"],
        "teachers": {
            name: {"gmacs": _gmacs(teacher, batch["teacher_image"][:1].to(device))}
            for name, teacher in trainer.targets.teachers.items()
            if trainer.distils and "teacher_image" in batch
        },
    }
    student.train(was_training)
    files = RunFolder(output_dir)
    write_json(files.record, {**files.read(files.record), "cost": cost})
    return cost


def _gmacs(network: torch.nn.Module, image: torch.Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        network(image)
    return counter.get_total_flops() / 2e9


def _session(trainer: DistillationTrainer) -> dict[str, Any]:
    return {
        "started": _now(),
        "command": " ".join(["python", *map(_quoted, sys.orig_argv[1:])]),
        "resumed_from": str(trainer.resume) if trainer.resume is not None else None,
        "device": _device(trainer.state.device),
        "threads": torch.get_num_threads(),
        "mixed_precision": trainer.mixed,
        "system": platform.platform(),
        "versions": {
            "monai_difom": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "monai": monai.__version__,
            "numpy": np.__version__,
        },
    }


def _quoted(word: str) -> str:
    """Quote a word for a shell; a list of files keeps its single quotes, as a person types it."""
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word)


def _earlier(files: RunFolder) -> list[dict[str, Any]]:
    return (files.read(files.record) or {"sessions": []})["sessions"]


def _device(device: torch.device) -> str:
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type} ({platform.machine()})"
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
