"""Masks from the polygons of the VGG Image Annotator."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from ...transforms.picture_file import picture_facts
from ...utils import atomic_path
from ...utils.documents import parse_json


def draw_polygons(
    table: Path,
    images: Mapping[str, Path],
    classes: Mapping[str, int],
    folder: Path,
    attribute: str = "Anatomy",
) -> dict[str, Path]:
    """Write one mask per image from a CSV of polygons.

    Args:
        table: CSV with the columns ``filename``, ``region_shape_attributes`` and ``region_attributes`` (JSON).
        images: stem -> image, whose size a mask takes.
        classes: value of the attribute -> value of the mask, in drawing order: a later class covers an earlier one.
        folder: folder of the masks.
        attribute: region attribute that names the class.

    Returns:
        Stem -> mask, for the images with at least one polygon of these classes.

    Raises:
        ValueError: a column is missing, or a row cannot be read; it is named.
    """
    shapes: dict[str, dict[str, list[list[tuple[float, float]]]]] = defaultdict(lambda: defaultdict(list))
    with open(table, newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        wanted = {"filename", "region_shape_attributes", "region_attributes"}
        if missing := wanted - set(reader.fieldnames or ()):
            raise ValueError(
                f"{table} has no column {', '.join(sorted(missing))}; it has {reader.fieldnames}."
            )
        for number, row in enumerate(reader, start=2):
            shape, about = (
                _json(table, number, row[key]) for key in ("region_shape_attributes", "region_attributes")
            )
            name = str(about.get(attribute))
            if shape.get("name") == "polygon" and name in classes:
                points = list(zip(shape["all_points_x"], shape["all_points_y"], strict=True))
                shapes[Path(row["filename"]).stem][name].append(points)
    masks = {}
    for stem, regions in shapes.items():
        if stem not in images:
            continue
        height, width = picture_facts(images[stem]).size  # upright, as the annotator showed it
        mask = Image.new("L", (width, height))
        draw = ImageDraw.Draw(mask)
        for name, value in classes.items():
            for points in regions[name]:
                if len(points) > 2:
                    draw.polygon(points, fill=value)
        masks[stem] = folder / f"{stem}.png"
        with atomic_path(masks[stem]) as temporary:
            mask.save(temporary, format="PNG", compress_level=1)
    return masks


def _json(table: Path, number: int, text: str) -> dict[str, Any]:
    found = parse_json(text or "{}", f"{table}, line {number}: {text[:80]!r}")
    return found if isinstance(found, dict) else {}
