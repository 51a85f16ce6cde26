"""What the feature store costs and saves, as ratios measured side by side on one machine.

    python benchmarks/feature_store.py            # minutes
    python benchmarks/feature_store.py --quick    # under a minute on two cores

Synthetic polyps, teachers of random weights (their speed and the size of their maps do not depend on the weights). The two
sides of a ratio take turns, and the median of their turns counts, so that other load on the machine hits both. Extraction is
timed by the clock on the wall; steps, loading and reading, which are one thread each, in processor time. The last line is one
JSON object; see feature_store.md for what each key is and must reach.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import DataLoader
from monai.losses import DiceCELoss
from torch import nn
from transformers import Dinov2Config, Dinov2Model

from monai_difom.apps import FeatureBuilder
from monai_difom.data import (
    EpochSampler,
    FeatureStore,
    ViewDataset,
    loading_chain,
    make_polyps,
    plain_augmentation,
    training_augmentation,
    training_pairs,
)
from monai_difom.data.feature_store import FORMAT, PICTURE
from monai_difom.data.feature_store.shards import write_shard
from monai_difom.engines import DistillationTrainer, Distiller, Objective, Phase, Plan
from monai_difom.engines.preflight import check_first_batch
from monai_difom.networks.nets import DifomUNet
from monai_difom.networks.teachers import NetworkTeacher, Teacher, ViTTeacher
from monai_difom.targets import DistillationTerm, TargetPipeline
from monai_difom.transforms import RandViewd, SplitTeacherd
from monai_difom.utils import write_json

FOUR = {"sam": (256, 64), "dinov2": (768, 37), "oneformer": (256, 32), "mask2former": (256, 32)}


def four_teachers() -> dict[str, Teacher]:
    """Patch embeddings whose maps have the sizes of Polyp-DiFoM's four teachers."""
    teachers = {}
    for name, (channels, side) in FOUR.items():
        network = nn.Sequential(nn.Conv2d(3, channels, 8, 8))
        taps, plain = {"map": "0"}, {"mean": [0.5] * 3, "std": [0.25] * 3}
        teachers[name] = NetworkTeacher(network, taps, **plain, input_size=8 * side, multiple_of=8)
    return teachers


def make_trainer(
    data: Path, teachers: dict[str, Teacher], size: int, batch: int, distil: bool, **store: Any
) -> DistillationTrainer:
    """The bundle's recipe around a data folder: student, taps, fusion, loss."""
    chain = training_augmentation()
    if store.get("features") is not None and store["features"].policy == "frozen":
        chain = [RandViewd(["image", "label"], [0]), SplitTeacherd()]
    items = ViewDataset(training_pairs(data), loading_chain(size), chain, progress=False, **store)
    loader = DataLoader(items, batch_size=batch, sampler=EpochSampler(len(items)), num_workers=0)
    torch.manual_seed(0)
    student = DifomUNet(2, 3, 1, (16, 32, 64, 128, 192))
    terms = [DistillationTerm(tap, tap=tap) for tap in ("bottleneck", "stride8")]
    targets = TargetPipeline(teachers, terms, fuse_channels=96, fit_images=4)
    distiller = Distiller(student, targets)
    weights = {"segmentation": 1.0, **({term.name: 1.5 for term in terms} if distil else {})}
    return DistillationTrainer(
        "cpu",
        Plan([Phase("all", 1, weights)]),
        loader,
        distiller,
        targets,
        Objective(DiceCELoss(sigmoid=True)),
        torch.optim.AdamW(distiller.parameters(), lr=2e-3),
        channels_last=True,
    )


def make_builder(trainer: DistillationTrainer, store: FeatureStore, **options: Any) -> FeatureBuilder:
    """The builder of the store that this trainer reads."""
    return FeatureBuilder(
        store, trainer.targets, trainer.distiller, trainer.data_loader, progress=False, **options
    )


def in_turns(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call the sides in turns, the order reversed every round; return the seconds of each turn."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            found[name].append(sides[name]())
    return found


def extraction(folder: Path, quick: bool) -> dict[str, Any]:
    """Build a store with a ViT-S/14, against the forward passes alone; then verify it in both number types."""
    size, count, batch = 224, 24 if quick else 64, 4  # the first batch is loaded before the teacher can run
    for name, images in (("few", 2 * batch), ("data", count)):
        make_polyps(folder / name, train=images, test=0, size=300)
    torch.manual_seed(0)
    model = Dinov2Model(Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=size))
    model.save_pretrained(folder / "vit")
    teachers = {"vit": ViTTeacher(str(folder / "vit"), input_size=size)}
    stores: list[FeatureBuilder] = []

    def build(data: str = "data", dtype: str = "float16") -> float:
        store = FeatureStore(folder / f"store{len(stores)}", "frozen")
        trainer = make_trainer(folder / data, teachers, size, batch, True, features=store, cache_rate=0.0)
        builder = make_builder(trainer, store, batch_size=batch, dtype=dtype)
        if stores:  # fitted once: the fit is not part of the extraction
            trainer.targets.load_state_dict(stores[0].targets.state_dict())
        stores.append(builder)
        return float(builder.build()["seconds"])

    build("few", "float32")
    images = [stores[0].load(key, [0])[0] for key in stores[0].places]

    def bare() -> float:
        begun = time.perf_counter()
        for start in range(0, count, batch):
            teachers["vit"](torch.stack(images[start % len(images) :][:batch]))
        return time.perf_counter() - begun

    seconds = in_turns({"bare": bare, "build": build}, 2 if quick else 4)
    cosine = {b.dtype: min(b.verify(3 if quick else 8)["cosine"].values()) for b in (stores[0], stores[-1])}
    return {
        "extraction_ratio": median(seconds["bare"]) / median(seconds["build"]),
        "cosine_fp32": cosine["float32"],
        "cosine_fp16": cosine["float16"],
        "extraction_images_per_second": count / median(seconds["build"]),
    }


def step_and_loader(folder: Path, quick: bool) -> dict[str, Any]:
    """Train from a store of 4F-sized teachers, against no distillation; load from it, against raw maps in .pt files."""
    size, count, batch = 352, 4 if quick else 16, 2 if quick else 4
    make_polyps(folder / "data", train=count, test=0, size=400)
    teachers, store = four_teachers(), FeatureStore(folder / "store")
    trainer = make_trainer(folder / "data", teachers, size, batch, True, features=store)
    builder = make_builder(trainer, store, batch_size=batch)
    builder.views = {key: range(8) for key in builder.places}
    builder.build()
    raw = folder / "raw"
    raw_bytes = save_raw(builder, raw)
    shards = (folder / "store" / "shards").iterdir()
    report = {"bytes_ratio": sum(f.stat().st_size for f in shards) / len(store.rows) / raw_bytes}

    plain = make_trainer(folder / "data", teachers, size, batch, False)
    sides = {"store": steps_of(trainer), "plain": steps_of(plain)}
    in_turns(sides, 1)
    seconds = in_turns(sides, 7 if quick else 40)
    report["step_ratio"] = median(seconds["store"]) / median(seconds["plain"])

    items, chain = plain.data_loader.dataset.data, loading_chain(size)
    # the published loader does not augment; with light changes on both sides, these are most of what is left
    kinds = {"loader_ratio": plain_augmentation(), "loader_ratio_augmented": training_augmentation()}
    if quick:
        del kinds["loader_ratio_augmented"]
    for key, augment in kinds.items():
        stored = ViewDataset(items, chain, augment, progress=False, features=store)
        published = PublishedDataset(ViewDataset(items, chain, augment, cache_rate=0.0), raw)
        loaders = {"store": loads_of(stored, batch), "published": loads_of(published, batch)}
        in_turns(loaders, 2)
        seconds = in_turns(loaders, 6 if quick else 40)
        report[key] = median(seconds["published"]) / median(seconds["store"])
    return report


def save_raw(builder: FeatureBuilder, folder: Path) -> int:
    """Write each image's raw maps as the published code does; return the bytes of one image."""
    folder.mkdir()
    for key, (_, index) in builder.places.items():
        image = builder.load(key, [0])[0][None]
        for name, teacher in builder.targets.teachers.items():
            torch.save(teacher(image)["map"][0].clone(), folder / f"{index}_{name}.pt")
    return sum(file.stat().st_size for file in folder.glob("0_*.pt"))


class PublishedDataset:
    """The published way: pictures from their files, one ``.pt`` per teacher and image, resized to 64x64 in the data set.

    The augmentation is that of the other side.
    """

    def __init__(self, images: ViewDataset, folder: Path) -> None:
        self.images, self.folder = images, folder

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: tuple[int, int]) -> dict[str, Any]:
        item, maps = self.images[index], {}
        for name in FOUR:
            value = torch.load(self.folder / f"{index[1]}_{name}.pt", weights_only=True)
            maps[name] = F.interpolate(value[None], size=(64, 64), mode="bilinear", align_corners=False)[0]
        return {**item, "targets": maps}


def loads_of(data: Any, batch: int) -> Callable[[], float]:
    """Return a function that loads one batch, and gives the seconds."""
    loader = DataLoader(data, batch_size=batch, sampler=EpochSampler(len(data)), num_workers=0)
    batches = next_of(loader)

    def load() -> float:
        begun = time.process_time()
        next(batches)
        return time.process_time() - begun

    return load


def next_of(loader: DataLoader) -> Iterator[dict[str, Any]]:
    """Yield the batches of one epoch after the other."""
    epoch = 0
    while True:
        loader.sampler.set_epoch(epoch)
        yield from loader
        epoch += 1


def steps_of(trainer: DistillationTrainer) -> Callable[[], float]:
    """Return a function that loads a batch and trains on it, and gives the seconds."""
    trainer._stored_targets()
    check_first_batch(trainer)
    trainer.state.epoch = trainer.state.iteration = 1
    trainer.enter(trainer.phase)
    batches = next_of(trainer.data_loader)

    def step() -> float:
        begun = time.process_time()
        batch = next(batches)
        trainer._iteration(trainer, batch)
        return time.process_time() - begun

    return step


def synthetic_store(folder: Path, entries: int) -> FeatureStore:
    """A store of targets as large as the bundle's own, all zero: the files have holes, and take no room on the disk."""
    maps = {"fused@22x22": [96, 22, 22], "fused@44x44": [96, 44, 44], PICTURE: [3, 16, 16]}
    each = 68  # what a build puts into a shard of this size
    rows = {
        n: torch.zeros(each, *s, dtype=torch.uint8 if n == PICTURE else torch.half) for n, s in maps.items()
    }
    first, shards = folder / "shards" / "000000.safetensors", {}
    for number in range(-(-entries // each)):
        name, keys = f"{number:06d}", [f"{i:032x}" for i in range(each * number, each * (number + 1))]
        shards[name] = {"images": keys, "views": [0]}
        if number == 0:
            write_shard(first.parent, name, [(key, 0) for key in keys], rows)
            notes = json.loads(first.with_suffix(".json").read_text())
            with open(first, "rb") as stream:
                head = stream.read(8)
                head += stream.read(int.from_bytes(head, "little"))
            continue
        with open(first.with_stem(name), "wb") as stream:
            stream.write(head)
            stream.truncate(notes["size"])
        content = json.dumps({**notes, "entries": [[key, 0] for key in keys]})
        first.with_name(f"{name}.json").write_text(content)
    definition = {"image_size": [352, 352], "terms": {}}
    index = {"format": FORMAT, "definition": definition, "maps": maps, "images": {}, "shards": shards}
    write_json(folder / "store.json", index, indent=None)
    return FeatureStore(folder)


def scaling(folder: Path, quick: bool) -> dict[str, Any]:
    """Read in random order from a store of 1,000 and of 100,000 entries, as in training and back to back.

    Between two batches of a training there is a step, and it leaves nothing of the store in the processor's caches: it is
    stood for by a pass over 64 MB. Back to back, the small store's bookkeeping stays in the caches and the large one's does not.
    """
    stores = {"small": (folder / "small", 1_000), "large": (folder / "large", 100_000)}
    sides = {name: reads_of(synthetic_store(*about), about[1]) for name, about in stores.items()}
    memory = torch.zeros(64 * 2**20 // 4)

    def after_a_step(read: Callable[[], float]) -> float:
        memory.add_(1)
        return read()

    training = {name: partial(after_a_step, read) for name, read in sides.items()}
    seconds = in_turns(training, 40 if quick else 600)
    back_to_back = in_turns(sides, 120 if quick else 600)
    return {
        "scaling_ratio": median(seconds["large"]) / median(seconds["small"]),
        "scaling_ratio_back_to_back": median(back_to_back["large"]) / median(back_to_back["small"]),
        "microseconds_a_read": 1e6 * median(seconds["large"]) / 16,
    }


def reads_of(store: FeatureStore, entries: int) -> Callable[[], float]:
    """Return a function that reads and collates a batch of 16 entries, and gives the seconds.

    Both stores are read at 640 random places, many times the processor's caches, which were read once before: as in every
    epoch but the first, their shards are open and their checksums compared.
    """
    chosen = np.random.default_rng(0).choice(entries, 640, replace=False)
    batches = [[f"{i:032x}" for i in chosen[start : start + 16]] for start in range(0, 640, 16)]
    turns = cycle(batches)

    def read() -> float:
        keys = next(turns)
        begun = time.process_time()
        for rows in zip(*(store.read(key, 0).values() for key in keys), strict=True):
            torch.stack(rows)
        return time.process_time() - begun

    for _ in batches:
        read()
    return read


def main() -> None:
    """Measure everything and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images and turns: under a minute")
    parser.add_argument("--folder", type=Path, help="where to write (a temporary folder, removed at the end)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for part in (extraction, step_and_loader, scaling):
            place = Path(folder) / part.__name__
            place.mkdir()
            begun = time.perf_counter()
            report |= part(place, options.quick)
            print(f"{part.__name__}: {time.perf_counter() - begun:.0f} s", flush=True)
    print(json.dumps({key: round(value, 6) for key, value in report.items()}))


if __name__ == "__main__":
    main()
