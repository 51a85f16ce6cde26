"""Which images a person should label next: what the teachers know least about, and a choice of every certainty."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...data import SoftMasks
from ...utils import atomic_path

TABLE = "label_next.csv"
COLUMNS = ("image", "uncertainty", "certainty", "disagreement", "foreground", "teachers", "learned", "like")
# correlation of 8 x 8 grey thumbnails from which two images are taken for frames of one scene: of CVC-ClinicDB's frames 62 % have
# such a neighbour in their own sequence, 8 % in another one, and of Kvasir's images none has one
ALIKE = 0.97
_SIDE = 8
_COMPARED = 1000  # places of the list that are kept free of images that look alike


def write_ranking(masks: SoftMasks, paths: Mapping[str, str]) -> list[dict[str, Any]]:
    """Write ``label_next.csv`` beside soft masks and return its rows, the least certain on top.

    ``uncertainty`` is the mean of ``1 - certainty`` and ``disagreement``. An image that looks like one above it (``like``:
    frames of one video) comes after all others, and last of all what has a mask that the teachers have learned.

    Args:
        masks: the soft masks.
        paths: digest of every image -> its path.
    """
    rows = []
    for key, path in paths.items():
        entry = masks.entries[key]
        uncertainty = (1 - entry["certainty"] + entry["disagreement"]) / 2
        rows.append(
            {
                "image": path,
                "uncertainty": round(uncertainty, 4),
                **{name: entry[name] for name in ("certainty", "disagreement", "foreground")},
                "teachers": len(entry["teachers"]),
                "learned": int(entry["learned"]),
                "like": "",
                "look": entry["look"],
            }
        )
    rows.sort(key=lambda row: (row["learned"], -row["uncertainty"], row["image"]))
    mark_alike(rows)
    rows.sort(key=lambda row: (row["learned"], bool(row["like"])))
    with (
        atomic_path(masks.folder / TABLE) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as stream,
    ):
        table = csv.DictWriter(stream, COLUMNS, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)
    return rows


def copy_next(rows: Sequence[Mapping[str, Any]], folder: Path, count: int) -> list[Path]:
    """Copy the images that a person should label next into a folder, which an annotation tool can open: see `spread`.

    What the folder holds already (labels, images that were copied before) stays as it is.

    Args:
        rows: of `write_ranking`.
        folder: the folder; made when absent.
        count: number of images; fewer where fewer are left that nobody has labelled and that look like no other.

    Returns:
        The copies.
    """
    chosen = [Path(row["image"]) for row in spread(rows, count)]
    names = [path.name for path in chosen]
    copies = []
    for number, path in enumerate(chosen):
        # images of different folders may share a name
        name = path.name if names.count(path.name) == 1 else f"{number:03d}_{path.name}"
        copies.append(folder / name)
        if not copies[-1].exists():
            with atomic_path(copies[-1]) as temporary:
                shutil.copyfile(path, temporary)
    return copies


def spread(rows: Sequence[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """Return ``count`` rows of a ranking in even steps from the top to the bottom: images of every certainty.

    The rows on top alone are images in which the teachers find nothing: with few labels, a teacher that learned those ended
    below one that learned images at random (``benchmarks/label_next.json``). Rows of labelled images, and of images that look
    like another one, are left out.

    Args:
        rows: of `write_ranking`, or of its table.
        count: number of rows; all that are left where they are fewer.
    """
    free = [row for row in rows if not int(row["learned"]) and not row["like"]]
    count = min(count, len(free))
    return [free[(2 * n + 1) * len(free) // (2 * count)] for n in range(count)]


def mark_alike(rows: Sequence[dict[str, Any]]) -> None:
    """Name in ``like`` the first row above that a row looks like, by ``look``; for as many rows as a person will label."""
    kept: list[np.ndarray] = []
    names: list[str] = []
    for row in rows:
        if len(kept) >= _COMPARED:
            return
        look = _normalised(row["look"])
        if kept:
            near = np.stack(kept) @ look
            best = int(near.argmax())
            if near[best] >= ALIKE:
                row["like"] = Path(names[best]).name
                continue
        kept.append(look)
        names.append(row["image"])


def look_of(picture: np.ndarray) -> str:
    """Return a thumbnail of a picture ``(H, W, C)``, 8 bits, as text for `mark_alike`."""
    grey = Image.fromarray(picture if picture.shape[2] == 3 else picture[..., 0]).convert("L")
    return np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BOX)).tobytes().hex()


def _normalised(look: str) -> np.ndarray:
    """Mean 0 and length 1."""
    levels = np.frombuffer(bytes.fromhex(look), np.uint8).astype(np.float32)
    levels -= levels.mean()
    return levels / max(float(np.linalg.norm(levels)), 1e-6)
