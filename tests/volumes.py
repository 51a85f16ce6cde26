"""Tiny NIfTI volumes with a bright ellipsoid, in any orientation, and a bundle of a random 3D network as teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.networks.nets import UNet

CHANNELS = [4, 4, 6, 6, 8]
OBLIQUE = np.array([[0.9, -0.3, 0.1, 4.0], [0.35, 1.1, -0.2, -7.0], [-0.05, 0.2, 2.0, 11.0], [0, 0, 0, 1]])
FLIPPED = np.diag([-1.0, -1.2, 2.0, 1.0]) + np.array([[0, 0, 0, 30.0], [0, 0, 0, 40.0], [0] * 4, [0] * 4])
# superior to inferior along the first axis of the array
TURNED = np.array([[0, 0, 1.0, 0], [1.2, 0, 0, 0], [0, -2.0, 0, 50.0], [0, 0, 0, 1]])
AFFINES = {"plain": np.diag([1.0, 1.2, 2.0, 1.0]), "oblique": OBLIQUE, "flipped": FLIPPED, "turned": TURNED}


def ellipsoid(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """A boolean ellipsoid that is not symmetric in its volume."""
    rng = np.random.default_rng(seed)
    centre = [n * c for n, c in zip(shape, rng.uniform(0.35, 0.6, 3), strict=True)]
    radii = [n * r for n, r in zip(shape, (0.28, 0.2, 0.24), strict=True)]
    grid = np.meshgrid(*map(np.arange, shape), indexing="ij")
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) < 1


def make_volume(
    folder: Path, name: str, affine: np.ndarray, shape: tuple[int, ...] = (30, 34, 18), seed: int = 0
) -> np.ndarray:
    """Write ``images/<name>.nii.gz`` and ``masks/<name>.nii.gz`` (values 0, 1 and 2); return the mask."""
    inside = ellipsoid(shape, seed)
    noise = np.random.default_rng(seed + 1).normal(0, 8, shape)
    mask = inside.astype(np.uint8)
    mask[tuple(np.argwhere(inside)[0])] = 2
    for part, values in (("images", np.where(inside, 120, -20) + noise), ("masks", mask)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        kind = np.int16 if part == "images" else np.uint8
        nibabel.save(nibabel.Nifti1Image(values.astype(kind), affine), folder / part / f"{name}.nii.gz")
    return mask


def make_volumes(folder: Path, count: int = 6) -> Path:
    """A data set of volumes in all orientations."""
    for number in range(count):
        kind = list(AFFINES)[number % len(AFFINES)]
        make_volume(folder, f"case_{number}", AFFINES[kind], seed=10 * number)
    return folder


def unet_definition(**changes: Any) -> dict[str, Any]:
    """MONAI's UNet of five levels, small."""
    return {
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 1,
        "channels": CHANNELS,
        "strides": [2, 2, 2, 2],
        "num_res_units": 2,
        "norm": "instance",
        **changes,
    }


def make_zoo_bundle(folder: Path) -> Path:
    """A bundle of volumes with a random network as MONAI's model zoo has them: JSON, background in channel 0."""
    torch.manual_seed(7)
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    definition = unet_definition(out_channels=2)
    torch.save(UNet(**definition).state_dict(), folder / "models" / "model.pt")
    window = {"a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1, "clip": True}
    steps = [
        {"_target_": "LoadImaged"},
        {"_target_": "EnsureChannelFirstd"},
        {"_target_": "Orientationd", "axcodes": "RAS"},
        {"_target_": "Spacingd", "pixdim": [1.2, 1.2, 2.0], "mode": "bilinear"},
        {"_target_": "ScaleIntensityRanged", **window},
        {"_target_": "EnsureTyped"},
    ]
    config = {
        "network_def": {"_target_": "UNet", **definition},
        "preprocessing": {"_target_": "Compose", "transforms": [{**step, "keys": "image"} for step in steps]},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 16], "overlap": 0.25},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "Activationsd", "keys": "pred", "softmax": True}],
        },
    }
    output = {"num_channels": 2, "channel_def": {"0": "background", "1": "spleen"}}
    metadata = {"network_data_format": {"outputs": {"pred": output}}}
    for name, content in (("inference", config), ("metadata", metadata)):
        (folder / "configs" / f"{name}.json").write_text(json.dumps(content))
    return folder


def make_teacher_bundle(folder: Path) -> Path:
    """A MONAI Bundle folder with a random network, as a person downloads one."""
    torch.manual_seed(7)
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    definition = unet_definition(channels=[4, 6, 8, 8, 8])
    torch.save(UNet(**definition).state_dict(), folder / "models" / "model.pt")
    config = {"network_def": {"_target_": "UNet", **definition}}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    return folder
