"""Score a student on images, at the size of the mask, or on volumes, on the grid of the file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import SimpleInferer
from monai.transforms import Compose
from torch import nn
from tqdm import tqdm

from ...data import image_group, is_volume, voxel_size
from ...losses import MISSING
from ...metrics import SCORES, image_scores, map_scores, mean_of_structures, mean_scores
from ...networks.student import load_network_state
from ...utils import load_state, main_rank_only, write_json
from ...utils.probabilities import checked_probabilities
from ..runs.folder import RunFolder
from .score_files import write_scores
from .volumes import predict_volume

logger = logging.getLogger(__name__)
# the last one is followed by the unit
LOGGED = ("dice", "iou", "s_measure", "hd95")


def unit_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the unit of the distances in `evaluate_set`'s rows: ``"mm"`` or ``"px"``."""
    return "mm" if all("spacing" in row for row in rows) else "px"


@torch.no_grad()
def predict_probability(network: nn.Module, image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return the foreground probability ``(H, W)`` of one prepared image ``(C, h, w)`` at ``size``.

    The probability is interpolated, not the mask: a threshold before the resize would leave stairs.

    Args:
        network: gives logits of one channel (sigmoid) or two (softmax, the second is the foreground).
        image: normalised, on the network's device.
        size: ``(H, W)`` of the result.

    Raises:
        ValueError: the network gives NaN.
    """
    logits = network(image[None])
    probability = (
        torch.sigmoid(logits.float()) if logits.shape[1] == 1 else torch.softmax(logits.float(), 1)[:, 1:2]
    )
    return _resized(probability, size)[0]


@torch.no_grad()
def predict_structures(network: nn.Module, image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Return the probability ``(K, H, W)`` of every structure of one prepared image ``(C, h, w)`` at ``size``.

    Args:
        network: gives logits of one channel per structure; structures may overlap.
        image: normalised, on the network's device.
        size: ``(H, W)`` of the result.
    """
    return _resized(torch.sigmoid(network(image[None]).float()), size)


def _resized(probability: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    sized = F.interpolate(
        checked_probabilities(probability), size=tuple(size), mode="bilinear", align_corners=False
    )
    return sized[0].clamp(0, 1).cpu()  # interpolation may leave [0, 1] by a rounding error


def evaluate_set(
    network: nn.Module,
    items: Sequence[Mapping[str, str]],
    chain: Compose,
    device: torch.device | str = "cpu",
    threshold: float = 0.5,
    title: str = "",
    spacing: Sequence[float] | None = None,
    inferer: Callable = SimpleInferer(),  # noqa: B008 - it has no state
    structures: Sequence[str] | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Score every image, or every volume, of a set; of many structures each one that was annotated there.

    Volumes are scored on the grid of their file, in millimetres (the size of a voxel is in the file), by `image_scores`;
    they have one structure. Images are scored in millimetres where every item of the set has a ``spacing``, else in pixels.

    Args:
        network: student, one tensor of logits in eval mode; its mode is restored.
        items: dicts with ``image`` and ``label`` paths.
        chain: loading chain, see `monai_difom.data.evaluation_chain`.
        device: where the network is.
        threshold: probability from which a pixel is foreground.
        title: title of the progress bar.
        spacing: size of a pixel along each axis (millimetres), of all images; None takes that of each item or file.
        inferer: runs the network on a volume, usually `SlidingWindowInferer`.
        structures: names of the channels of student and masks; None for one binary mask.
        options: ``tolerance`` of `map_scores`.

    Returns:
        One dict per image: ``image`` (path), ``spacing`` where it is known, and what `map_scores` finds for the student's
        probabilities. Of several structures one dict per image and annotated structure, with ``structure``. With ``group``
        where the item's is not in its file name.

    Raises:
        ValueError: the student has another number of channels than there are structures.
    """
    several = structures is not None and len(structures) > 1
    was_training = network.training
    network.eval()
    rows = []
    known = spacing is None and all("spacing" in item for item in items)
    for item in tqdm(items, desc=title, unit="image", leave=False, disable=None if title else True):
        data = chain(dict(item))
        masks = np.asarray(data["label"])
        steps: Any = item["spacing"] if known else spacing
        named: dict[str, Any] = {}
        if item.get("group", image_group(item["image"])) != image_group(item["image"]):
            named["group"] = item["group"]
        if masks.ndim == 4:
            steps = steps if steps is not None else voxel_size(data["label"])
            mask = masks[0] > 0.5
            found = predict_volume(network, data["image"], chain, inferer, device).numpy() >= threshold
            scores = image_scores(found, mask, steps, **options) | {"foreground": int(mask.sum())}
            rows.append({**named, "image": item["image"], **scores, "spacing": tuple(steps)})
            continue
        image = torch.as_tensor(data["image"]).to(device)
        if structures is None:
            maps = predict_probability(network, image, masks.shape[1:])[None]
        else:
            maps = predict_structures(network, image, masks.shape[1:])
            _check_channels(len(maps), structures)
        known_spacing = {"spacing": tuple(steps)} if steps is not None else {}
        for i, mask in enumerate(masks[: len(maps)]):
            if structures is not None and (mask == MISSING).all():
                continue
            if structures is not None and several:
                named["structure"] = structures[i]
            scores = map_scores(maps[i].numpy(), mask > 0.5, threshold, steps, **options)
            rows.append({**named, "image": item["image"], **scores, **known_spacing})
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
    structures: Sequence[str] | None = None,
    **options: Any,
) -> dict[str, dict[str, Any]]:
    """Score a student on test sets and write one CSV per set.

    Args:
        network: student.
        sets: name -> items.
        chain: loading chain, see `monai_difom.data.evaluation_chain`.
        device: where to run.
        threshold: probability from which a pixel is foreground.
        output_dir: folder for ``<set>.csv``; None writes nothing.
        weights: state dict to load first; None keeps the weights that the network has.
        structures: see `evaluate_set`.
        options: ``spacing``, ``inferer`` and ``tolerance`` of `evaluate_set`.

    Raises:
        ValueError: the weights are of another network; names the keys.

    Returns:
        Set name -> result of `mean_scores`; distances are in pixels of the mask unless a spacing is known. Of several
        structures that of `mean_of_structures`, with ``structures`` (name -> its own means, where it was annotated) and
        ``missing`` (name -> images in which nobody annotated it, which count nowhere). With ``unit``, "mm", where distances are
        in millimetres.
    """
    if weights is not None:
        advice = (
            "network_def is not the network that was trained: add the student's overlay of configs/students."
        )
        load_network_state(network, load_state(weights), weights, advice)
    network.to(device)
    scores = {}
    for name, items in sets.items():
        rows = evaluate_set(
            network, items, chain, device, threshold, title=name, structures=structures, **options
        )
        unit = unit_of(rows)
        scores[name] = _means(rows, structures, len(items)) | ({"unit": unit} if unit == "mm" else {})
        known = [SCORES[key] for key in LOGGED if key in scores[name]]
        shown = ", ".join(f"{score.title} {score.show(scores[name][score.name])}" for score in known)
        logger.info("%s: n %d, %s %s", name, scores[name]["n"], shown, unit)
        if output_dir is not None:
            write_scores(RunFolder(output_dir).table(name), rows)
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
    **options: Any,
) -> dict[str, dict[str, Any]]:
    """Score a trained student and write ``evaluation.json`` beside one CSV per test set.

    Args:
        network: the student, without its weights.
        sets: name -> items.
        chain: see `evaluation_chain`.
        weights: state dict of the student.
        output_dir: folder of what is written.
        device: where to run.
        threshold: probability from which a pixel is foreground.
        spacing: size of a pixel in millimetres, by axis; None measures in pixels where an item does not say it.
        tolerance: of the surface Dice, in the same unit.
        structures: names of the channels, where there are several.
        **options: further arguments of `evaluate_sets`.

    Returns:
        Name of the set -> mean scores, see `mean_scores`.

    Raises:
        ValueError: the data set holds no test set.
    """
    if not sets:
        raise ValueError(
            "dataset_dir holds no test set. Allowed: TestDataset/<set>/{images,masks} or TestDB/<set>/{images,masks}."
        )
    measure = {"spacing": spacing, "tolerance": tolerance}
    scores = evaluate_sets(
        network, sets, chain, device, threshold, output_dir, weights, structures, **measure, **options
    )
    own = all(is_volume(item["image"]) or "spacing" in item for items in sets.values() for item in items)
    settings = {"threshold": threshold, **measure, "unit": "mm" if own or spacing is not None else "px"}
    content = {"weights": str(weights), "test_sets": scores, "settings": settings}
    write_json(RunFolder(output_dir).evaluation, content)
    return scores
