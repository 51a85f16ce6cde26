"""Stages of a system that trains one network after another: each in a folder of its own, resumable, done once."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.utils import set_determinism
from torch import nn

from ...data import check_transfer
from ...networks.lora import save_adapters
from ...networks.student import load_network_state
from ...utils import all_ranks_here, is_main_rank, load_state, main_rank_only, write_json
from ...utils.documents import read_large_json
from ...utils.weight_files import STATE
from ..runs.folder import RunFolder
from .current_config import running_parser, running_settings

logger = logging.getLogger(__name__)
Items = Sequence[Mapping[str, Any]]


def run_ids(ids: Sequence[str]) -> None:
    """Evaluate ids of the running configuration one after another; what they refer to is built only then.

    Of several processes none begins an id before all have ended the one before, whose files it may read.

    Args:
        ids: ids, such as ``["adapt", "distil", "finetune"]``.

    Raises:
        ValueError: the configuration has no such id.
    """
    parser = _parser("run_ids")
    unknown = [name for name in ids if name not in parser.config]
    if unknown:
        raise ValueError(f"the configuration has no {', '.join(unknown)} to run; stages are {list(ids)}.")
    for name in ids:
        parser.get_parsed_content(name)
        all_ranks_here()


def run_stage(folder: str | os.PathLike, steps: str, seed: int, settings: Sequence[str]) -> None:
    """Evaluate the steps of a stage, unless they were finished before.

    ``folder/stage.json`` says what the stage was started with and whether it is finished. Random states depend on the
    seed alone when the steps begin: a stage does the same after another one as in a process of its own.

    Args:
        folder: the stage's folder.
        steps: id of a list of expressions; nothing that they refer to is built when the stage is finished already.
        seed: seed of the random states.
        settings: top-level ids that the stage depends on; see `running_settings`.

    Raises:
        ValueError: the folder holds the stage with other settings; names them.
    """
    parser = _parser("run_stage")
    if begin_stage(folder, running_settings(*settings)):
        set_determinism(seed=int(seed))
        parser.get_parsed_content(steps)
        all_ranks_here()
        end_stage(folder)


def begin_stage(folder: str | os.PathLike, settings: Mapping[str, Any]) -> bool:
    """Note what a stage is started with; return False where it is finished already.

    Args:
        folder: the stage's folder.
        settings: all that its result depends on, as JSON can hold it.

    Raises:
        ValueError: the folder holds the stage with other settings; names them.
    """
    files = RunFolder(folder)
    here = json.loads(json.dumps(settings, default=str))
    found = files.read(files.stage)
    if found is not None:
        other = [
            f"{name} {found['settings'].get(name)} (now {value})"
            for name, value in here.items()
            if found["settings"].get(name) != value
        ]
        if other:
            raise ValueError(
                f"{folder} holds this stage with other settings: {'; '.join(other)}. Go back to them, or give another "
                "output_dir."
            )
        if found["finished"]:
            logger.info("%s is finished already.", folder)
            return False
    if is_main_rank():
        write_json(files.stage, {"settings": here, "finished": False})
    return True


@main_rank_only
def end_stage(folder: str | os.PathLike) -> None:
    """Note that a stage of `begin_stage` is finished."""
    files = RunFolder(folder)
    write_json(files.stage, {**files.read(files.stage), "finished": True})


def last_checkpoint(folder: str | os.PathLike) -> str:
    """Return the path of the training state that a stage left in a folder, or an empty text where it is to start."""
    file = Path(folder) / STATE
    return str(file) if file.is_file() else ""


def load_kept(network: nn.Module, kept: str | os.PathLike, adapters: str | os.PathLike | None = None) -> None:
    """Give an adapted network the weights that its training kept, and write its adapters alone.

    Args:
        network: the network after its training, with or without adapters.
        kept: ``model.pt`` of `TrainingCheckpoint`.
        adapters: file for the adapters of a network that has them.

    Raises:
        ValueError: the file is of another network.
    """
    load_network_state(network, load_state(kept), kept, "It is of another training.")
    if adapters is not None and getattr(network, "lora_settings", None) is not None:
        save_adapters(network, adapters)


def start_student(network: nn.Module, weights: str | os.PathLike) -> None:
    """Give a student the weights that an earlier stage left.

    Args:
        network: the student.
        weights: ``model.pt`` of that stage.

    Raises:
        FileNotFoundError: there is none; says which stage makes it.
        ValueError: it is of another network.
    """
    if not Path(weights).is_file():
        raise FileNotFoundError(f"no distilled student at {weights}: run the id distil first.")
    load_network_state(network, load_state(weights), weights, "Use the student that was distilled.")


def start_encoder(network: nn.Module, pretrained: str | os.PathLike | bool) -> None:
    """Give a student's encoder pretrained weights; the rest of the student stays as it is.

    The student is that of ``network_def`` in the running configuration, whose encoder takes ``pretrained``.

    Args:
        network: the student.
        pretrained: local file in timm's layout, a hub name, or true; see `monai_difom.networks.encoders.load_encoder`.

    Raises:
        ValueError: the student takes no pretrained encoder, or no weights were given.
        FileNotFoundError: there is no such file.
    """
    definition = running_settings("network_def")["network_def"]
    if "pretrained" not in definition or not hasattr(network, "encoder"):
        raise ValueError(
            f"{type(network).__name__} has no encoder that takes pretrained weights. Use a student such as "
            "configs/students/vit_tiny.yaml or encoder_unet.yaml, or another arm."
        )
    if not pretrained:
        raise ValueError("no pretrained weights were given: a local file, a hub name, or true.")
    chosen = pretrained if isinstance(pretrained, bool) else os.fspath(pretrained)
    donor = ConfigParser({"donor": {**definition, "pretrained": chosen}}).get_parsed_content("donor")
    network.encoder.load_state_dict(donor.encoder.state_dict())  # type: ignore[union-attr, operator]


@main_rank_only
def check_transfer_set(
    items: Items, test: Mapping[str, Items], train: Items, folder: str | os.PathLike, progress: bool = True
) -> None:
    """Refuse a transfer set that holds a test image, and leave its distances to them in a folder; done once.

    Args:
        items: the transfer set.
        test: test sets by name.
        train: labelled training images.
        folder: for ``duplicates.json`` and its histogram; what is there for the same files is not computed again.
        progress: show a progress bar.

    Raises:
        ValueError: see `monai_difom.data.check_transfer`.
    """
    tests = [item for part in test.values() for item in part]
    transfer, references, labelled = (
        sorted({os.fspath(item["image"]) for item in part}) for part in (items, tests, train)
    )
    if not references:
        logger.warning("There are no test images to compare the transfer set with.")
        return
    seen = [
        [[path, os.path.getsize(path), os.path.getmtime(path)] for path in part]
        for part in (transfer, references, labelled)
    ]
    file = Path(folder) / "compared.json"
    if file.is_file() and read_large_json(file) == seen:
        return
    report = check_transfer(transfer, references, labelled, folder, progress)
    logger.info("Distance of the transfer set to the nearest test image: %s", report["to_test"])
    write_json(file, seen)


@main_rank_only
def join_stages(
    summary: dict[str, Any], output_dir: str | os.PathLike, stages: Mapping[str, str | os.PathLike]
) -> dict[str, Any]:
    """Put what earlier stages left into the summary and the history of the whole run.

    Args:
        summary: of the last stage, of `summarize`.
        output_dir: the run's folder, with ``summary.json`` and ``history.json`` of the last stage; both are replaced.
        stages: name -> folder of every earlier stage that was run, in order.

    Returns:
        The summary: its phases are those of all stages; ``teachers``, ``targets`` and ``collapse`` also those of the stage
        that distilled; ``stages`` holds the best validation score, and of an adapted teacher the scores on the test sets.
    """
    files = RunFolder(output_dir)
    history = files.read(files.history) or []
    earlier: list[dict[str, Any]] = []
    phases: list[dict[str, Any]] = []
    known = summary.get("stages", {})
    joined = {**summary, "stages": dict(known)}
    for name, folder in stages.items():
        stage = RunFolder(folder)
        found = stage.read(stage.summary) or {}
        phases += found.get("phases", [])
        offset = len(earlier)
        for entry in stage.read(stage.history) or []:
            earlier.append({**entry, "epoch": entry["epoch"] + offset})
        if found.get("teachers"):
            joined.update(
                {key: {**found[key], **summary[key]} for key in ("teachers", "targets", "collapse")}
            )
        joined["stages"][name] = {
            **{key: found[key] for key in ("best", "student", "test_sets") if found.get(key)},
            **known.get(name, {}),
        }
    joined["phases"] = [*phases, *summary["phases"]]
    write_json(
        files.history,
        [*earlier, *({**entry, "epoch": entry["epoch"] + len(earlier)} for entry in history)],
    )
    write_json(files.summary, joined)
    return joined


def _parser(caller: str) -> ConfigParser:
    parser = running_parser()
    if parser is None:
        raise RuntimeError(f"{caller} is for `$` expressions of a configuration; none is being run.")
    return parser
