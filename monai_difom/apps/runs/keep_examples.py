"""Outlines of every test image of a run, and its worst, median and best images, written after the training: `examples`."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.inferers import SimpleInferer
from monai.transforms import Compose
from skimage.measure import approximate_polygon, find_contours
from torch import nn

from ...losses import MISSING
from ...utils import atomic_path
from ..scoring.evaluate import predict_probability, predict_structures
from ..scoring.volumes import fullest_slice, predict_volume, volume_picture
from .examples import SIDE, picture
from .folder import RunFolder

KINDS = {"worst": 4, "median": 2, "best": 2}


def choose(scores: Sequence[float], kinds: Mapping[str, int] | None = None) -> dict[int, str]:
    """Return index -> ``worst``, ``median`` or ``best``; no image twice, the worst first where there are few.

    Args:
        scores: one score per image, higher is better.
        kinds: how many of each kind.
    """
    wanted = dict(kinds or KINDS)
    order = [int(i) for i in np.argsort(scores, kind="stable")]
    places = {
        "worst": order,
        "median": sorted(order, key=lambda i: abs(order.index(i) - (len(order) - 1) / 2)),
        "best": order[::-1],
    }
    chosen: dict[int, str] = {}
    for kind, count in wanted.items():
        free = [i for i in places[kind] if i not in chosen]
        chosen.update(dict.fromkeys(free[:count], kind))
    return chosen


def outline(area: np.ndarray, level: float = 0.5) -> str:
    """Return the outlines of a map as the data of an SVG path, in pixels of the map.

    Args:
        area: ``(H, W)``, probabilities or a mask.
        level: where the outline runs.
    """
    padded = np.pad(area.astype(float), 1)
    tolerance = max(area.shape) / 800
    parts = []
    for line in find_contours(padded, level):
        points = approximate_polygon(line - 0.5, tolerance)
        if len(points) > 3:
            # a pixel's centre lies half a pixel inside of its border
            parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for y, x in points[:-1]) + "Z")
    return "".join(parts)


@torch.no_grad()
def save_examples(
    network: nn.Module,
    sets: Mapping[str, Sequence[Mapping[str, str]]],
    chain: Compose,
    output_dir: str | os.PathLike,
    device: torch.device | str = "cpu",
    threshold: float = 0.5,
    inferer: Callable = SimpleInferer(),  # noqa: B008 - it has no state
    structures: Sequence[str] | None = None,
) -> None:
    """Write ``examples/<set>.json`` of every test set. Of a volume the slice with the largest mask is shown and counted.

    The file holds ``images``: path -> ``height, width, foreground`` (pixels of the mask), ``dice``, ``truth`` and
    ``prediction`` (outlines), and for the worst, median and best images ``kind`` and ``jpeg`` (base64).

    Args:
        network: the trained student.
        sets: name -> items with ``image`` and ``label``.
        chain: loading chain, see `monai_difom.data.evaluation_chain`.
        output_dir: the run's folder.
        device: where to run.
        threshold: probability from which a pixel is foreground.
        inferer: runs the network on a volume.
        structures: names of the channels, None for one binary mask. Outlines are then those of all structures that an image
            is annotated for, ``foreground`` their union and ``dice`` their mean.
    """
    was_training = network.training
    network.to(device).eval()
    for name, items in sets.items():
        entries = {}
        places: dict[str, int] = {}
        for item in items:
            data = chain(dict(item))
            masks = np.asarray(data["label"])
            if masks.ndim == 4:
                mask = masks[0] > 0.5
                whole = predict_volume(network, data["image"], chain, inferer, device)
                place = places[item["image"]] = fullest_slice(mask)
                entries[item["image"]] = _entry([mask[..., place]], [whole[..., place].numpy()], threshold)
                continue
            image, size = torch.as_tensor(data["image"]).to(device), masks.shape[1:]
            if structures is None:
                maps = predict_probability(network, image, size).numpy()[None]
            else:
                maps = predict_structures(network, image, size).numpy()
            pairs = [(m, p) for m, p in zip(masks, maps, strict=False) if not (m == MISSING).all()]
            if pairs:
                entries[item["image"]] = _entry([m > 0.5 for m, _ in pairs], [p for _, p in pairs], threshold)
        paths = list(entries)
        for index, kind in choose([entries[path]["dice"] for path in paths]).items():
            path = paths[index]
            shown = volume_picture(path, places[path], SIDE) if path in places else picture(path)
            jpeg = base64.b64encode(shown).decode("ascii")
            entries[paths[index]].update(kind=kind, jpeg=jpeg)
        with atomic_path(RunFolder(output_dir).example(name)) as temporary:
            temporary.write_text(json.dumps({"threshold": threshold, "images": entries}), encoding="utf-8")
    network.train(was_training)


def _entry(masks: Sequence[np.ndarray], maps: Sequence[np.ndarray], threshold: float) -> dict[str, Any]:
    """What is kept of one image: outlines, and the mean Dice, of its structures."""
    dice = []
    for mask, probability in zip(masks, maps, strict=True):
        found = probability >= threshold
        total = int(found.sum() + mask.sum())
        dice.append(2 * int((found & mask).sum()) / total if total else 1.0)
    return {
        "height": masks[0].shape[0],
        "width": masks[0].shape[1],
        "foreground": int(np.any(masks, axis=0).sum()),
        "dice": round(float(np.mean(dice)), 4),
        "truth": "".join(outline(mask) for mask in masks),
        "prediction": "".join(outline(probability, threshold) for probability in maps),
    }
