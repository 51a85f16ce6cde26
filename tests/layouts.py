"""Small data sets in the folders of published ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def _save(path: Path, pixels: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels.astype(np.uint8))
    (image.convert(mode) if mode else image).save(path)


def _picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return rng.integers(40, 255, (height, width, 3))


def _blob(height: int, width: int, value: int = 255) -> np.ndarray:
    mask = np.zeros((height, width))
    mask[height // 4 : height // 2, width // 4 : 3 * width // 4] = value
    return mask


def make_drive(root: Path, picture: str = "tif", mask: str = "gif") -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:50, :48]
    field = ((y - 25) ** 2 + (x - 24) ** 2 < 22**2) * 255
    for part, numbers in (("training", range(21, 25)), ("test", (1, 2))):
        for n in numbers:
            _save(root / part / "images" / f"{n:02d}_{part}.{picture}", _picture(rng, 50, 48))
            _save(root / part / "1st_manual" / f"{n:02d}_manual1.{mask}", _blob(50, 48))
            _save(root / part / "mask" / f"{n:02d}_{part}_mask.{mask}", field)


def make_ph2(root: Path, cases: int = 10) -> None:
    rng = np.random.default_rng(1)
    for n in range(2, 2 + cases):
        name = f"IMD{n:03d}"
        folder = root / "PH2 Dataset images" / name
        _save(folder / f"{name}_Dermoscopic_Image" / f"{name}.bmp", _picture(rng, 40, 50))
        _save(folder / f"{name}_lesion" / f"{name}_lesion.bmp", _blob(40, 50), "1")
        _save(folder / f"{name}_roi" / f"{name}_R1_Label4.bmp", _blob(40, 50), "1")


def make_autooral(root: Path) -> None:
    rng = np.random.default_rng(2)
    for part, count in (("Train", 5), ("Test", 2)):
        for n in range(count):
            folder = root / "Autooral_dataset" / part
            _save(folder / f"data_{part.lower()}" / f"{n}.png", _picture(rng, 40, 40))
            _save(folder / f"mask_{part.lower()}" / f"{n}.png", _blob(40, 40))


def make_kidneyus(root: Path, polygons: bool = False) -> None:
    """Seven images of six patients with masks, and one without."""
    rng = np.random.default_rng(3)
    names = [
        f"{p}_IM-{p:04d}-{k:04d}_anon" for p, k in ((1, 1), (2, 1), (3, 1), (3, 9), (4, 1), (5, 1), (10, 1))
    ]
    rows = [
        "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    ]
    boxes = {
        "Capsule": (8, 6, 40, 30),
        "Cortex": (10, 8, 38, 28),
        "Medulla": (14, 12, 34, 24),
        "Central Echo Complex": (20, 15, 28, 21),
    }
    for name in [*names, "9_IM-0009-0001_anon"]:
        _save(root / "images" / f"{name}.png", _picture(rng, 36, 48))
    for name in names:
        drawn = {"capsule": Image.new("L", (48, 36)), "regions": Image.new("L", (48, 36))}
        for anatomy, (x0, y0, x1, y1) in boxes.items():
            points = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
            kind, value = (
                ("capsule", 1) if anatomy == "Capsule" else ("regions", 4 - list(boxes).index(anatomy))
            )
            ImageDraw.Draw(drawn[kind]).polygon(points, fill=value)
            shape = {
                "name": "polygon",
                "all_points_x": [p[0] for p in points],
                "all_points_y": [p[1] for p in points],
            }
            cells = (
                json.dumps(json_value).replace('"', '""') for json_value in (shape, {"Anatomy": anatomy})
            )
            rows.append(f'{name}.png,1,"{{}}",4,0,' + ",".join(f'"{cell}"' for cell in cells))
        if not polygons:
            for kind, mask in drawn.items():
                _save(root / "labels" / "reviewed_masks_1" / kind / f"{name}.png", np.asarray(mask))
    (root / "labels").mkdir(exist_ok=True)
    (root / "labels" / "reviewed_labels_1.csv").write_text("\n".join(rows))


def make_pairs(root: Path) -> None:
    rng = np.random.default_rng(6)
    for n in range(8):
        _save(root / "images" / f"photo {n}.jpg", _picture(rng, 40, 50))
        _save(root / "masks" / f"photo {n}.png", _blob(40, 50), "1")
