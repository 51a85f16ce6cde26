"""Rows `scaling_store` and `scaling_masks`: what an image costs in a folder of 100,000 images over what it costs in one of 1,000.

Each row is the largest of three ratios: to open the folder (its index, for each image of it), to check it against the images
before a training, and to read an image of it. Beside it stands the memory that an open folder keeps for each image. With
``--quick`` the large folder has 10,000 images. Maps and masks are small: what grows with the number of images is all else.
"""

from __future__ import annotations

import random
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import torch

from monai_difom.data import FeatureStore, SoftMasks, image_keys
from monai_difom.data.feature_store.shards import write_shard
from monai_difom.data.feature_store.store import FORMAT
from monai_difom.data.soft_masks import SoftMaskWriter
from speed_rows.relay import take_turns
from speed_rows.turns import ratio

SMALL, LARGE, QUICK = 1_000, 100_000, 10_000
SHARD, READS = 500, 500


def store(setting: Any) -> dict[str, Any]:
    """The feature store."""
    with tempfile.TemporaryDirectory() as place:
        folders = {name: _make_store(Path(place) / name, size) for name, size in _sizes(setting).items()}
        names = {name: FeatureStore(folder).index["images"] for name, folder in folders.items()}

        def opened(name: str) -> FeatureStore:
            found = FeatureStore(folders[name])
            assert len(found.rows) == len(names[name])
            return found

        kept = {name: opened(name) for name in folders}
        keys = {name: list(found) for name, found in names.items()}
        return _row(
            "scaling_store",
            setting,
            {
                "open": opened,
                "check": lambda name: FeatureStore(folders[name]).check_items(names[name], [0]),
                "read": lambda name: [
                    kept[name].read(key, 0)["map"].sum() for key in random.sample(keys[name], READS)
                ],
            },
        )


def masks(setting: Any) -> dict[str, Any]:
    """The soft masks."""
    with tempfile.TemporaryDirectory() as place:
        made = {name: _make_masks(Path(place) / name, size) for name, size in _sizes(setting).items()}

        def opened(name: str) -> SoftMasks:
            found = SoftMasks(made[name][0])
            assert len(found.entries) == len(made[name][1])
            return found

        kept = {name: opened(name) for name in made}
        return _row(
            "scaling_masks",
            setting,
            {
                "open": opened,
                "check": lambda name: SoftMasks(made[name][0]).check(made[name][1]),
                "read": lambda name: [
                    kept[name].read(image).sum() for image in random.sample(made[name][1], READS)
                ],
            },
        )


def _sizes(setting: Any) -> dict[str, int]:
    return {"small": SMALL, "large": QUICK if setting.quick else LARGE}


def _row(key: str, setting: Any, actions: dict[str, Callable[[str], Any]]) -> dict[str, Any]:
    sizes, ratios, costs = _sizes(setting), {}, {}
    for action, run in actions.items():
        # the small folder as often as it takes to handle as many images, so that both sides take about as long
        times = {"small": 1 if action == "read" else sizes["large"] // SMALL, "large": 1}
        images = dict.fromkeys(sizes, READS if action == "read" else sizes["large"])
        found = take_turns(
            {name: partial(_timed, run, name, times[name]) for name in sizes}, max(5, setting.rounds)
        )
        ratios[action] = ratio(found, "large", "small")
        costs[f"{action}_microseconds_per_image"] = round(1e6 * median(found["large"]) / images["large"], 2)
    tracemalloc.start()
    folder = actions["open"]("large")
    memory = tracemalloc.get_traced_memory()[0] / sizes["large"]
    tracemalloc.stop()
    del folder
    return {
        key: max(ratios.values()),
        **ratios,
        **costs,
        "bytes_per_image": round(memory),
        "images": sizes["large"],
    }


def _timed(run: Callable[[str], Any], name: str, times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        run(name)
    return time.process_time() - start


def _make_store(folder: Path, size: int) -> Path:
    folder.mkdir()
    keys = [f"{number:064x}" for number in range(size)]
    shards = {
        f"{n:06d}": {"images": keys[s : s + SHARD], "views": [0]} for n, s in enumerate(range(0, size, SHARD))
    }
    (folder / "shards").mkdir()
    for name, shard in shards.items():
        rows = len(shard["images"])
        tensors = {
            "map": torch.rand(rows, 8, 4, 4).half(),
            "picture": torch.zeros(rows, 3, 2, 2, dtype=torch.uint8),
        }
        write_shard(folder / "shards", name, [(key, 0) for key in shard["images"]], tensors)
    FeatureStore(folder).write_index(
        {
            "format": FORMAT,
            "version": "0",
            "definition": {"image_size": [32, 32], "fitted": "0"},
            "teachers": {},
            "dtype": "float16",
            "maps": {"map": [8, 4, 4], "picture": [3, 2, 2]},
            "images": {key: f"{number}.png" for number, key in enumerate(keys)},
            "shards": shards,
        }
    )
    return folder


def _make_masks(folder: Path, size: int) -> tuple[Path, list[str]]:
    (folder / "images").mkdir(parents=True)
    numbers, images = count(), []
    for _ in range(size):
        file = folder / "images" / f"{next(numbers):06d}.png"
        file.write_bytes(
            file.name.encode() * 4
        )  # a soft mask is found by the bytes of its image, whatever they are
        images.append(str(file))
    writer = SoftMaskWriter(folder / "soft", ["polyp"], {"teacher": "0"}, [0])
    ramp = torch.linspace(0, 1, 256).view(1, 16, 16)
    for key, image in zip(image_keys([{"image": image} for image in images], False), images, strict=True):
        writer.write(key, Path(image).name, ramp, 0.8, 0.0, ["teacher"])
    writer.finish()
    return folder / "soft", images
