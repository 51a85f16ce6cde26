"""A tiny student that has learned something, as a run, a bundle and an export, for the tests of what runs it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from monai_difom.apps import write_trained_bundle
from monai_difom.apps.deployed.facts import Deployment
from monai_difom.apps.deployed.network import build_network
from monai_difom.apps.runs.examples import picture
from monai_difom.apps.runs.keep_examples import outline
from monai_difom.utils import save_state

ROOT = Path(__file__).parents[3]
SIZE = 32
MONAI_NETWORK = {
    "_target_": "monai.networks.nets.BasicUNet",
    "spatial_dims": 2,
    "in_channels": 3,
    "out_channels": 1,
    "features": [4, 4, 8, 8, 8, 4],
    "norm": "batch",
}
OWN_NETWORK = {
    "_target_": "monai_difom.networks.nets.DifomUNet",
    "spatial_dims": 2,
    "in_channels": 3,
    "out_channels": 1,
    "features": [4, 6, 8],
}
SCORES = {"n": 2, "dice": 0.7123, "iou": 0.6, "hd95": 12.0, "s_measure": 0.8, "mae": 0.05}
TEACHERS = {"dinov2": {"source": "/home/me/dinov2-base", "licence": "Apache-2.0", "signature": "ab" * 32}}


def blob(seed: int, height: int = 40, width: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """A picture with one bright ellipse on dark noise, and its mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    top, left = rng.uniform(0.3, 0.7, 2) * (height, width)
    mask = ((y - top) / (height / 4)) ** 2 + ((x - left) / (width / 5)) ** 2 < 1
    levels = np.where(mask[..., None], (210, 150, 150), (60, 50, 90)) + rng.integers(
        -25, 25, (height, width, 3)
    )
    return levels.astype(np.uint8), mask


def write_pictures(folder: Path, number: int, height: int = 40, width: int = 60) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}.png" for i in range(number)]
    for i, path in enumerate(paths):
        Image.fromarray(blob(i, height, width)[0]).save(path)
    return paths


def learn(definition: dict[str, Any], file: Path, steps: int = 60) -> Path:
    """Train a network to find the ellipse, in a second or two, and write its weights."""
    torch.manual_seed(0)
    network, facts = build_network(definition).train(), Deployment((SIZE, SIZE))
    pairs = [blob(i) for i in range(8)]
    images = torch.cat([torch.from_numpy(facts.prepare(picture)) for picture, _ in pairs])
    masks = torch.stack([torch.from_numpy(mask)[None].float() for _, mask in pairs])
    masks = torch.nn.functional.interpolate(masks, (SIZE, SIZE))
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(network(images), masks).backward()
        optimiser.step()
    save_state(file, network.state_dict())
    return file


def write_run(folder: Path, definition: dict[str, Any], weights: Path, **settings: Any) -> Path:
    """A finished run: bundle, summary, examples and test images that are where the configuration says."""
    summary = {"teachers": TEACHERS, "test_sets": {"ETIS": SCORES}}
    paths = write_pictures(folder / "data" / "TestDataset" / "ETIS" / "images", 3)
    masks = folder / "data" / "TestDataset" / "ETIS" / "masks"
    masks.mkdir(parents=True)
    entries = {}
    for i, path in enumerate(paths):
        mask = blob(i)[1]
        Image.fromarray(mask.astype(np.uint8) * 255).save(masks / path.name)
        entries[str(path)] = {
            "height": 40,
            "width": 60,
            "dice": 0.5,
            "truth": outline(mask),
            "prediction": outline(mask),
            "kind": ("worst", "median", "best")[i],
            "jpeg": base64.b64encode(picture(path)).decode(),
        }
    (folder / "examples").mkdir()
    (folder / "examples" / "ETIS.json").write_text(json.dumps({"threshold": 0.5, "images": entries}))
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "config.yaml").write_text(f"dataset_dir: {folder / 'data'}\n")
    known = {"network_def": definition, "image_size": SIZE, "mask_threshold": None, **settings}
    write_trained_bundle(folder / "bundle", ROOT / "bundles" / "polyp_difom", weights, known, summary)
    return folder
