"""Score folders of prediction maps, written by any program, against folders of masks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ... import __version__
from ...data.folder_files import files_by_stem
from ...data.maps import read_labels, read_map, read_mask, resize_map
from ...metrics import map_scores, mean_of_structures, mean_scores
from ...metrics.grey_maps import one_thread_each
from ...transforms.picture_file import PICTURE_SUFFIXES
from ...utils import few, listed, write_json
from .score_files import score_table, write_scores

SHOWN = 20
_DARK = "no level above 1 of 255, counts as empty (masks must be saved with 0 and 255)"


@dataclass
class FolderScores:
    """What `evaluate_folders` finds.

    Attributes:
        rows: one dict per image (and structure), as `monai_difom.metrics.map_scores`, with ``image``: the path of the
            mask, so that the files of two models that are scored on the same masks can be paired.
        means: of one structure, the result of `monai_difom.metrics.mean_scores`; of several, their mean.
        structures: structure -> its means; empty where there is only one.
        remarks: remark on files -> their names.
    """

    rows: list[dict[str, Any]]
    means: dict[str, float]
    structures: dict[str, dict[str, float]] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)


# what a reader of one pair of files returns: the map, the mask, remarks on the map
Pair = tuple[np.ndarray, np.ndarray, list[str]]


def evaluate_folders(
    predictions: str | os.PathLike,
    masks: str | os.PathLike,
    resize: bool = False,
    threshold: float = 0.5,
    spacing: Sequence[float] | None = None,
    tolerance: float = 2.0,
    workers: int | None = None,
    mask_threshold: float | None = None,
    structures: Sequence[str] = (),
    progress: bool = False,
) -> FolderScores:
    """Score every mask of a folder with the map of the same name (up to the extension).

    A constant map has no range to normalise and keeps its levels; 16-bit maps are scaled by their type to 8 bits; colour
    maps of equal channels are read as grey. All three are named in the remarks.

    Args:
        predictions: folder of maps, see `monai_difom.data.maps.read_map`. Files without a mask are named and left out.
        masks: folder of masks, see `monai_difom.data.maps.read_mask`.
        resize: bring maps of another size to that of their mask; without it they are refused.
        threshold: share of a map's range from which a pixel is foreground.
        spacing: size of a pixel ``(height, width)`` in millimetres, the same for all; None measures in pixels.
        tolerance: of the normalised surface Dice, in the unit of the spacing.
        workers: threads; None takes one per CPU, at most eight.
        mask_threshold: level of the mask's file from which a pixel is foreground; None refuses masks of more than two values.
        structures: of several structures either ``name=label``, where the pictures hold labels (multi-class), or ``name``,
            where both folders have a subfolder of that name with maps and masks (multi-label).
        progress: show a progress bar.

    Raises:
        FileNotFoundError: a folder does not exist or holds no pictures; masks without a map (all are named).
        ValueError: files that cannot be scored (all are named, with the reason); options outside their range.
    """
    names = [entry.partition("=") for entry in structures]
    labels = [value for _, sign, value in names if sign]
    if len(labels) not in (0, len(names)) or not all(label.isdecimal() for label in labels):
        raise ValueError(
            f"structures are {', '.join(structures)}; allowed are name=label for all of them, with whole numbers as "
            "labels, or names of subfolders for all of them."
        )
    if len({name for name, _, _ in names}) < len(names):
        raise ValueError(f"structures are {', '.join(structures)}; a name stands there twice.")
    score = partial(map_scores, threshold=threshold, spacing=spacing, tolerance=tolerance)
    score(np.zeros((1, 1)), np.zeros((1, 1)))  # impossible options are refused once, not for every image
    run = partial(_score_folder, resize=resize, score=score, workers=workers, progress=progress)
    read = partial(_read_pair, mask_threshold=mask_threshold)
    if not names:
        result = run(predictions, masks, read=read)
        return FolderScores(result.rows, mean_scores(result.rows), {}, result.remarks)
    rows, by_name, remarks = [], {}, {}
    for name, _, label in names:
        where = (predictions, masks) if label else (Path(predictions) / name, Path(masks) / name)
        result = run(*where, read=partial(_read_label, label=int(label)) if label else read)
        rows += [{"structure": name, **row} for row in result.rows]
        by_name[name] = mean_scores(result.rows)
        remarks.update(result.remarks if label else {f"{name}: {k}": v for k, v in result.remarks.items()})
    return FolderScores(rows, mean_of_structures(by_name), by_name, remarks)


def _read_pair(map_file: Path, mask_file: Path, resize: bool, mask_threshold: float | None) -> Pair:
    prediction, remarks = read_map(map_file)
    mask = read_mask(mask_file, mask_threshold)
    return (*_same_size(prediction, mask, map_file, resize, resize_map), remarks)


def _read_label(map_file: Path, mask_file: Path, resize: bool, label: int) -> Pair:
    found, true = read_labels(map_file), read_labels(mask_file)
    found, true = _same_size(found, true, map_file, resize, _nearest)
    return found == label, true == label, []


def _same_size(
    prediction: np.ndarray, mask: np.ndarray, file: Path, resize: bool, resizer: Callable
) -> tuple[np.ndarray, np.ndarray]:
    if prediction.shape == mask.shape:
        return prediction, mask
    if not resize:
        sizes = [f"{height}x{width}" for height, width in (prediction.shape, mask.shape)]
        raise ValueError(
            f"{file}: the map is {sizes[0]} but its mask is {sizes[1]} (height x width); --resize "
            "brings maps to the size of their masks."
        )
    return resizer(prediction, mask.shape), mask


def _nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels at another size, from the nearest pixel centre."""
    places = [
        ((np.arange(new) + 0.5) * old / new).astype(int) for old, new in zip(labels.shape, size, strict=True)
    ]
    return labels[np.ix_(*places)]


def _score_folder(
    predictions: str | os.PathLike,
    masks: str | os.PathLike,
    resize: bool,
    score: Callable[..., dict[str, Any]],
    workers: int | None,
    progress: bool,
    read: Callable[..., Pair],
) -> FolderScores:
    """The rows and remarks of one folder; its means are left to the caller."""
    map_files, mask_files = _pictures(predictions, "--predictions"), _pictures(masks, "--masks")
    extra = _check_names(map_files, mask_files, predictions, masks)

    def row_of(stem: str) -> tuple[dict[str, Any], list[str], bool] | ValueError:
        try:
            prediction, mask, notes = read(map_files[stem], mask_files[stem], resize=resize)
            row = {"image": str(mask_files[stem]), **score(prediction, mask)}
        except ValueError as error:
            return error
        # a resized map is a float; 1e-6 for its rounding
        highest = float(prediction.max()) / (255 if prediction.dtype == np.uint8 else 1)
        return row, notes, prediction.dtype != bool and 0 < highest <= 1 / 255 + 1e-6

    with one_thread_each(), ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        outcomes = list(
            tqdm(
                pool.map(row_of, sorted(mask_files)),
                total=len(mask_files),
                desc="Scoring",
                unit="image",
                leave=False,
                disable=None if progress else True,
            )
        )
    _check_outcomes(outcomes)
    scored = [outcome for outcome in outcomes if not isinstance(outcome, ValueError)]
    if any(dark for *_, dark in scored) and not any(_above_one(map_files[stem]) for stem in mask_files):
        raise ValueError(
            f"no map of {predictions} has a level above 1 of 255: these look like masks of 0 and 1, which would all "
            "count as empty. Save them with the levels 0 and 255."
        )
    remarks: dict[str, list[str]] = {"no mask, left out": extra} if extra else {}
    for stem, (_, notes, dark) in zip(sorted(mask_files), scored, strict=True):
        for note in [*notes, *([_DARK] if dark else [])]:
            remarks.setdefault(note, []).append(map_files[stem].name)
    return FolderScores([row for row, *_ in scored], {}, {}, remarks)


def _check_names(
    map_files: Mapping[str, Path], mask_files: Mapping[str, Path], predictions: Any, masks: Any
) -> list[str]:
    """Refuse masks without map; return the names of maps without mask."""
    missing = sorted(set(mask_files) - set(map_files))
    extra = sorted(str(map_files[stem].name) for stem in set(map_files) - set(mask_files))
    if missing:
        also = f" {len(extra)} map(s) have no mask: {few(extra, SHOWN)}." if extra else ""
        raise FileNotFoundError(
            f"{len(missing)} of {len(mask_files)} masks of {masks} have no map in {predictions}: "
            f"{few([mask_files[stem].name for stem in missing], SHOWN)}.{also} A map has the name of its mask up to the "
            "extension; a mean over fewer images could not be compared."
        )
    return extra


def _check_outcomes(outcomes: Sequence[object]) -> None:
    """Raise one error that lists the images that could not be scored."""
    problems = [str(outcome) for outcome in outcomes if isinstance(outcome, ValueError)]
    if problems:
        raise ValueError(
            f"{len(problems)} of {len(outcomes)} images cannot be scored:{listed(problems, SHOWN)}"
        )


def _above_one(file: Path) -> bool:
    levels, _ = read_map(file)
    return bool(levels.dtype != np.uint8 or levels.max() > 1)


def _pictures(folder: str | os.PathLike, option: str) -> dict[str, Path]:
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"there is no folder {folder} ({option}).")
    files = files_by_stem(Path(folder))
    if not files:
        below = [
            str(place) for place in sorted(Path(folder).iterdir()) if place.is_dir() and files_by_stem(place)
        ]
        hint = f" There are some in {', '.join(below[:SHOWN])}: name that folder." if below else ""
        raise FileNotFoundError(
            f"{folder} ({option}) holds no pictures ({', '.join(PICTURE_SUFFIXES)}).{hint}"
        )
    return files


def run_evaluate(
    predictions: Path,
    masks: Path,
    json_file: Path | None = None,
    csv_file: Path | None = None,
    spacing: Sequence[float] | None = None,
    **options: Any,
) -> int:
    """Print the table of `evaluate_folders`, write its JSON and CSV files, and return the exit code (2: refused).

    Args:
        predictions: folder of maps.
        masks: folder of masks.
        json_file: where to write the means, the settings and the remarks.
        csv_file: where to write one row per image, see `monai_difom.apps.scoring.score_files.write_scores`.
        spacing: one number (square pixels) or height and width.
        options: further arguments of `evaluate_folders`.
    """
    if spacing is not None and len(spacing) == 1:
        spacing = list(spacing) * 2
    try:
        found = evaluate_folders(predictions, masks, spacing=spacing, progress=True, **options)
    except (ValueError, FileNotFoundError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    unit, tolerance = "px" if spacing is None else "mm", options.get("tolerance", 2.0)
    title = Path(predictions).resolve().name
    columns = {**found.structures, "mean": found.means} if found.structures else {title: found.means}
    print(score_table(columns, unit, tolerance))
    for line in _remark_lines(found):
        print(line)
    if csv_file is not None:
        sized = {"spacing": spacing} if spacing is not None else {}
        write_scores(csv_file, [{**row, **sized} for row in found.rows])
    if json_file is not None:
        settings = {"predictions": str(predictions), "masks": str(masks), "spacing": spacing, "unit": unit}
        settings.update({key: value for key, value in options.items() if key != "workers"})
        extra = {"structures": found.structures} if found.structures else {}
        content = {**found.means, **extra, "settings": settings, "remarks": found.remarks}
        write_json(json_file, {**content, "version": __version__})
    return 0


def _remark_lines(found: FolderScores) -> list[str]:
    """What a reader of the table has to know: conventions that were used, and files that were unusual."""
    lines = []
    rows: Mapping[str, list[str]] = {
        key: [Path(row["image"]).name for row in found.rows if row[key]]
        for key in ("false_positive", "undefined_hd95")
    }
    for what, area in (("empty", 0), ("foreground everywhere", 1)):
        names = [
            Path(r["image"]).name for r in found.rows if r["foreground"] == area * r["height"] * r["width"]
        ]
        if names and (area or len(names) == len(found.rows)):
            lines.append(f"{len(names)} of {len(found.rows)} masks are {what}: {few(names, SHOWN)}")
    if rows["false_positive"]:
        lines.append(f"Found something in an empty mask (Dice 0): {few(rows['false_positive'], SHOWN)}")
    if rows["undefined_hd95"]:
        lines.append(
            f"HD95 is the image's diagonal, one side being empty: {few(rows['undefined_hd95'], SHOWN)}"
        )
    lines += [
        f"Note, {len(names)} map(s), {note}: {few(names, SHOWN)}" for note, names in found.remarks.items()
    ]
    return lines
