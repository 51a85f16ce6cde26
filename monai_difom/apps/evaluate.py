"""Score a student on folders of images, per image and at the size of the mask."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import Compose
from torch import nn
from tqdm import tqdm

from ..data import image_group
from ..losses import MISSING
from ..metrics import map_scores, mean_of_structures, mean_scores
from ..utils import load_state, write_json
from .score_files import write_scores

logger = logging.getLogger(__name__)


@torch.no_grad()
def predict_probability(network: nn.Module, image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return the foreground probability ``(H, W)`` of one prepared image ``(C, h, w)`` at ``size``.

    The probability is interpolated, not the mask: a threshold before the resize would leave stairs.
    """
    logits = network(image[None])
    probability = (
        torch.sigmoid(logits.float()) if logits.shape[1] == 1 else torch.softmax(logits.float(), 1)[:, 1:2]
    )
    return _resized(probability, size)[0]


@torch.no_grad()
def predict_structures(network: nn.Module, image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return the probability ``(K, H, W)`` of every structure, one a channel, of one prepared image ``(C, h, w)`` at ``size``."""
    return _resized(torch.sigmoid(network(image[None]).float()), size)


def _resized(probability: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    sized = F.interpolate(probability, size=tuple(size), mode="bilinear", align_corners=False)
    return sized[0].clamp(0, 1).cpu()  # interpolation may leave [0, 1] by a rounding error


def evaluate_set(
    network: nn.Module,
    items: Sequence[Mapping[str, str]],
    chain: Compose,
    device: torch.device | str = "cpu",
    threshold: float = 0.5,
    title: str = "",
    structures: Sequence[str] | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Score every image of a set, of many structures each one that was annotated there.

    Args:
        network: student, one tensor of logits in eval mode; its mode is restored.
        items: dicts with ``image`` and ``label`` paths.
        chain: loading chain, see `monai_difom.data.evaluation_chain`.
        device: where the network is.
        threshold: probability from which a pixel is foreground.
        title: title of the progress bar.
        structures: names of the channels of student and masks; None for one binary mask.
        options: ``spacing`` and ``tolerance`` of `map_scores`.

    Returns:
        One dict an image: ``image`` (path) and what `map_scores` finds for the student's probabilities. Of several structures
        one dict an image and annotated structure, with ``structure``. With ``group`` where the item's is not in its file name.

    Raises:
        ValueError: the student has another number of channels than there are structures.
    """
    several = structures is not None and len(structures) > 1
    was_training = network.training
    network.eval()
    rows = []
    for item in tqdm(items, desc=title, unit="image", leave=False, disable=None if title else True):
        data = chain(dict(item))
        masks, image = np.asarray(data["label"]), torch.as_tensor(data["image"]).to(device)
        if structures is None:
            found = predict_probability(network, image, masks.shape[1:])[None]
        else:
            found = predict_structures(network, image, masks.shape[1:])
            _check_channels(len(found), structures)
        for i, mask in enumerate(masks[: len(found)]):
            if structures is not None and (mask == MISSING).all():
                continue
            named = {"structure": structures[i]} if several else {}  # type: ignore[index]
            if item.get("group", image_group(item["image"])) != image_group(item["image"]):
                named["group"] = item["group"]
            scores = map_scores(found[i].numpy(), mask > 0.5, threshold, **options)
            rows.append({**named, "image": item["image"], **scores})
    network.train(was_training)
    return rows


def evaluate_sets(
    network: nn.Module,
    sets: Mapping[str, Sequence[Mapping[str, str]]],
    chain: Compose,
    device: torch.device | str = "cpu",
    threshold: float = 0.5,
    output_dir: str | os.PathLike | None = None,
    weights: str | os.PathLike | None = None,
    structures: Sequence[str] | None = None,
    **options: Any,
) -> dict[str, dict[str, Any]]:
    """Score a student on test sets and write one CSV a set.

    Args:
        network: student.
        sets: name -> items.
        chain: loading chain, see `monai_difom.data.evaluation_chain`.
        device: where to run.
        threshold: probability from which a pixel is foreground.
        output_dir: folder for ``<set>.csv``; None writes nothing.
        weights: state dict to load first; None keeps the weights that the network has.
        structures: see `evaluate_set`.
        options: ``spacing`` and ``tolerance`` of `map_scores`.

    Returns:
        Set name -> result of `mean_scores`; distances are in pixels of the mask unless a spacing is given. Of several
        structures that of `mean_of_structures`, with ``structures`` (name -> its own means, where it was annotated) and
        ``missing`` (name -> images in which nobody annotated it, which count nowhere).
    """
    if weights is not None:
        # a network with side latents has heads that the exported file does not
        dropped = tuple(getattr(network, "training_only", ()))
        outcome = network.load_state_dict(load_state(weights, device), strict=False)
        missing = [key for key in outcome.missing_keys if not (dropped and key.startswith(dropped))]
        if missing or outcome.unexpected_keys:
            raise ValueError(
                f"{weights} is of another network: missing {missing[:3] or 'none'}, "
                f"unknown {outcome.unexpected_keys[:3] or 'none'}."
            )
    network.to(device)
    scores = {}
    for name, items in sets.items():
        rows = evaluate_set(network, items, chain, device, threshold, name, structures, **options)
        scores[name] = _means(rows, structures, len(items))
        logger.info(
            "%s: n %d, Dice %.4f, IoU %.4f, S-measure %.4f, HD95 %.2f",
            name,
            *(scores[name][k] for k in ("n", "dice", "iou", "s_measure", "hd95")),
        )
        if output_dir is not None:
            write_scores(Path(output_dir) / f"{name}.csv", rows)
    return scores


def _means(
    rows: Sequence[Mapping[str, Any]], structures: Sequence[str] | None, images: int
) -> dict[str, Any]:
    """The means of a set, and of several structures those of each."""
    if structures is None or len(structures) == 1:
        return mean_scores(rows)
    own = {name: [row for row in rows if row["structure"] == name] for name in structures}
    by_name = {name: mean_scores(found) for name, found in own.items() if found}
    missing = {name: images - len(found) for name, found in own.items()}
    return {**mean_of_structures(by_name), "structures": by_name, "missing": missing}


@torch.no_grad()
def check_student(network: nn.Module, image_size: int | Sequence[int], structures: Sequence[str]) -> None:
    """Run a student once, so that one with the wrong number of channels is refused before any training.

    Args:
        network: student of RGB images; its mode is restored.
        image_size: side, or ``(height, width)``.
        structures: names of the structures.

    Raises:
        ValueError: it has not one output channel for each structure.
    """
    was_training = network.training
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    logits = network.eval()(torch.zeros(1, 3, *sides))
    network.train(was_training)
    _check_channels(logits.shape[1], structures)


def _check_channels(channels: int, structures: Sequence[str]) -> None:
    if channels != len(structures):
        raise ValueError(
            f"the student gives {channels} channel(s), but there are {len(structures)} structure(s): {', '.join(structures)}. "
            f"Give it one for each: --network_def#out_channels {len(structures)}."
        )


def evaluate_bundle(
    network: nn.Module,
    sets: Mapping[str, Sequence[Mapping[str, str]]],
    chain: Compose,
    weights: str | os.PathLike,
    output_dir: str | os.PathLike,
    device: torch.device | str = "cpu",
    threshold: float = 0.5,
    spacing: Sequence[float] | None = None,
    tolerance: float = 2.0,
    structures: Sequence[str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Score a trained student and write ``evaluation.json`` beside one CSV a test set; see `evaluate_sets`.

    Raises:
        ValueError: the data set holds no test set.
    """
    if not sets:
        raise ValueError(
            "dataset_dir holds no test set. Allowed: TestDataset/<set>/{images,masks} or TestDB/<set>/{images,masks}."
        )
    measure = {"spacing": spacing, "tolerance": tolerance}
    scores = evaluate_sets(
        network, sets, chain, device, threshold, output_dir, weights, structures, **measure
    )
    settings = {"threshold": threshold, **measure, "unit": "px" if spacing is None else "mm"}
    content = {"weights": str(weights), "test_sets": scores, "settings": settings}
    write_json(Path(output_dir) / "evaluation.json", content)
    return scores
