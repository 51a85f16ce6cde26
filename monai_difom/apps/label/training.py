"""An exported student goes on learning from the labels of a MONAI Label server: what its run ids do."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from torch import nn

from ...engines import DistillationTrainer, Phase, Plan
from ...metrics import mean_scores
from ...networks.student import load_network_state
from ...utils import atomic_path, file_digest, load_state, save_state, unknown_name, write_json
from ...utils.documents import read_json
from ...utils.weight_files import STUDENT
from ..bundle.command_line import cause_of, end_with_cause
from ..bundle.current_config import name_empty_run, running_config, running_parser
from ..bundle.typed_paths import keep_paths
from ..deployed.facts import METADATA
from ..deployed.network import WEIGHTS
from ..export.formats import FORMATS
from ..scoring.evaluate import evaluate_set

logger = logging.getLogger(__name__)
RECORD, BEFORE = "label.json", "models/model_before.pt"
SEGMENTATION = "segmentation"
Items = Sequence[Mapping[str, Any]]


def start_label_run() -> None:
    """Do what comes before a training on labels: see to an empty run id, and to how an error ends.

    MONAI Label shows the last lines of a training that it started. They say what was wrong, and not which expression failed.
    """
    name_empty_run()
    parser = running_parser()
    if parser is not None:
        keep_paths(parser, {})
    if "monailabel" in sys.modules:
        sys.excepthook = end_with_cause


def train_on_labels(only: str | None = None) -> dict[str, Any]:
    """Train the student of an exported bundle on labels, from its own weights, and serve the better of both.

    For ``$`` expressions of a configuration that `training_config` made, with the labels as ``train#dataset#data``. Teachers
    that are not on this machine are left out, with a warning: what is left of the phases is trained on the masks alone. The
    weights that come out take the place of ``models/model.pt`` when their Dice, at native size, is not lower than that of the
    weights before, on the validation images, or on the training images where there are none. The weights before stay as
    ``models/model_before.pt``.

    Args:
        only: name of the one phase to run; None for all.

    Returns:
        What ``output_dir/label.json`` holds: ``labels`` and ``validation`` (numbers of images), ``phases`` (name -> epochs),
        ``teachers``, ``without`` (why they were left out, or null), ``dice`` (before, after), ``installed``.

    Raises:
        RuntimeError: the call is not in a ``$`` expression of a configuration.
        ValueError: there are no labels, no such phase, or a phase that does nothing but match teachers that are not there.
    """
    config = running_config()
    if config is None:
        raise RuntimeError(
            "train_on_labels is for `$` expressions of a configuration; no configuration is being run."
        )
    parser = ConfigParser(config)  # a parser of its own: what is chosen below changes it
    labels, held_out = (parser.get_parsed_content(f"{part}#dataset#data") for part in ("train", "validate"))
    if not labels:
        raise ValueError(
            "there are no labels to learn from: save the label of an image as final, then train."
        )
    compared: Items = held_out or labels
    parser["validate#dataset#data"] = compared
    plan = _chosen(parser.get_parsed_content("plan"), only)
    without = _use_teachers(parser, plan)
    parser["plan"] = plan if without is None else _on_masks(plan, without)
    bundle, folder, checkpoints = (
        Path(parser.get_parsed_content(name)) for name in ("bundle_root", "output_dir", "ckpt_dir")
    )
    trainer: DistillationTrainer = parser.get_parsed_content("train#trainer")
    _fill(trainer.distiller.student, bundle / WEIGHTS)
    trainer.run()
    chain = parser.get_parsed_content("evaluation_chain")
    before, after = (
        _dice(trainer, file, compared, chain) for file in (bundle / WEIGHTS, checkpoints / STUDENT)
    )
    record = {
        "labels": len(labels),
        "validation": len(held_out),
        "phases": {phase.name: phase.epochs for phase in trainer.plan.phases if phase.epochs},
        "teachers": sorted(trainer.targets.teachers) if trainer.distils else [],
        "without": without,
        "dice": {"before": before, "after": after},
        "installed": after >= before,
    }
    if record["installed"]:
        install_weights(bundle, checkpoints / STUDENT, record)
    write_json(folder / RECORD, record)
    logger.info(told(record))
    return record


def told(record: Mapping[str, Any]) -> str:
    """Return in a sentence or two what a training on labels came to."""
    dice, held_out = record["dice"], record["validation"]
    on = (
        f"{held_out} validation images"
        if held_out
        else "the training images themselves (too few to hold any out)"
    )
    done = "is served from now on" if record["installed"] else "is not taken: the one before goes on"
    return (
        f"Trained on {record['labels']} labels. Dice on {on}: {dice['before']:.3f} before, {dice['after']:.3f} after. "
        f"The new student {done}."
    )


def install_weights(bundle: str | os.PathLike, weights: str | os.PathLike, record: Mapping[str, Any]) -> None:
    """Make a student's weights those of a bundle, and keep those before as ``models/model_before.pt``.

    The metadata tell it: ``trained_on_labels`` has one record per training, so that the scores of the card are not taken for
    those of the new weights.

    Args:
        bundle: folder with ``models/model.pt``.
        weights: state dict of the same network.
        record: of `train_on_labels`.
    """
    served, facts = Path(bundle) / WEIGHTS, Path(bundle) / METADATA
    with atomic_path(Path(bundle) / BEFORE) as temporary:
        shutil.copyfile(served, temporary)
    save_state(served, load_state(weights))
    metadata = read_json(facts)
    # why teachers were left out names files of this machine
    shown = {key: value for key, value in record.items() if key != "without"}
    metadata["trained_on_labels"] = [*metadata.get("trained_on_labels", []), shown]
    for entry in metadata.get("formats", {}).values():
        if entry.get("file") == WEIGHTS:
            entry["sha256"] = file_digest(served)
    write_json(facts, metadata, indent=4)
    others = [Path(f.file).name for f in FORMATS.values() if f.opener and (Path(bundle) / f.file).is_file()]
    if others:
        logger.warning("%s are of the weights before: export the bundle again.", ", ".join(others))


def _chosen(plan: Plan, only: str | None) -> Plan:
    """Return the plan of all phases, or of one; one that the plan leaves out by 0 epochs gets 1."""
    if only is None:
        return plan
    named = {phase.name: phase for phase in plan.phases}
    if only not in named:
        raise ValueError(unknown_name("phase", only, list(named)))
    return Plan([replace(named[only], epochs=max(named[only].epochs, 1))])


def _use_teachers(parser: ConfigParser, plan: Plan) -> str | None:
    """Build the teachers if the plan needs any; return why it cannot be, None where they are there or none is needed."""
    needed = any(
        phase.epochs and phase.uses(term)
        for phase in plan.phases
        for term in phase.weights
        if term != SEGMENTATION
    )
    without = None
    teachers: dict[str, nn.Module] = {}
    if needed:
        try:
            teachers = parser.get_parsed_content("teachers")
        except (
            Exception
        ) as error:  # a file that is not on this machine, a hub that cannot be reached, a package
            without = str(cause_of(error))
        if not teachers and without is None:
            without = "the run had no teachers."
    if without is not None:
        logger.warning("The teachers are not at hand, masks alone are learned: %s", without)
    parser["teachers"] = teachers
    if not teachers:
        parser["terms"] = []
    return without


def _on_masks(plan: Plan, reason: str) -> Plan:
    """Return the plan without terms of teachers, and without phases that have no other."""
    left: list[Phase] = []
    for phase in plan.phases:
        weights = {term: weight for term, weight in phase.weights.items() if term == SEGMENTATION}
        if weights:
            left.append(replace(phase, weights=weights))
    if not sum(phase.epochs for phase in left):
        names = ", ".join(phase.name for phase in plan.phases)
        raise ValueError(f"{names}: nothing is left to learn without the teachers. {reason}")
    return Plan(left)


def _fill(student: nn.Module, weights: Path) -> None:
    advice = "Serve the bundle as it was exported, with the weights of its own network."
    load_network_state(student, load_state(weights), weights, advice)


def _dice(trainer: DistillationTrainer, weights: Path, items: Items, chain: Any) -> float:
    """Mean Dice of the student with other weights, at the size of the masks."""
    student = trainer.distiller.student
    _fill(student, weights)
    return float(mean_scores(evaluate_set(student, items, chain, trainer.state.device))["dice"])
