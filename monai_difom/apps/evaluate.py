"""Score a student on images, at the size of the mask, or on volumes, on the grid of the file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import SimpleInferer
from monai.transforms import Compose
from torch import nn
from tqdm import tqdm

from ..data import is_volume, voxel_size
from ..metrics import image_scores, map_scores, mean_scores
from ..networks.weights import fill_network
from ..utils import load_state, main_rank_only, write_json
from .score_files import write_scores
from .volumes import predict_volume

logger = logging.getLogger(__name__)


def unit_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the unit of the distances in `evaluate_set`'s rows: ``"mm"`` or ``"px"``."""
    return "mm" if all("spacing" in row for row in rows) else "px"


@torch.no_grad()
def predict_probability(network: nn.Module, image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return the foreground probability ``(H, W)`` of one prepared image ``(C, h, w)`` at ``size``.

    The probability is interpolated, not the mask: a threshold before the resize would leave stairs.
    """
    logits = network(image[None])
    probability = (
        torch.sigmoid(logits.float()) if logits.shape[1] == 1 else torch.softmax(logits.float(), 1)[:, 1:2]
    )
    return F.interpolate(probability, size=tuple(size), mode="bilinear", align_corners=False)[0, 0].cpu()


def evaluate_set(
    network: nn.Module,
    items: Sequence[Mapping[str, str]],
    chain: Compose,
    device: torch.device | str = "cpu",
    threshold: float = 0.5,
    title: str = "",
    spacing: Sequence[float] | None = None,
    inferer: Callable = SimpleInferer(),  # noqa: B008 - it has no state
    **options: Any,
) -> list[dict[str, Any]]:
    """Score every image, or every volume, of a set.

    Volumes are scored on the grid of their file, in millimetres (the size of a voxel is in the file), by `image_scores`.
    Images are scored in millimetres where every item of the set has a ``spacing``, else in pixels.

    Args:
        network: student, one tensor of logits in eval mode; its mode is restored.
        items: dicts with ``image`` and ``label`` paths.
        chain: loading chain, see `monai_difom.data.evaluation_chain`.
        device: where the network is.
        threshold: probability from which a pixel is foreground.
        title: title of the progress bar.
        spacing: size of a pixel along each axis (millimetres), of all images; None takes that of each item or file.
        inferer: runs the network on a volume, usually `SlidingWindowInferer`.
        options: ``tolerance`` of `map_scores`.

    Returns:
        One dict an image: ``image`` (path), ``spacing`` where it is known, and what `map_scores` finds for the student's
        probabilities.
    """
    was_training = network.training
    network.eval()
    rows = []
    known = spacing is None and all("spacing" in item for item in items)
    for item in tqdm(items, desc=title, unit="image", leave=False, disable=None if title else True):
        data = chain(dict(item))
        mask = np.asarray(data["label"][0]) > 0.5
        steps = item["spacing"] if known else spacing
        if mask.ndim == 3:
            steps = steps if steps is not None else voxel_size(data["label"])
            found = predict_volume(network, data["image"], chain, inferer, device).numpy() >= threshold
            scores = image_scores(found, mask, steps, **options) | {"foreground": int(mask.sum())}
        else:
            probability = predict_probability(network, torch.as_tensor(data["image"]).to(device), mask.shape)
            # interpolation may leave [0, 1] by a rounding error
            scores = map_scores(probability.clamp(0, 1).numpy(), mask, threshold, steps, **options)
        rows.append(
            {"image": item["image"], **scores, **({"spacing": tuple(steps)} if steps is not None else {})}
        )
    network.train(was_training)
    return rows


@main_rank_only
def evaluate_sets(
    network: nn.Module,
    sets: Mapping[str, Sequence[Mapping[str, str]]],
    chain: Compose,
    device: torch.device | str = "cpu",
    threshold: float = 0.5,
    output_dir: str | os.PathLike | None = None,
    weights: str | os.PathLike | None = None,
    **options: Any,
) -> dict[str, dict[str, float]]:
    """Score a student on test sets and write one CSV a set.

    Args:
        network: student.
        sets: name -> items.
        chain: loading chain, see `monai_difom.data.evaluation_chain`.
        device: where to run.
        threshold: probability from which a pixel is foreground.
        output_dir: folder for ``<set>.csv``; None writes nothing.
        weights: state dict to load first; None keeps the weights that the network has.
        options: ``spacing``, ``inferer`` and ``tolerance`` of `evaluate_set`.

    Raises:
        ValueError: the weights are of another network; names the keys.

    Returns:
        Set name -> result of `mean_scores`; distances are in pixels of the mask unless a spacing is known.
    """
    if weights is not None:
        # a network with side latents has heads that the exported file does not
        dropped = tuple(getattr(network, "training_only", ()))
        own = {
            key: value for key, value in network.state_dict().items() if dropped and key.startswith(dropped)
        }
        advice = (
            "network_def is not the network that was trained: add the student's overlay of configs/students."
        )
        fill_network(network, {**own, **load_state(weights)}, weights, advice)
    network.to(device)
    scores = {}
    for name, items in sets.items():
        rows = evaluate_set(network, items, chain, device, threshold, title=name, **options)
        scores[name] = mean_scores(rows)
        titles = {"dice": "Dice", "iou": "IoU", "s_measure": "S-measure", "hd95": "HD95"}
        shown = ", ".join(f"{t} {scores[name][k]:.4g}" for k, t in titles.items() if k in scores[name])
        logger.info("%s: n %d, %s %s", name, scores[name]["n"], shown, unit_of(rows))
        if output_dir is not None:
            write_scores(Path(output_dir) / f"{name}.csv", rows)
    return scores


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
    **options: Any,
) -> dict[str, dict[str, float]]:
    """Score a trained student and write ``evaluation.json`` beside one CSV a test set; see `evaluate_sets`.

    Raises:
        ValueError: the data set holds no test set.
    """
    if not sets:
        raise ValueError(
            "dataset_dir holds no test set. Allowed: TestDataset/<set>/{images,masks} or TestDB/<set>/{images,masks}."
        )
    measure = {"spacing": spacing, "tolerance": tolerance}
    scores = evaluate_sets(network, sets, chain, device, threshold, output_dir, weights, **measure, **options)
    own = all(is_volume(item["image"]) or "spacing" in item for items in sets.values() for item in items)
    settings = {"threshold": threshold, **measure, "unit": "mm" if own or spacing is not None else "px"}
    content = {"weights": str(weights), "test_sets": scores, "settings": settings}
    write_json(Path(output_dir) / "evaluation.json", content)
    return scores
