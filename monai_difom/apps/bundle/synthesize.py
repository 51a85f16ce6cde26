"""Make a transfer set: train a small diffusion model on few images, draw many, and see that none is a test image."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ...data.duplicates import check_transfer
from ...data.transfer import load_pictures
from ...engines.diffusion import DiffusionSettings, ImageDiffusion
from ...handlers.pictures import panel
from ...utils import atomic_path, file_digest, main_rank_only, write_json
from ...utils.documents import read_large_json

logger = logging.getLogger(__name__)
MODEL, MANIFEST = "diffusion.pt", "manifest.json"


def train_diffusion(
    images: Sequence[str | os.PathLike],
    output_dir: str | os.PathLike,
    steps: int = 20000,
    settings: Mapping[str, Any] | None = None,
    sample_every: int = 2000,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> ImageDiffusion:
    """Train a diffusion model on pictures, or go on where ``output_dir`` left off.

    Writes ``diffusion.pt`` (all that a resumed training needs) and a sheet of samples ``samples/<step>.png`` after every
    ``sample_every`` steps and at the end.

    Args:
        images: picture files.
        output_dir: folder of the model.
        steps: total training steps.
        settings: values of `DiffusionSettings` that differ from its defaults, such as ``image_size``.
        sample_every: steps between two writes.
        device: where to train.
        progress: show a progress bar.

    Returns:
        The trained model.

    Raises:
        ValueError: fewer images than one batch, or the folder holds a model with other settings.
    """
    folder = Path(output_dir)
    wanted = DiffusionSettings(**(settings or {}))
    model = folder / MODEL
    diffusion = (
        ImageDiffusion.load(model, device, wanted) if model.is_file() else ImageDiffusion(wanted, device)
    )
    if diffusion.step >= steps:
        logger.info("%s has done its %d steps already.", model, steps)
        return diffusion

    def written(current: ImageDiffusion) -> None:
        drawn = current.sample(16, sampler="ddim", steps=min(50, wanted.timesteps), seed=wanted.seed)
        rows = [list(drawn[i : i + 4]) for i in range(0, 16, 4)]
        with atomic_path(folder / "samples" / f"{current.step:06d}.png") as temporary:
            panel(rows, [f"step {current.step}", "", "", ""], side=max(96, wanted.image_size)).save(
                temporary, format="PNG"
            )
        current.save(model)

    pictures = load_pictures(images, wanted.image_size).float() / 127.5 - 1
    diffusion.train(pictures, steps, progress, sample_every, written)
    return diffusion


def generate_images(
    diffusion: ImageDiffusion,
    output_dir: str | os.PathLike,
    count: int,
    batch_size: int = 16,
    sampler: str = "ddim",
    sampling_steps: int = 50,
    seed: int = 0,
    source: str = "",
    progress: bool = True,
) -> list[Path]:
    """Draw images and write them as PNG with a manifest; what is there already is kept.

    Args:
        diffusion: the model.
        output_dir: folder; images go to ``images/``.
        count: number of images.
        batch_size: images drawn together. An image depends on the seed, its batch and the batch size.
        sampler: ``"ddim"`` or ``"ddpm"``.
        sampling_steps: denoising steps of ``"ddim"``.
        seed: seed of the set.
        source: identity of the model, for the manifest.
        progress: show a progress bar.

    Returns:
        The paths of all images.

    Raises:
        ValueError: a number below 1, or the folder holds images of another model or other settings.
    """
    if count < 1 or batch_size < 1:
        raise ValueError(f"count is {count} and batch_size {batch_size}; both must be at least 1.")
    folder = Path(output_dir)
    about = {
        "model": source,
        "step": diffusion.step,
        "image_size": diffusion.settings.image_size,
        "sampler": sampler,
    }
    about.update(sampling_steps=sampling_steps, seed=seed, batch_size=batch_size)
    _check_manifest(folder / MANIFEST, about)
    write_json(folder / MANIFEST, {**about, "complete": False})
    paths = [folder / "images" / f"synthetic_{i:05d}.png" for i in range(count)]
    bar = tqdm(total=count, unit="image", desc="Drawing", disable=not progress)
    for number, start in enumerate(range(0, count, batch_size)):
        part = paths[start : start + batch_size]
        if not all(path.is_file() for path in part):
            # a whole batch, even at the end: an image must not depend on how many are wanted
            drawn = diffusion.sample(batch_size, number, sampler, sampling_steps, seed)
            for path, pixels in zip(part, drawn, strict=False):
                with atomic_path(path) as temporary:
                    array = (pixels.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
                    Image.fromarray(array).save(temporary, format="PNG")
        bar.update(len(part))
    bar.close()
    listed = [{"image": f"images/{path.name}", "batch": i // batch_size} for i, path in enumerate(paths)]
    write_json(folder / MANIFEST, {**about, "complete": True, "images": listed})
    return paths


def _check_manifest(file: Path, about: Mapping[str, Any]) -> None:
    if not file.is_file():
        return
    found = read_large_json(file)
    other = [
        f"{key} {found.get(key)} (now {value})" for key, value in about.items() if found.get(key) != value
    ]
    if other:
        raise ValueError(
            f"{file.parent} holds images of another model or other settings: {', '.join(other)}. Use another folder, or "
            "remove this one."
        )


@main_rank_only
def synthesize(
    train: Sequence[Mapping[str, Any]],
    test: Mapping[str, Sequence[Mapping[str, Any]]],
    output_dir: str | os.PathLike,
    count: int = 1000,
    steps: int = 20000,
    settings: Mapping[str, Any] | None = None,
    sampler: str = "ddim",
    sampling_steps: int = 50,
    batch_size: int = 16,
    sample_every: int = 2000,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> dict[str, Any]:
    """Make a transfer set by diffusion: train, draw, compare with test and training images. Resumable at any point.

    Of several processes the first one does it; the others get None.

    Args:
        train: labelled training items; only their images are used.
        test: test sets by name; their images are compared with, never trained on.
        output_dir: folder of model, samples, images, manifest and ``duplicates.json`` with its histogram.
        count: images to draw.
        steps: training steps.
        settings: see `train_diffusion`.
        sampler: see `generate_images`.
        sampling_steps: see `generate_images`.
        batch_size: images drawn together.
        sample_every: see `train_diffusion`.
        seed: seed of the images.
        device: where to run.
        progress: show progress bars.

    Returns:
        The report of `monai_difom.data.check_transfer`; only ``images`` where there are no test images.

    Raises:
        ValueError: see `train_diffusion`, `generate_images` and `monai_difom.data.check_transfer`.
    """
    folder = Path(output_dir)
    images = [item["image"] for item in train]
    diffusion = train_diffusion(images, folder, steps, settings, sample_every, device, progress)
    source = file_digest(folder / MODEL)
    paths = generate_images(
        diffusion, folder, count, batch_size, sampler, sampling_steps, seed, source=source, progress=progress
    )
    tests = [item["image"] for items in test.values() for item in items]
    if not tests:
        logger.warning("There are no test images to compare the transfer set with.")
        return {"images": len(paths)}
    report = check_transfer(paths, tests, images, folder, progress)
    logger.info("Distance to the nearest test image: %s", report["to_test"])
    return report
