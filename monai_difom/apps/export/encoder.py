"""The encoder of a finished run, as a backbone for other tasks, and what is known of where it comes from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...utils import atomic_path, file_digest
from ...utils.configurations import resolved
from ...utils.weight_files import MODELS, STUDENT
from ..runs.folder import RunFolder

if TYPE_CHECKING:
    import torch


def export_encoder(
    student: torch.nn.Module | Mapping[str, torch.Tensor],
    output: str | os.PathLike,
    metadata: Mapping[str, Any] | None = None,
    module: str | None = None,
) -> dict[str, str]:
    """Write the encoder of a student alone: no decoder, no head of a teacher.

    Any student with the same encoder loads the file by its argument ``pretrained``.

    Args:
        student: a network, or its state dict.
        output: ``.safetensors`` file to write.
        metadata: what to tell about it; values that are no text are written as JSON.
        module: dotted path of the encoder; the student's ``encoder_module`` where it names one, else ``encoder``.

    Returns:
        The metadata as written.

    Raises:
        ValueError: the student has no such module, or the file is not named ``.safetensors``.
    """
    import torch
    from safetensors.torch import save_file

    from ...networks.blocks import encoder_tensors
    from ...networks.blocks.backbone import ENCODER

    file = Path(output)
    if file.suffix != ".safetensors":
        raise ValueError(
            f"output is {file}; an encoder is written as .safetensors, with what it is in its head."
        )
    network = student if isinstance(student, torch.nn.Module) else None
    path = module or str(getattr(network, "encoder_module", ENCODER))
    state = network.state_dict() if network is not None else student
    tensors = encoder_tensors(state, path)  # type: ignore[arg-type]
    told: dict[str, Any] = {"content": "encoder", "module": path, "monai_difom": __version__}
    if network is not None:
        told["student"] = type(network).__name__
    told["parameters"] = sum(t.numel() for key, t in tensors.items() if not _is_statistic(key))
    told.update(metadata or {})
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in told.items()}
    with atomic_path(file) as temporary:
        save_file({key: t.detach().cpu().contiguous() for key, t in tensors.items()}, str(temporary), text)
    return text


def _is_statistic(key: str) -> bool:
    return key.endswith(("running_mean", "running_var", "num_batches_tracked"))


def describe_run(run: str | os.PathLike) -> tuple[Path, dict[str, Any]]:
    """Return the student's weight file of a run, and what is known of it.

    Args:
        run: the run's folder, or its ``model.pt``.

    Returns:
        The file, and ``student, run, sha256, teachers`` (name -> source and licence), and ``class`` and ``arguments`` of the
        student where the run recorded its configuration.

    Raises:
        FileNotFoundError: there is no student.
    """
    given, files = Path(run), RunFolder.of(run)
    file = given if given.is_file() else files.student()
    if file is None:
        raise FileNotFoundError(
            f"no student at {given}: give a run's folder with {MODELS}/{STUDENT} or {STUDENT} in it, or that file."
        )
    summary = files.read(files.summary) or files.read(files.record) or {}
    known: dict[str, Any] = {"run": files.path.resolve().name, "sha256": file_digest(file)}
    if "student" in summary:
        known["student"] = summary["student"]["network"]
    known["teachers"] = {
        name: {key: teacher.get(key, "") for key in ("source", "licence")}
        for name, teacher in summary.get("teachers", {}).items()
    }
    definition = (resolved(files.config, "network_def") if files.config.is_file() else None) or {}
    if "_target_" in definition:
        known["class"] = definition["_target_"]
        known["arguments"] = {key: value for key, value in definition.items() if key[0] != "_"}
    return file, known
