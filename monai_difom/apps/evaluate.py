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

from ..metrics import map_scores, mean_scores
from ..utils import load_state, main_rank_only, write_json
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
    return F.interpolate(probability, size=tuple(size), mode="bilinear", align_corners=False)[0, 0].cpu()


def evaluate_set(
    network: nn.Module,
    items: Sequence[Mapping[str, str]],
    chain: Compose,
    device: torch.device | str = "cpu",
    threshold: float = 0.5,
    title: str = "",
    **options: Any,
) -> list[dict[str, Any]]:
    """Score every image of a set.

    Args:
        network: student, one tensor of logits in eval mode; its mode is restored.
        items: dicts with ``image`` and ``label`` paths.
        chain: loading chain, see `monai_difom.data.evaluation_chain`.
        device: where the network is.
        threshold: probability from which a pixel is foreground.
        title: title of the progress bar.
        options: ``spacing`` and ``tolerance`` of `map_scores`.

    Returns:
        One dict an image: ``image`` (path) and what `map_scores` finds for the student's probabilities.
    """
    was_training = network.training
    network.eval()
    rows = []
    for item in tqdm(items, desc=title, unit="image", leave=False, disable=None if title else True):
        data = chain(dict(item))
        mask = np.asarray(data["label"][0]) > 0.5
        probability = predict_probability(network, torch.as_tensor(data["image"]).to(device), mask.shape)
        # interpolation may leave [0, 1] by a rounding error
        scores = map_scores(probability.clamp(0, 1).numpy(), mask, threshold, **options)
        rows.append({"image": item["image"], **scores})
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
        options: ``spacing`` and ``tolerance`` of `map_scores`.

    Returns:
        Set name -> result of `mean_scores`; distances are in pixels of the mask unless a spacing is given.
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
        rows = evaluate_set(network, items, chain, device, threshold, title=name, **options)
        scores[name] = mean_scores(rows)
        logger.info(
            "%s: n %d, Dice %.4f, IoU %.4f, S-measure %.4f, HD95 %.2f",
            name,
            *(scores[name][k] for k in ("n", "dice", "iou", "s_measure", "hd95")),
        )
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
    scores = evaluate_sets(network, sets, chain, device, threshold, output_dir, weights, **measure)
    settings = {"threshold": threshold, **measure, "unit": "px" if spacing is None else "mm"}
    content = {"weights": str(weights), "test_sets": scores, "settings": settings}
    write_json(Path(output_dir) / "evaluation.json", content)
    return scores
