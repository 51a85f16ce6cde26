"""All scores of one image, and their means over images and structures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..utils.names import unknown_name
from .grey_maps import GreyMap, to_levels
from .overlap import overlap_scores
from .scores import MARKS, SCORES
from .surface import surface_scores

OVERLAP = ("dice", "iou", "precision", "recall")
AVERAGED = ("mean_dice_256", "mean_iou_256")
ALIGNMENT = ("e_measure_max", "e_measure_mean")
SURFACE = ("hd95", "nsd")


def image_scores(
    prediction: np.ndarray, mask: np.ndarray, spacing: Sequence[float] | None = None, tolerance: float = 2.0
) -> dict[str, float]:
    """Score one binary prediction, an image or a volume, against its mask.

    Conventions: an empty prediction of an empty mask is right (Dice, IoU, precision, recall and NSD 1, HD95 0). Where
    only one of the two is empty they are 0, and HD95, which is not defined, is the diagonal of the image. Such images
    are marked, so that a mean can be read with their number beside it.

    Args:
        prediction: boolean array, ``(H, W)`` or ``(D, H, W)``; of numbers, what is not 0 is foreground.
        mask: array of the same shape, likewise.
        spacing: size of a pixel along each axis (millimetres); distances are in pixels without it.
        tolerance: distance up to which an edge pixel counts as found by ``nsd``, in the unit of the spacing.

    Returns:
        ``dice, iou, precision, recall, hd95, nsd`` (see `overlap_scores` and `surface_scores`) and, 0 or 1,
        ``empty_mask``, ``false_positive`` (the mask is empty and the prediction is not) and ``undefined_hd95``.

    Raises:
        ValueError: the shapes differ; see `surface_scores`.
    """
    _check_shapes(prediction, mask)
    p, m = prediction.astype(bool), mask.astype(bool)
    return {**overlap_scores(p, m), **surface_scores(p, m, spacing, tolerance), **_marks(p, m)}


def map_scores(
    prediction: np.ndarray,
    mask: np.ndarray,
    threshold: float = 0.5,
    spacing: Sequence[float] | None = None,
    tolerance: float = 2.0,
    scores: Collection[str] = SCORES,
) -> dict[str, Any]:
    """Score one map of foreground probability against its mask, by everything that the field reports.

    Dice, IoU, precision, recall, HD95 and NSD are of the map thresholded at ``threshold``, see `image_scores`. The
    others are of its 8-bit levels, as published tables are, see `GreyMap`: ``mean_dice_256`` and ``mean_iou_256`` (PraNet's
    protocol), ``mae``, ``weighted_f``, ``s_measure``, ``e_measure_max`` and ``e_measure_mean`` (maximum and mean over the
    thresholds of this image). Convention: of an empty mask ``weighted_f`` is 1 without and 0 with false positives.

    Args:
        prediction: ``(H, W)``: floats in [0, 1], or uint8, uint16 or boolean, whose range stands for [0, 1].
        mask: ``(H, W)``; what is not 0 is foreground.
        threshold: share of the range from which a pixel is foreground.
        spacing: see `image_scores`.
        tolerance: see `image_scores`.
        scores: which scores are wanted; fewer take less time.

    Returns:
        The wanted scores in the order of ``SCORES``; ``height``, ``width``, ``foreground`` (pixels of the mask),
        ``empty_mask``, ``false_positive``, ``undefined_hd95`` (0 where HD95 is not wanted); and, when an E-measure is wanted,
        ``e_curve``: ``(256,)``, the E-measure at the thresholds 255 to 0, which `mean_scores` needs.

    Raises:
        ValueError: the shapes differ or are not 2D, an unknown score, a threshold outside [0, 1]; see `to_levels`.
    """
    _check_shapes(prediction, mask)
    if prediction.ndim != 2:
        raise ValueError(f"a map is (H, W), not {prediction.shape}; of volumes use image_scores.")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; allowed is a share of the range, from 0 to 1.")
    for name in scores:
        if name not in SCORES:
            raise ValueError(unknown_name("score", name, SCORES))
    levels, m = to_levels(prediction), np.asarray(mask, bool)
    p = _foreground(prediction, threshold)
    marks = _marks(p, m)
    found: dict[str, Any] = {}
    if set(scores) & set(OVERLAP):
        found.update(overlap_scores(p, m))
    if set(scores) & set(SURFACE):
        found.update(surface_scores(p, m, spacing, tolerance))
    grey = set(scores) - set(OVERLAP) - set(SURFACE)
    curve = _grey_scores(GreyMap(levels, m), grey, marks, found) if grey else {}
    sizes = {"height": m.shape[0], "width": m.shape[1], "foreground": int(np.count_nonzero(m))}
    wanted = {name: found[name] for name in SCORES if name in scores}
    return {**wanted, **sizes, **marks, "undefined_hd95": found.get("undefined_hd95", 0.0), **curve}


def _check_shapes(prediction: np.ndarray, mask: np.ndarray) -> None:
    if prediction.shape != mask.shape:
        raise ValueError(f"prediction {prediction.shape} and mask {mask.shape} differ in size.")


def _foreground(prediction: np.ndarray, threshold: float) -> np.ndarray:
    if np.issubdtype(prediction.dtype, np.unsignedinteger):
        # the first level of the range that is at the threshold or above: comparing integers takes no copy
        top = np.iinfo(prediction.dtype).max
        return prediction >= np.flatnonzero(np.arange(top + 1) / top >= threshold)[0].astype(prediction.dtype)
    return prediction >= threshold if prediction.dtype != bool else prediction


def _marks(prediction: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    empty = not mask.any()
    return {"empty_mask": float(empty), "false_positive": float(empty and bool(prediction.any()))}


def _grey_scores(
    counted: GreyMap, wanted: Collection[str], marks: Mapping[str, float], found: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Add the scores of grey levels to ``found``; return the curve of the E-measure where it is wanted."""
    if set(wanted) & set(AVERAGED):
        found.update(zip(AVERAGED, counted.threshold_means(), strict=True))
    if "mae" in wanted:
        found["mae"] = counted.mean_absolute_error()
    if "weighted_f" in wanted:
        empty = marks["empty_mask"]
        found["weighted_f"] = 1 - marks["false_positive"] if empty else counted.weighted_f()
    if "s_measure" in wanted:
        found["s_measure"] = counted.structure_measure()
    if not set(wanted) & set(ALIGNMENT):
        return {}
    curve = counted.alignment_curve()
    found.update(e_measure_max=float(curve.max()), e_measure_mean=float(curve.mean()))
    return {"e_curve": curve}


def mean_scores(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the means over images of every score that all rows hold, and what has to be known beside them.

    ``e_measure_max`` of a set is the field's: the maximum over thresholds of the mean curve, one threshold for all
    images (PraNet's published .979 on CVC-ClinicDB). The mean of the images' own maxima, which lets each image choose
    its threshold, is higher (.984 there).

    Args:
        rows: results of `map_scores` or `image_scores`.

    Returns:
        ``n``; the means; and the numbers of images ``empty_masks``, ``false_positives`` (empty masks in which
        something was found; Dice and the like count 0 there) and ``undefined_hd95``.

    Raises:
        ValueError: there are no rows; rows with a maximum E-measure but without its curve.
    """
    rows = list(rows)
    if not rows:
        raise ValueError("no images to average: the test set is empty.")
    means: dict[str, float] = {"n": len(rows)}
    for key in SCORES:
        if all(key in row for row in rows):
            means[key] = float(np.mean([row[key] for row in rows]))
    if "e_measure_max" in means:
        if not all("e_curve" in row for row in rows):
            raise ValueError(
                "the maximum E-measure of a set needs the e_curve of every image, see map_scores."
            )
        means["e_measure_max"] = float(np.mean([row["e_curve"] for row in rows], axis=0).max())
    for mark in MARKS.values():
        means[mark.total] = int(sum(row[mark.name] for row in rows))
    return means


def mean_of_structures(means: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the mean over structures of the scores of each, and the sums of its counts.

    Args:
        means: structure -> result of `mean_scores`. Every structure weighs the same, however large or frequent.

    Returns:
        ``n`` (images, the largest of the structures' numbers), the scores and the counts as in `mean_scores`.

    Raises:
        ValueError: no structures.
    """
    if not means:
        raise ValueError("no structures to average.")
    columns = list(means.values())
    out: dict[str, float] = {"n": max(int(column["n"]) for column in columns)}
    for key in SCORES:
        if all(key in column for column in columns):
            out[key] = float(np.mean([column[key] for column in columns]))
    for mark in MARKS.values():
        out[mark.total] = int(sum(column[mark.total] for column in columns))
    return out


def structure_scores(
    prediction: np.ndarray, mask: np.ndarray, structures: Mapping[str, int] | Sequence[str], **options: Any
) -> dict[str, dict[str, Any]]:
    """Score every structure of one image with several, each against the rest.

    Args:
        prediction: multi-class: labels ``(H, W)``. Multi-label, where structures may overlap: maps ``(C, H, W)``.
        mask: labels ``(H, W)``, or masks ``(C, H, W)``.
        structures: multi-class: name -> label, the background left out. Multi-label: the names of the channels.
        options: further arguments of `map_scores`.

    Returns:
        Structure -> result of `map_scores`. A structure that is absent from the mask is scored by the conventions for
        empty masks.

    Raises:
        ValueError: the number of channels is not that of the names; see `map_scores`.
    """
    if isinstance(structures, Mapping):
        return {
            name: map_scores(prediction == label, mask == label, **options)
            for name, label in structures.items()
        }
    if not len(prediction) == len(mask) == len(structures):
        raise ValueError(
            f"{len(prediction)} maps and {len(mask)} masks are given for {len(structures)} structures: "
            f"{', '.join(structures)}. Give (C, H, W) with one channel a name."
        )
    return {name: map_scores(prediction[i], mask[i], **options) for i, name in enumerate(structures)}
