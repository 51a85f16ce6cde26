"""Procedural frames that look like a swallow under lateral fluoroscopy, with 12 structures that move and overlap.

To try training on many structures where no patient's images may be used; never for a clinic.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter

Polygon = np.ndarray  # (n, 2): x to the right (dorsal), y down, in widths of the image

# structure -> what it adds to the attenuation of the soft tissue around it (air takes away)
ATTENUATION = {
    "mandible": 0.50,
    "hard_palate": 0.42,
    "soft_palate": 0.16,
    "tongue": 0.18,
    "hyoid": 0.40,
    "epiglottis": 0.20,
    "larynx": 0.16,
    "trachea": -0.42,
    "pharynx": -0.34,
    "oesophagus": 0.05,
    "cervical_spine": 0.62,
    "bolus": 1.25,
}
#: the 12 structures of a drawn swallow, in the order of the channels of their masks
STRUCTURES = tuple(ATTENUATION)
OVERSAMPLING = 3


def _curve(points: Sequence[tuple[float, float]], samples: int = 48) -> np.ndarray:
    """A smooth curve through points, ``(samples, 2)``."""
    knots = np.asarray(points, dtype=float)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    return CubicSpline(length, knots)(np.linspace(0, length[-1], samples))


def _band(points: Sequence[tuple[float, float]], widths: Sequence[float]) -> Polygon:
    """The outline of a curved band of varying width."""
    line = _curve(points)
    along = np.gradient(line, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], 1) / np.linalg.norm(along, axis=1, keepdims=True)
    width = np.interp(np.linspace(0, 1, len(line)), np.linspace(0, 1, len(widths)), widths)[:, None] / 2
    return np.concatenate([line + normal * width, (line - normal * width)[::-1]])


def _oval(
    centre: tuple[float, float], radii: tuple[float, float], degrees: float = 0, power: float = 2
) -> Polygon:
    """An ellipse; with a power above 2 it has corners."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    x, y = (np.sign(f) * np.abs(f) ** (2 / power) for f in (np.cos(angle), np.sin(angle)))
    turn = np.deg2rad(degrees)
    x, y = x * radii[0], y * radii[1]
    return np.stack(
        [centre[0] + np.cos(turn) * x - np.sin(turn) * y, centre[1] + np.sin(turn) * x + np.cos(turn) * y], 1
    )


def _pulse(time: float, peak: float, width: float) -> float:
    return float(np.exp(-(((time - peak) / width) ** 2)))


def _spine(lean: float) -> list[Polygon]:
    """Bodies and spinous processes of six vertebrae, from below the skull to the chest."""
    parts = []
    for n in range(6):
        y = 0.30 + 0.125 * n
        x = 0.735 + 0.05 * np.cos(n / 5 * np.pi) * lean - 0.02 * np.sin(n / 5 * np.pi)
        parts.append(_oval((x, y), (0.050 + 0.003 * n, 0.049), -8 + 3 * n, power=4))
        parts.append(
            _band([(x + 0.09, y + 0.01), (x + 0.14, y + 0.03), (x + 0.19, y + 0.05)], [0.035, 0.03, 0.02])
        )
    return parts


def _bolus(time: float, amount: float) -> list[Polygon]:
    """The bolus on its way from the mouth to the oesophagus; none before and after."""
    way = _curve(
        [
            (0.30, 0.315),
            (0.44, 0.305),
            (0.565, 0.385),
            (0.615, 0.52),
            (0.618, 0.66),
            (0.632, 0.80),
            (0.64, 1.0),
        ],
        101,
    )
    head = np.clip((time - 0.12) / 0.66, 0, 1.2)
    length = 0.16 + 0.16 * _pulse(time, 0.55, 0.2)
    first, last = int(100 * max(head - length, 0)), int(100 * min(head, 1))
    if last - first < 6:
        return []
    shape = amount * np.sin(np.linspace(0.25, np.pi - 0.15, 7)) ** 0.7
    return [_band([tuple(p) for p in way[first : last + 1 : max((last - first) // 6, 1)]], shape.tolist())]


def _anatomy(time: float, lean: float, amount: float) -> dict[str, list[Polygon]]:
    """Outlines of all structures at a time in [0, 1] of a swallow."""
    swallow = _pulse(time, 0.5, 0.17)
    velum, chew = _pulse(time, 0.42, 0.16), 0.012 * np.sin(9 * time) * _pulse(time, 0.1, 0.2)
    up, front = 0.065 * swallow, 0.05 * swallow
    tip = np.deg2rad(-68 + 150 * _pulse(time, 0.54, 0.13))  # the epiglottis folds backwards over the airway
    root = (0.525 - front * 0.6, 0.635 - up)
    leaf = [
        (root[0] + r * np.cos(tip + b), root[1] + r * np.sin(tip + b))
        for r, b in ((0, 0), (0.055, 0.12), (0.105, 0))
    ]
    wide = 0.042 + 0.03 * _pulse(time, 0.52, 0.15)
    return {
        "mandible": [
            _band(
                [
                    (0.155, 0.475 + chew),
                    (0.19, 0.535 + chew),
                    (0.36, 0.54 + chew),
                    (0.53, 0.485),
                    (0.585, 0.36),
                    (0.60, 0.23),
                ],
                [0.045, 0.075, 0.062, 0.07, 0.075, 0.05],
            )
        ],
        "hard_palate": [
            _band([(0.155, 0.285), (0.20, 0.245), (0.34, 0.232), (0.475, 0.252)], [0.05, 0.042, 0.032, 0.028])
        ],
        "soft_palate": [
            _band(
                [(0.465, 0.25), (0.53, 0.27 - 0.025 * velum), (0.575 + 0.03 * velum, 0.345 - 0.085 * velum)],
                [0.034, 0.04, 0.02],
            )
        ],
        "tongue": [
            _oval((0.365 + 0.02 * swallow, 0.405 - 0.012 * swallow), (0.185, 0.098), 8),
            _oval((0.485 + 0.025 * swallow, 0.47), (0.072, 0.115), -12),
        ],
        "hyoid": [
            _band(
                [(0.415 - front, 0.605 - up), (0.45 - front, 0.592 - up), (0.50 - front, 0.575 - up)],
                [0.034, 0.03, 0.018],
            )
        ],
        "epiglottis": [_band(leaf, [0.022, 0.026, 0.012])],
        "larynx": [
            _oval((0.505 - front * 0.5, 0.725 - up), (0.052, 0.072), 12),
            _oval((0.565 - front * 0.4, 0.70 - up), (0.022, 0.034), 20),
        ],
        "trachea": [
            _band([(0.522 - front * 0.4, 0.745 - up), (0.528, 0.88), (0.545, 1.04)], [0.034, 0.056, 0.06])
        ],
        "pharynx": [
            _band(
                [(0.615, 0.285), (0.625, 0.40), (0.617, 0.53), (0.607, 0.66 - 0.5 * up)],
                [0.05, 0.055, wide, 0.028],
            )
        ],
        "oesophagus": [_band([(0.612, 0.68 - 0.4 * up), (0.63, 0.80), (0.64, 1.04)], [0.024, 0.036, 0.042])],
        "cervical_spine": _spine(lean),
        "bolus": _bolus(time, amount),
    }


class _Patient:
    """What stays the same in one patient's video: build, posture, dose and collimation."""

    def __init__(self, rng: np.random.Generator) -> None:
        turn, scale = np.deg2rad(rng.uniform(-7, 7)), rng.uniform(0.88, 1.05, 2) * rng.uniform(0.94, 1.04)
        self.matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * scale
        self.shift = rng.uniform(-0.035, 0.035, 2)
        self.waves = rng.uniform(-0.010, 0.010, (3, 2)), rng.uniform(0, 2 * np.pi, (3, 2))
        self.lean, self.amount = rng.uniform(-1, 1), rng.uniform(0.055, 0.085)
        self.thickness, self.photons = rng.uniform(0.9, 1.3), rng.uniform(200, 600)
        self.round = bool(rng.random() < 0.5)
        self.field = rng.uniform(0.44, 0.50)
        self.denture = bool(rng.random() < 0.4)
        self.texture = int(rng.integers(2**31))

    def place(self, outline: Polygon) -> Polygon:
        """Bring an outline from the model's frame into this patient's."""
        size, phase = self.waves
        bent = outline.copy()
        for n in range(3):
            bent += size[n] * np.sin(2 * np.pi * (n + 1) * outline[:, ::-1] + phase[n])
        return (bent - 0.5) @ self.matrix.T + 0.5 + self.shift


def _fill(outlines: Sequence[Polygon], patient: _Patient, size: int) -> np.ndarray:
    """Share of every pixel that outlines cover, ``(size, size)`` in [0, 1]."""
    fine = size * OVERSAMPLING
    sheet = Image.new("L", (fine, fine))
    for outline in outlines:
        ImageDraw.Draw(sheet).polygon([tuple(p) for p in patient.place(outline) * fine], fill=255)
    return np.asarray(sheet.resize((size, size), Image.Resampling.BOX), dtype=np.float32) / 255


def _body(patient: _Patient, size: int) -> np.ndarray:
    """Attenuation of head, neck and shoulder without the structures."""
    head = [
        _oval((0.50, 0.20), (0.42, 0.40), 0, 2.6),
        _band([(0.56, 0.3), (0.60, 0.7), (0.62, 1.2)], [0.75, 0.50, 0.62]),
    ]
    chin = [_oval((0.30, 0.44), (0.22, 0.17), 15)]
    shoulder, skull = [_oval((0.78, 1.08), (0.5, 0.20), -14)], [_oval((0.66, 0.05), (0.34, 0.21), 8)]
    soft = gaussian_filter(_fill([*head, *chin], patient, size), size * 0.02)
    thick = 0.75 * soft + 0.55 * gaussian_filter(_fill(shoulder, patient, size), size * 0.03)
    thick += 0.45 * gaussian_filter(_fill(skull, patient, size), size * 0.008)
    teeth = [_oval((0.17 + 0.037 * n, y), (0.0155, 0.030), power=3) for n in range(7) for y in (0.292, 0.462)]
    thick += (0.9 if patient.denture else 0.28) * _fill(teeth[: 6 if patient.denture else 14], patient, size)
    cloud = np.random.default_rng(patient.texture).standard_normal((2, size, size))
    thick += soft * sum(
        amount * field / (field.std() + 1e-6)
        for amount, field in zip(
            (0.05, 0.02),
            (gaussian_filter(c, size * s) for c, s in zip(cloud, (0.08, 0.015), strict=True)),
            strict=True,
        )
    )
    return thick * patient.thickness


def swallow_frame(
    patient: int, time: float, size: int = 256, seed: int = 0, noise: int = 0
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draw one frame of one patient's swallow.

    Args:
        patient: number of the patient: build, posture and dose depend on it and the seed alone.
        time: 0 before the swallow to 1 after it.
        size: height and width, from 48 pixels.
        seed: seed of the data set.
        noise: number of the frame; its quantum noise depends on it.

    Returns:
        ``(image, masks)``: ``(size, size)`` uint8, bone and contrast medium dark; and per name of `STRUCTURES` a mask of
        the same shape, uint8 of 0 and 255. Masks overlap; the bolus is empty at the ends of the swallow.

    Raises:
        ValueError: the size is below 48, or the time outside [0, 1].
    """
    if size < 48 or not 0 <= time <= 1:
        raise ValueError(f"size is {size} and time {time}; allowed are size from 48 and time from 0 to 1.")
    person = _Patient(np.random.default_rng([seed, patient]))
    rng = np.random.default_rng([seed, patient, noise, 1])
    cover = {
        name: _fill(parts, person, size) for name, parts in _anatomy(time, person.lean, person.amount).items()
    }
    thick = _body(person, size)
    for name, value in cover.items():
        # rounded things are thin at their rim
        dome = 0.55 * value + 0.45 * gaussian_filter(value, size * 0.012) * value
        thick += ATTENUATION[name] * dome
    # bones are denser outside than inside
    spine = cover["cervical_spine"]
    thick += 0.16 * np.clip(spine - gaussian_filter(spine, size * 0.012), 0, 1)
    signal = np.exp(-thick)
    signal = 0.78 * signal + 0.22 * gaussian_filter(signal, size * 0.10)  # scatter takes contrast away
    detected = gaussian_filter(rng.poisson(person.photons * signal) / person.photons, 0.0025 * size)
    # the display looks at the logarithm, as radiologists do
    shown = np.log(np.clip(detected, 0.02, None))
    shown = (shown - np.log(0.06)) / (np.log(1.02) - np.log(0.06))
    line = (np.arange(size) + 0.5) / size - 0.5
    away = (
        np.hypot(line[:, None], line[None])
        if person.round
        else np.maximum(abs(line[:, None]), abs(line[None]) * 1.02)
    )
    open_field = np.clip((person.field - away) * size / 2 + 0.5, 0, 1)
    image = np.clip(0.04 + 0.90 * shown, 0, 1) * open_field + 0.015 * (1 - open_field)
    masks = {
        name: ((value >= 0.5) & (open_field > 0.5)).astype(np.uint8) * 255 for name, value in cover.items()
    }
    return (image * 255 + 0.5).astype(np.uint8), masks


def make_fluoroscopy(
    output_dir: str | Path,
    patients: int = 6,
    test_patients: int = 2,
    frames: int = 8,
    size: int = 128,
    missing: float = 0.15,
    seed: int = 0,
) -> None:
    """Write a data set of videos in the layout of many structures: a folder of masks per structure.

    Writes ``structures.json``, ``TrainDataset/images/p00_f000.png``, ``TrainDataset/masks/<structure>/p00_f000.png``, the same
    under ``TestDataset/synthetic``, and ``frames.csv`` (image, patient, frame). Some patients' masks of some structures are
    left out, as if nobody had drawn them. The same arguments write the same pixels.

    Args:
        output_dir: folder to write to; it is created.
        patients: number of training patients, from 2 (one for validation).
        test_patients: number of test patients, from 0.
        frames: frames per patient, evenly over the swallow, from 1.
        size: height and width, from 48 pixels.
        missing: share of the structures that a patient has no masks of, in [0, 1). The first patient has all.
        seed: seed of the data set.

    Raises:
        ValueError: a number is out of its range.
    """
    if patients < 2 or test_patients < 0 or frames < 1 or not 0 <= missing < 1:
        raise ValueError(
            f"patients is {patients}, test_patients {test_patients}, frames {frames} and missing {missing}; allowed are "
            "patients from 2, test_patients from 0, frames from 1, missing in [0, 1)."
        )
    root = Path(output_dir)
    rows: list[tuple[str, str, int]] = []
    for patient in range(patients + test_patients):
        folder = root / ("TrainDataset" if patient < patients else "TestDataset/synthetic")
        chance = np.random.default_rng([seed, patient, 7])
        lacking = (
            chance.choice(STRUCTURES, round(missing * len(STRUCTURES)), replace=False) if patient else ()
        )
        for frame in range(frames):
            time = frame / max(frames - 1, 1)
            image, masks = swallow_frame(patient, time, size, seed, noise=frame)
            name = f"p{patient:02d}_f{frame:03d}.png"
            pictures = {f"masks/{key}": mask for key, mask in masks.items() if key not in lacking}
            for place, picture in {"images": image, **pictures}.items():
                (folder / place).mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(folder / place / name, compress_level=1)
            rows.append((name, f"p{patient:02d}", frame))
    (root / "structures.json").write_text(json.dumps({"structures": list(STRUCTURES)}, indent=2) + "\n")
    with open(root / "frames.csv", "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("image", "patient", "frame"), *rows])
