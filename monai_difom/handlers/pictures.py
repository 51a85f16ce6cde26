"""Pictures of a run: predictions, and teacher and student maps in the same colours."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from colorsys import hsv_to_rgb
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from PIL import Image, ImageDraw, ImageFont
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from ..engines.trainer import DistillationTrainer
from ..losses import MISSING
from ..utils import atomic_path, is_main_rank


def pca_colours(target: torch.Tensor, student: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Show two maps of the same space by the first three principal components of the first.

    Args:
        target: ``(B, C, h, w)``.
        student: same shape.

    Returns:
        Two RGB maps ``(B, 3, h, w)`` in [0, 1]; equal colours mean equal features.
    """
    points = target.movedim(1, -1).reshape(-1, target.shape[1]).double()
    mean = points.mean(0)
    _, vectors = torch.linalg.eigh((points - mean).T @ (points - mean))
    axes = vectors.flip(1)[:, :3]
    projected = (points - mean) @ axes
    low, high = projected.quantile(0.02, 0), projected.quantile(0.98, 0)

    def paint(maps: torch.Tensor) -> torch.Tensor:
        values = (maps.movedim(1, -1).double() - mean) @ axes
        colours = ((values - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
        colours = F.pad(
            colours, (0, 3 - colours.shape[-1])
        )  # a map of one or two channels has fewer components
        return colours.movedim(-1, 1).float()

    return paint(target), paint(student)


def paint_masks(masks: torch.Tensor) -> torch.Tensor:
    """Show masks as RGB: one structure in white, several in hues around the circle; overlaps mix.

    Args:
        masks: ``(B, K, *spatial)`` in [0, 1]; channels that are `MISSING` stay black.

    Returns:
        ``(B, 3, *spatial)`` in [0, 1].
    """
    count = masks.shape[1]
    if count == 1:
        return masks.expand(-1, 3, *[-1] * (masks.ndim - 2))
    colours = torch.tensor([hsv_to_rgb(n / count, 0.85, 1.0) for n in range(count)], device=masks.device)
    known = torch.where(masks == MISSING, torch.zeros_like(masks), masks).float()
    return torch.einsum("bk...,kc->bc...", known, colours) / known.sum(1, keepdim=True).clamp_min(1)


def exclusive(loss: Any) -> bool:
    """Return whether a mask loss reads its channels as classes that exclude each other (softmax), channel 0 the background.

    MONAI's losses say so themselves, and so do they inside `DeepSupervision` or `AnnotatedLoss`; PyTorch's cross-entropy does.
    """
    parts = list(loss.modules()) if isinstance(loss, nn.Module) else []
    if any(getattr(part, "softmax", False) is True for part in parts):
        return True
    if any(getattr(part, "sigmoid", False) is True for part in parts):
        return False
    # MONAI's combined losses bring both kinds of cross-entropy, whatever they were told
    binary = any(isinstance(part, nn.BCEWithLogitsLoss) for part in parts)
    return not binary and any(isinstance(part, nn.CrossEntropyLoss) for part in parts)


def shown_masks(
    logits: torch.Tensor, label: torch.Tensor, softmax: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return label and probabilities with one channel per structure, in [0, 1].

    Args:
        logits: ``(B, K, *spatial)``.
        label: masks of the same shape; for softmax also one channel of class numbers.
        softmax: the classes exclude each other; the background, channel 0, is left out of both.
    """
    if not softmax or logits.shape[1] == 1:
        return label, logits.sigmoid()
    if label.shape[1] != logits.shape[1]:
        classes = torch.arange(logits.shape[1], device=label.device)
        label = (label == classes.view(1, -1, *[1] * (label.ndim - 2))).float()
    return label[:, 1:], logits.softmax(1)[:, 1:]


def _middle(maps: torch.Tensor) -> torch.Tensor:
    """RGB maps ``(B, 3, h, w)`` of maps ``(B, C, *spatial)``: a volume's middle slice, the first channel where it has not 3."""
    flat = maps[..., maps.shape[-1] // 2] if maps.ndim == 5 else maps
    return flat if flat.shape[1] == 3 else flat[:, :1].expand(-1, 3, -1, -1)


def panel(
    rows: Sequence[Sequence[torch.Tensor]], titles: Sequence[str], side: int = 160, gap: int = 4
) -> Image.Image:
    """Lay RGB maps ``(3, h, w)`` in [0, 1] out as a grid of squares under column titles.

    Args:
        rows: one list of maps per row.
        titles: one title per column.
        side: side of a square in pixels.
        gap: white space between squares in pixels.
    """
    top = 20
    size = (len(titles) * (side + gap) + gap, top + len(rows) * (side + gap))
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for j, title in enumerate(titles):
        draw.text((gap + j * (side + gap), 2), title, fill="black", font=font)
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            sized = F.interpolate(tile[None].float().cpu(), size=(side, side), mode="nearest-exact")[0]
            pixels = (sized.clamp(0, 1) * 255).byte().movedim(0, -1).numpy()
            sheet.paste(Image.fromarray(pixels), (gap + j * (side + gap), top + i * (side + gap)))
    return sheet


class PicturePanel:
    """At the end of every phase, draws validation images with label, prediction, and every live term's maps.

    One row per image: image, label, probability (by the activation that the mask loss names), then target and student map of
    each term in the target's PCA colours. The sheet goes to ``<output_dir>/pictures/<epoch>_<phase>.png`` and to TensorBoard.
    Of a volume the middle slice along its last axis is drawn.

    Args:
        loader: validation batches with ``image``, ``teacher_image`` and ``label``.
        output_dir: the run's folder.
        images: number of rows.
    """

    def __init__(
        self, loader: Iterable[Mapping[str, torch.Tensor]], output_dir: str | os.PathLike, images: int = 4
    ) -> None:
        self.loader = loader
        self.folder = Path(output_dir)
        self.images = images

    def attach(self, engine: DistillationTrainer) -> None:
        """Register with a trainer; the first process of a run draws."""
        if not is_main_rank():
            return
        self.trainer = engine
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._completed)

    def _completed(self, engine: Engine) -> None:
        phase = self.trainer.plan.ends().get(engine.state.epoch)
        if phase is None:
            return
        sheet = self.draw([term for term in self.trainer.targets.terms if phase.uses(term)])
        path = self.folder / "pictures" / f"{engine.state.epoch:03d}_{phase.name}.png"
        with atomic_path(path) as temporary:
            sheet.save(temporary, format="PNG")
        with SummaryWriter(log_dir=str(self.folder / "tensorboard")) as writer:
            writer.add_image("pictures", np.asarray(sheet), engine.state.epoch, dataformats="HWC")

    @torch.no_grad()
    def draw(self, terms: Sequence[str]) -> Image.Image:
        """Return the sheet for the student as it is now."""
        trainer = self.trainer
        batch = next(iter(self.loader))
        image, clean = (
            batch[key][: self.images].to(trainer.state.device) for key in ("image", "teacher_image")
        )
        trainer.distiller.eval()
        logits, mapped = trainer.distiller(image)
        titles = ["image", "label", "prediction"]
        masks = shown_masks(logits, batch["label"][: self.images], exclusive(trainer.objective.segmentation))
        columns = [clean, *map(paint_masks, masks)]
        if terms:
            targets = trainer.targets_of(batch, terms, self.images)
            for name in terms:
                columns += pca_colours(targets[name].float(), mapped[name].float())
                titles += [f"{name}: teacher", f"{name}: student"]
        columns = [_middle(column) for column in columns]
        return panel([[column[i] for column in columns] for i in range(len(clean))], titles)
