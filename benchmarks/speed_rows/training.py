"""Rows `loop_ratio` and `step_ratio_*`: what a training of the bundle costs beside one's own loop, and with stored teachers.

`loop_ratio`: images per second of `polyp_difom` without distillation, with all its handlers, over those of a plain PyTorch loop
with the same network, batch, augmentation, loss, optimiser, precision and memory layout.

`step_ratio_masks`, `step_ratio_features`, `step_ratio_both`: seconds of a step with stored soft masks, with stored features, with
both, over those of a step without.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import timm
import torch
from monai.bundle import ConfigParser
from monai.losses import DiceCELoss
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset

from monai_difom.data import image_keys, make_polyps, train_validation
from monai_difom.data.soft_masks import SoftMaskWriter
from monai_difom.engines import OneCycle
from monai_difom.networks.nets import DifomUNet
from speed_rows.relay import TrainerTurns, take_turns
from speed_rows.turns import ratio

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundles" / "polyp_difom"


class Sizes:
    """How much is trained: steps of an epoch, images of a batch, side of an image, rounds."""

    def __init__(self, setting: Any) -> None:
        self.steps, self.batch, self.side = (4, 8, 96) if setting.quick else (6, 16, 352)
        self.rounds = 5 if setting.quick else setting.rounds
        self.images = self.steps * self.batch


def bundle(
    folder: Path, name: str, size: Sizes, overlays: tuple[str, ...] = (), **options: Any
) -> ConfigParser:
    """Return the parser of a training of the bundle; every epoch has the same number of steps, none is validated."""
    parser = ConfigParser()
    files = [
        BUNDLE / "configs" / "train.yaml",
        *(ROOT / "configs" / f"{overlay}.yaml" for overlay in overlays),
    ]
    parser.read_config([str(file) for file in files])
    given: dict[str, Any] = {
        "bundle_root": str(BUNDLE),
        "dataset_dir": str(folder / "data"),
        "output_dir": str(folder / name),
        "ckpt_dir": str(folder / name / "models"),
        "teacher_weights": str(folder / "teacher.safetensors"),
        "teachers#imagenet#name": "test_efficientnet",
        "image_size": size.side,
        "batch_size": size.batch,
        "epochs": [0, size.rounds + 2, 0],
        "val_interval": 1000,
        "device": "cpu",
        "progress": False,
        **options,
    }
    if "phases/undistilled" in overlays:
        del given["teachers#imagenet#name"]
    for key, value in given.items():
        parser[key.replace("#", "::")] = value
    return parser


def prepare(folder: Path, size: Sizes) -> None:
    """Write pictures, a small teacher, and soft masks of all training images."""
    make_polyps(folder / "data", train=round(size.images / 0.9) + 1, test=1, size=size.side)
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", pretrained=False, features_only=True)
    save_file(network.state_dict(), str(folder / "teacher.safetensors"))


def write_soft_masks(folder: Path, size: Sizes) -> None:
    """Write a smooth soft mask of every training image."""
    writer = SoftMaskWriter(folder / "soft", ["polyp"], {"teacher": "0"}, [0])
    items = [item for items in train_validation(str(folder / "data")) for item in items]
    ramp = torch.linspace(0, 1, size.side).expand(1, size.side, size.side)
    for key, item in zip(image_keys(items, False), items, strict=True):
        writer.write(key, Path(item["image"]).name, ramp, 0.8, 0.0, ["teacher"])
    writer.finish()


class Cached(Dataset):
    """What a person writes: images in memory, augmented when they are asked for."""

    def __init__(
        self, items: list[dict[str, Any]], augment: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        self.items, self.augment = items, augment

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.augment(dict(self.items[index]))
        return found["image"], found["label"]


def plain_loop(parser: ConfigParser, size: Sizes) -> Callable[[], float]:
    """Return a loop of one's own over the same images: calling it trains an epoch and returns the seconds."""
    dataset = parser.get_parsed_content("train::dataset")
    items = [dataset._loaded[n] for n in range(len(dataset))][: size.images]
    torch.manual_seed(0)
    network = DifomUNet(2, 3, 1, (16, 32, 64, 128, 192)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.01)
    total, rate = size.steps * (size.rounds + 2), OneCycle(warmup=0.15)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step / total))
    loss_function = DiceCELoss(sigmoid=True)
    loader = DataLoader(Cached(items, dataset.augment), size.batch, shuffle=True, drop_last=True)

    def epoch() -> float:
        start = time.process_time()
        network.train()
        losses = []
        for image, label in loader:
            optimizer.zero_grad(set_to_none=True)
            loss = loss_function(network(image.contiguous(memory_format=torch.channels_last)), label)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        return time.process_time() - start

    return epoch


def loop(setting: Any) -> dict[str, Any]:
    """Images per second of the bundle's training over those of a plain loop."""
    size = Sizes(setting)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder, size)
        parser = bundle(folder, "plain", size, ("phases/undistilled",))
        trainer = parser.get_parsed_content("train::trainer")
        assert trainer.state.epoch_length == size.steps
        sides = {"bundle": TrainerTurns(trainer), "loop": plain_loop(parser, size)}
        found = take_turns(sides, size.rounds)
    speeds = {f"{name}_images_per_second": round(size.images / median(t), 2) for name, t in found.items()}
    return {"loop_ratio": ratio(found, "loop", "bundle"), **speeds}


def step_masks(setting: Any) -> dict[str, Any]:
    """Seconds of a step with stored soft masks over those of a step without."""
    return _step(setting, "masks")


def step_features(setting: Any) -> dict[str, Any]:
    """Seconds of a step with stored features over those of a step without."""
    return _step(setting, "features")


def step_both(setting: Any) -> dict[str, Any]:
    """Seconds of a step with stored soft masks and features over those of a step without."""
    return _step(setting, "both")


def _step(setting: Any, kind: str) -> dict[str, Any]:
    size = Sizes(setting)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder, size)
        files: tuple[str, ...] = ("phases/undistilled",)
        options: dict[str, Any] = {}
        if kind != "features":
            write_soft_masks(folder, size)
            options["soft_masks"] = str(folder / "soft")
        if kind != "masks":
            options["feature_store"] = str(folder / "store")
            bundle(folder, "store", size, feature_store=options["feature_store"]).get_parsed_content(
                "feature_builder"
            ).build()
            files = ()
        # stored maps are of dihedral views: free geometry rests with them, so it rests on both sides
        rest = {"rotate": 0, "scale": [1, 1], "shift": 0.0}
        sides = {
            "without": bundle(folder, "without", size, ("phases/undistilled",), **rest),
            "with": bundle(folder, "with", size, files, **rest, **options),
        }
        turns = {n: TrainerTurns(parser.get_parsed_content("train::trainer")) for n, parser in sides.items()}
        found = take_turns(turns, size.rounds)
    milliseconds = {f"{n}_ms_per_step": round(1000 * median(t) / size.steps, 1) for n, t in found.items()}
    return {f"step_ratio_{kind}": ratio(found, "with", "without"), **milliseconds}
