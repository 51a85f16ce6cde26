"""Pre-train a student's encoder on a transfer set, without teachers and without masks."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...data.transfer import load_pictures
from ...engines.pretrainer import PretrainSettings, SelfSupervisedTrainer
from ...utils import all_ranks_here, is_main_rank, write_json
from ...utils.documents import read_large_json

logger = logging.getLogger(__name__)


def pretrain_encoder(
    items: Sequence[Mapping[str, Any]],
    output_dir: str | os.PathLike,
    method: str = "mae",
    save_every: int = 500,
    device: torch.device | str = "cpu",
    progress: bool = True,
    **settings: Any,
) -> str:
    """Pre-train a vision transformer, or go on where ``output_dir`` left off.

    Several processes (``torchrun``) train one encoder together; the first writes. Left are ``pretraining.pt`` (to resume),
    ``losses.json`` and, at the end, ``encoder.safetensors``.

    Args:
        items: the transfer set; only the images are used.
        output_dir: folder of this pre-training.
        method: ``"mae"`` or ``"moco_v3"``.
        save_every: steps between two checkpoints.
        device: where to train.
        progress: show a progress bar.
        **settings: values of `PretrainSettings` that differ from its defaults, such as ``encoder``, ``steps``.

    Returns:
        The path of ``encoder.safetensors``, to be given as ``ViTSegmenter(encoder=..., pretrained=...)``.

    Raises:
        ValueError: see `PretrainSettings` and `SelfSupervisedTrainer`.
    """
    folder = Path(output_dir)
    trainer = SelfSupervisedTrainer(PretrainSettings(method=method, **settings), device)
    checkpoint, record, result = (
        folder / name for name in ("pretraining.pt", "losses.json", "encoder.safetensors")
    )
    losses: list[float] = []
    if checkpoint.is_file():
        trainer.resume(checkpoint)
        losses = read_large_json(record)[: trainer.step] if record.is_file() else []
        logger.info("%s goes on after step %d of %d.", checkpoint, trainer.step, trainer.settings.steps)
    if trainer.step < trainer.settings.steps:
        pictures = load_pictures([item["image"] for item in items], trainer.settings.image_size)
        while trainer.step < trainer.settings.steps:
            losses += trainer.train(pictures, trainer.step + save_every, progress)
            if is_main_rank():
                write_json(record, [round(loss, 6) for loss in losses])
            trainer.save(checkpoint)
    if is_main_rank():
        trainer.save_encoder(result)
    all_ranks_here()  # who returns may read the file
    return str(result)
