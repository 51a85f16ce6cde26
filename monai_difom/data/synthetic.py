"""Procedural images that look like colonoscopy: to try the whole chain where no real data may be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def _smooth_noise(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """``(size, size)`` noise with about ``cells`` bumps along an axis, mean 0, standard deviation 1."""
    grid = Image.fromarray(rng.standard_normal((cells + 2, cells + 2)).astype(np.float32))
    noise = np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC))
    return (noise - noise.mean()) / (noise.std() + 1e-6)


def _axes(size: int) -> tuple[np.ndarray, np.ndarray]:
    line = np.linspace(-1, 1, size, dtype=np.float32)
    return line[:, None], line[None, :]


def _bump(rng: np.random.Generator, size: int, radius: float) -> tuple[np.ndarray, float, float]:
    """Signed distance-like map of an irregular blob (positive inside, 1 at its centre) and its centre."""
    y, x = _axes(size)
    cy, cx = rng.uniform(-0.6, 0.6, 2)
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(0.7, 1.3)
    dy, dx = y - cy, x - cx
    u = (np.cos(angle) * dx + np.sin(angle) * dy) * stretch
    v = (-np.sin(angle) * dx + np.cos(angle) * dy) / stretch
    theta = np.arctan2(v, u)
    edge = radius * np.ones_like(theta)
    for wave in (2, 3, 5):
        edge *= 1 + rng.uniform(0, 0.25 / wave) * np.cos(wave * theta + rng.uniform(0, 2 * np.pi))
    return 1 - np.sqrt(u**2 + v**2) / edge, float(cy), float(cx)


def _mucosa(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Relief and RGB colour of the wall, with folds and vessels."""
    y, x = _axes(size)
    relief = 0.10 * _smooth_noise(rng, size, 3) + 0.03 * _smooth_noise(rng, size, 9)
    cy, cx = rng.uniform(-1.5, 1.5, 2)
    rings = np.sqrt((y - cy) ** 2 + (x - cx) ** 2) + 0.08 * _smooth_noise(rng, size, 4)
    phase = rings * rng.uniform(7, 13)
    relief = relief + rng.uniform(0.05, 0.16) * np.abs(np.sin(phase)) ** 0.6
    tint = np.array([0.74, 0.42, 0.33]) + rng.normal(0, 1, 3) * [0.05, 0.05, 0.04]
    colour = tint + 0.035 * _smooth_noise(rng, size, 5)[..., None] * np.array([0.6, 1.0, 0.9])
    vessels = np.exp(-((_smooth_noise(rng, size, 7) / 0.09) ** 2)) * (_smooth_noise(rng, size, 4) > 0.3)
    colour = colour - rng.uniform(0.04, 0.12) * vessels[..., None] * np.array([0.4, 1.0, 0.8])
    return relief, colour


def _add_polyp(
    rng: np.random.Generator, relief: np.ndarray, colour: np.ndarray, mask: np.ndarray, contrast: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size = len(mask)
    inside, _, _ = _bump(rng, size, rng.uniform(0.18, 0.5))
    soft = np.clip(inside / 0.12 + 0.5, 0, 1)
    dome = np.sqrt(np.clip(inside, 0, 1))
    texture = 0.02 * _smooth_noise(rng, size, max(size // 7, 2))
    relief = relief * (1 - 0.75 * soft) + rng.uniform(0.25, 0.5) * dome + texture * soft
    shift = rng.uniform(-0.04, 0.06, 3) + 0.03 * _smooth_noise(rng, size, max(size // 9, 2))[..., None]
    return relief, colour + contrast * shift * soft[..., None], mask | (inside > 0)


def _add_distractors(
    rng: np.random.Generator, relief: np.ndarray, colour: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Round things that are no polyps: reddish or pale flat patches, and bubbles with a bright rim."""
    size = len(relief)
    for _ in range(rng.integers(1, 3)):
        inside, _, _ = _bump(rng, size, rng.uniform(0.15, 0.4))
        colour = colour + rng.uniform(-0.06, 0.06, 3) * np.clip(inside * 2, 0, 1)[..., None]
    for _ in range(rng.integers(0, 4)):
        inside, _, _ = _bump(rng, size, rng.uniform(0.03, 0.12))
        rim = np.exp(-((inside / 0.15) ** 2))
        colour = colour + 0.14 * rim[..., None] - 0.03 * (inside > 0)[..., None]
    return relief, colour


def polyp_image(rng: np.random.Generator, size: int, contrast: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image with one or two polyps and its mask.

    Args:
        rng: source of all randomness.
        size: height and width, from 32 pixels.
        contrast: how far the colour of a polyp is from that of its surroundings. At 1 it is hardly further than that of the flat
            patches which are no polyps, and networks of a few minutes do not find it; at 2 they do.

    Returns:
        ``(image, mask)``: ``(size, size, 3)`` uint8 RGB, and ``(size, size)`` uint8 of 0 and 255.

    Raises:
        ValueError: the size is below 32, the contrast below 0 or no number.
    """
    if not 0 <= contrast < float("inf"):
        raise ValueError(f"contrast is {contrast}; allowed are numbers from 0, such as 2.")
    if size < 32:
        raise ValueError(f"size is {size}; synthetic images need at least 32 pixels along a side.")
    y, x = _axes(size)
    relief, colour = _mucosa(rng, size)
    relief, colour = _add_distractors(rng, relief, colour)
    mask = np.zeros((size, size), dtype=bool)
    for _ in range(1 + (rng.random() < 0.25)):
        relief, colour, mask = _add_polyp(rng, relief, colour, mask, contrast)
    # a lamp beside the lens: slopes towards it are bright, the far wall and the corners are dark
    slope_y, slope_x = np.gradient(relief * size / 8)
    angle = rng.uniform(0, 2 * np.pi)
    lambert = np.cos(angle) * slope_x + np.sin(angle) * slope_y
    ly, lx = rng.uniform(-0.4, 0.4, 2)
    distance = (y - ly) ** 2 + (x - lx) ** 2
    light = (
        (1.1 - 0.38 * distance)
        * (1 + 0.35 * np.tanh(1.5 * lambert))
        * (1 + 0.06 * _smooth_noise(rng, size, 2))
    )
    wet = _smooth_noise(rng, size, size // 6)
    facing = np.exp(-((lambert - 0.25) ** 2 / 0.04)) * np.exp(-distance)
    shine = np.clip((wet * facing - 1.1) * 3, 0, 1)[..., None]
    image = colour * np.clip(light, 0.03, None)[..., None]
    image = image * (1 - shine) + 0.97 * shine + rng.normal(0, 0.012, (size, size, 1))
    lens = np.clip((1.28 - np.sqrt(y**2 + x**2)) * 12, 0, 1)[..., None]
    image = np.clip(image * lens, 0, 1)
    return (image * 255 + 0.5).astype(np.uint8), mask.astype(np.uint8) * 255


def make_polyps(
    output_dir: str | Path,
    train: int = 64,
    test: int = 32,
    size: int = 160,
    seed: int = 0,
    contrast: float = 1.0,
) -> None:
    """Write a data set of synthetic images in PraNet's layout, for trials and tests (never for a clinic).

    Writes ``TrainDataset/{image,mask}`` and ``TestDataset/synthetic/{images,masks}`` as PNG. The same
    arguments write the same pixels; image number ``n`` does not depend on how many are written.

    Args:
        output_dir: folder to write to; it is created.
        train: number of training pairs, from 1.
        test: number of test pairs, from 0.
        size: height and width, from 32 pixels.
        seed: seed of the data set.
        contrast: how far the colour of a polyp is from that of its surroundings, see `polyp_image`.

    Raises:
        ValueError: a number is below its range.
    """
    if train < 1 or test < 0:
        raise ValueError(f"train is {train} and test {test}; allowed is train from 1 and test from 0.")
    root = Path(output_dir)
    parts = [(0, train, root / "TrainDataset", "image", "mask")]
    if test:
        parts.append((1, test, root / "TestDataset" / "synthetic", "images", "masks"))
    for part, count, folder, images, masks in parts:
        for kind in (images, masks):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image, mask = polyp_image(np.random.default_rng([seed, part, number]), size, contrast)
            name = f"synthetic_{number:04d}.png"
            Image.fromarray(image).save(folder / images / name, compress_level=1)
            Image.fromarray(mask).save(folder / masks / name, compress_level=1)
