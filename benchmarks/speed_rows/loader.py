"""Row `loader_ratio`: batches per second of the training's data set, against MONAI's with the same chain.

Both read JPEG pictures and PNG masks with the loading chain of the bundles and draw their augmentation, at 352 px, with 1
and 2 worker processes: from memory (`CacheDataset`) and from the files (`Dataset`). Workers live on, so their start is not in it.
The row is the smallest of the four ratios.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from monai.data import CacheDataset, DataLoader, Dataset
from monai.transforms import Compose
from PIL import Image

from monai_difom.data import EpochSampler, ViewDataset, loading_chain, make_polyps, training_augmentation
from speed_rows.relay import take_turns
from speed_rows.turns import ratio

SIZE, BATCH = 352, 8


def make_items(folder: Path, count: int) -> list[dict[str, str]]:
    """Write pictures of 576 x 480 as JPEG, with PNG masks, and return their items."""
    make_polyps(folder, train=count, test=0, size=576)
    items = []
    for picture in sorted((folder / "TrainDataset" / "image").iterdir()):
        jpeg = picture.with_suffix(".jpg")
        Image.open(picture).convert("RGB").resize((576, 480)).save(jpeg, quality=92)
        mask = folder / "TrainDataset" / "mask" / picture.name
        Image.open(mask).resize((576, 480), Image.Resampling.NEAREST).save(mask)
        items.append({"image": str(jpeg), "label": str(mask)})
    return items


def _epochs(dataset: Any, workers: int, sampler: Any = None) -> Callable[[], float]:
    loader = DataLoader(
        dataset,
        batch_size=BATCH,
        sampler=sampler,
        shuffle=sampler is None,
        num_workers=workers,
        persistent_workers=True,
    )
    epoch = count()

    def run() -> float:
        if sampler is not None:
            sampler.set_epoch(next(epoch))
        start = time.perf_counter()
        for _ in loader:
            pass
        return time.perf_counter() - start

    return run


def loader(setting: Any) -> dict[str, Any]:
    """Images per second over those of MONAI's data sets, by the clock: the work is done by the workers."""
    found: dict[str, Any] = {}
    geometry = {"rotate": 180.0, "scale": (0.7, 1.4), "shift": 0.1}  # polyp_difom's own
    with tempfile.TemporaryDirectory() as place:
        items = make_items(Path(place), 24 if setting.quick else 96)
        for kind, rate in (("cached", 1.0), ("files", 0.0)):
            ours = ViewDataset(items, loading_chain(SIZE), training_augmentation(**geometry), 0, rate, False)
            chain = Compose([loading_chain(SIZE), training_augmentation(**geometry)]).flatten()
            theirs = CacheDataset(items, chain, progress=False) if rate else Dataset(items, chain)
            for workers in (1, 2):
                sides = {
                    "ours": _epochs(ours, workers, EpochSampler(len(ours))),
                    "monai": _epochs(theirs, workers),
                }
                seconds = take_turns(sides, max(5, setting.rounds))
                found[f"{kind}_{workers}"] = ratio(seconds, "monai", "ours")
                found[f"{kind}_{workers}_images_per_second"] = round(len(items) / median(seconds["ours"]), 1)
    return {"loader_ratio": min(v for k, v in found.items() if not k.endswith("second")), **found}
