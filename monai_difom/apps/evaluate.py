"""Score a student on folders of images, per image and at the size of the mask."""

from __future__ import annotations

import csv
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

from ..metrics import image_scores, mean_scores
from ..utils import atomic_path, load_state, write_json

logger = logging.getLogger(__name__)
SCORES = ("dice", "iou", "hd95", "empty_mask", "undefined_hd95")


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
) -> list[dict[str, Any]]:
    """Score every image of a set.

    Args:
        network: student, one tensor of logits in eval mode; its mode is restored.
        items: dicts with ``image`` and ``label`` paths.
        chain: loading chain, see `monai_difom.data.evaluation_chain`.
        device: where the network is.
        threshold: probability from which a pixel is foreground.
        title: title of the progress bar.

    Returns:
        One dict an image: ``image`` (path) and the scores of `image_scores`.
    """
    was_training = network.training
    network.eval()
    rows = []
    for item in tqdm(items, desc=title, unit="image", leave=False, disable=None if title else True):
        data = chain(dict(item))
        mask = np.asarray(data["label"][0]) > 0.5
        probability = predict_probability(network, torch.as_tensor(data["image"]).to(device), mask.shape)
        rows.append({"image": item["image"], **image_scores(probability.numpy() >= threshold, mask)})
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

    Returns:
        Set name -> ``n, dice, iou, hd95, empty_masks, undefined_hd95``; HD95 in pixels of the mask.
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
        rows = evaluate_set(network, items, chain, device, threshold, title=name)
        scores[name] = mean_scores(rows)
        logger.info(
            "%s: n %d, Dice %.4f, IoU %.4f, HD95 %.2f",
            name,
            *(scores[name][k] for k in ("n", "dice", "iou", "hd95")),
        )
        if output_dir is not None:
            _write_rows(Path(output_dir) / f"{name}.csv", rows)
    return scores


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=["image", *SCORES])
        writer.writeheader()
        writer.writerows({key: row[key] for key in ("image", *SCORES)} for row in rows)


def evaluate_bundle(
    network: nn.Module,
    sets: Mapping[str, Sequence[Mapping[str, str]]],
    chain: Compose,
    weights: str | os.PathLike,
    output_dir: str | os.PathLike,
    device: torch.device | str = "cpu",
    threshold: float = 0.5,
) -> dict[str, dict[str, float]]:
    """Score a trained student and write ``evaluation.json`` beside one CSV a test set; see `evaluate_sets`.

    Raises:
        ValueError: the data set holds no test set.
    """
    if not sets:
        raise ValueError(
            "dataset_dir holds no test set. Allowed: TestDataset/<set>/{images,masks} or TestDB/<set>/{images,masks}."
        )
    scores = evaluate_sets(network, sets, chain, device, threshold, output_dir, weights)
    write_json(Path(output_dir) / "evaluation.json", {"weights": str(weights), "test_sets": scores})
    return scores
