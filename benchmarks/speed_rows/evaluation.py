"""How fast scores are: all of them on real maps, and the distances between surfaces alone."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speed_rows.turns import in_turn, ratio

TOLERANCE = 2.0
Pair = tuple[np.ndarray, np.ndarray, tuple[float, ...]]  # prediction, mask, size of a pixel


def evaluation(setting: Any) -> dict[str, Any]:
    """All scores of the 162 test images of Kvasir and CVC-ClinicDB, files included: ``benchmarks/evaluate.py``."""
    script = Path(__file__).parents[1] / "evaluate.py"
    words = [sys.executable, str(script), "--data", str(setting.data), "--rounds", str(setting.rounds)]
    done = subprocess.run(
        [*words, *(["--quick"] if setting.quick else [])], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def distances_2d(setting: Any) -> dict[str, Any]:
    """Binary predictions and masks of real polyps at native size."""
    from PIL import Image

    pairs: list[Pair] = []
    for name in ("Kvasir", "CVC-ClinicDB"):
        for file in sorted((setting.data / "polyp" / "TestDataset" / name / "masks").iterdir()):
            found, mask = (
                np.asarray(Image.open(path))
                for path in (setting.data / "prediction_maps" / "PraNet_official" / name / file.name, file)
            )
            if (found >= 128).any():
                pairs.append((found >= 128, mask > 0, (1.0, 1.0)))
    return _compared(pairs[:: 8 if setting.quick else 2], "2d", setting.rounds)


def distances_3d(setting: Any) -> dict[str, Any]:
    """Volumes as large as of CT and MR: rough ellipsoids; predictions are rough elsewhere, shifted, or have a stray part."""
    shapes = (((96, 96, 64), (30, 35, 20), (1.5, 1.5, 2.0)), ((192, 192, 60), (55, 45, 20), (0.8, 0.8, 3.0)))
    shapes = shapes[:1] if setting.quick else (*shapes, ((128, 128, 128), (30, 35, 40), (1.0, 1.0, 1.0)))
    pairs: list[Pair] = []
    for shape, radii, spacing in shapes:
        mask = organ(shape, radii, 0)
        pairs.append((organ(shape, radii, 1), mask, spacing))
        pairs.append((np.roll(organ(shape, radii, 2), 2, 0), mask, spacing))
        stray = organ(shape, (5, 5, 4), 3, tuple(n * 0.12 for n in shape))
        pairs.append((organ(shape, radii, 4) | stray, mask, spacing))
    return _compared(pairs, "3d", setting.rounds)


def organ(
    shape: Sequence[int], radii: Sequence[float], seed: int, centre: Sequence[float] | None = None
) -> np.ndarray:
    """Return a rough ellipsoid in a volume."""
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 4)
    middle = centre or [n / 2 for n in shape]
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij", sparse=True)
    parts = [((axis - m) / r) ** 2 for axis, m, r in zip(axes, middle, radii, strict=True)]
    return np.sqrt(sum(parts)) + 0.05 * noise / noise.std() < 1


def _compared(pairs: Sequence[Pair], name: str, rounds: int) -> dict[str, Any]:
    """Ratios of processor time to MONAI's HD95 and surface Dice, and to MedPy's HD95 alone; and how far the numbers differ."""
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    from monai_difom.metrics import surface_scores

    torch.set_num_threads(1)
    tensors = [[torch.from_numpy(array)[None, None] for array in pair[:2]] for pair in pairs]

    def ours() -> list[dict[str, float]]:
        return [surface_scores(*pair, TOLERANCE) for pair in pairs]

    def monai() -> list[tuple[float, float]]:
        found = []
        for both, (_, _, spacing) in zip(tensors, pairs, strict=True):
            options = {"include_background": True, "spacing": spacing}
            hd95 = compute_hausdorff_distance(*both, percentile=95, **options)
            found.append((float(hd95), float(compute_surface_dice(*both, [TOLERANCE], **options))))
        return found

    sides: dict[str, Callable[[], object]] = {"ours": ours, "monai": monai}
    try:
        from medpy.metric.binary import hd95 as medpy_hd95

        sides["medpy"] = lambda: [medpy_hd95(found, mask, spacing) for found, mask, spacing in pairs]
    except ImportError:
        print("MedPy is not installed (pip install medpy): its side is left out", file=sys.stderr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        apart = max(
            max(abs(a["hd95"] - hd95) / max(1.0, hd95), abs(a["nsd"] - nsd))
            for a, (hd95, nsd) in zip(ours(), monai(), strict=True)
        )
        seconds = in_turn(sides, rounds)
    ratios = {side: ratio(seconds, side, "ours") for side in sides if side != "ours"}
    return {
        f"distance_speedup_{name}": min(ratios.values()),
        "against": ratios,
        "images": len(pairs),
        "ours_milliseconds": round(1000 * float(np.median(seconds["ours"])) / len(pairs), 2),
        "largest_difference": float(f"{apart:.1e}"),
        "same_numbers": apart < 1e-5,
    }
