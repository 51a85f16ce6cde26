"""The protocols of `benchmarks/gain.py`: which images are labelled, which are there without masks, which are tested."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from monai_difom.data import clinicdb_sequence, test_sets, training_pairs
from monai_difom.utils import atomic_path, locked

VALIDATION = 90
TESTED_SEQUENCES = range(3, 30, 3)  # every third of the 29


@dataclass(frozen=True)
class Protocol:
    """What is labelled, what is not, and what is tested.

    Args:
        labels: labelled images of Kvasir; None for all but the validation images.
        centre: whether 20 sequences of ClinicDB are there without masks.
        tests: test sets.
        teacher_steps: optimiser steps of every adapted teacher.
        encoders: keys of ``ENCODERS``, one teacher each.
    """

    labels: int | None
    centre: bool
    tests: tuple[str, str]
    teacher_steps: int
    encoders: tuple[str, ...] = ("efficientnet_lite2",)


NEW_PATIENTS = ("Kvasir", "ClinicDB-9")
PROTOCOLS = {
    "few": Protocol(100, True, NEW_PATIENTS, 400),
    "very few": Protocol(25, True, NEW_PATIENTS, 400, ("efficientnet_lite2", "mobilenetv2")),
    "all": Protocol(None, True, NEW_PATIENTS, 800),
    "unseen": Protocol(100, False, ("Kvasir", "ClinicDB-612"), 400),
}
#: what teaches or trains on the same labels
SAME_LABELS = {"unseen": "few"}


def split_centres(data: Path) -> dict[str, list[tuple[Path, Path]]]:
    """Return image and mask files of PraNet's folders by part: Kvasir's training and test, ClinicDB's frames."""
    tests = test_sets(data)
    train = [(Path(item["image"]), Path(item["label"])) for item in training_pairs(data)]
    kvasir, clinic = (
        [(Path(item["image"]), Path(item["label"])) for item in tests[name]]
        for name in ("Kvasir", "CVC-ClinicDB")
    )
    return {
        "kvasir": [pair for pair in train if not pair[0].stem.isdigit()],
        "kvasir test": kvasir,
        "clinicdb": [pair for pair in train if pair[0].stem.isdigit()] + clinic,
    }


def lay_out(data: Path, folder: Path, protocol: Protocol) -> Path:
    """Write a protocol's ``datalist.json``, and a folder of links to its images without masks; done once, by one worker.

    The order of Kvasir's images is drawn once, so that fewer labels are a part of more, with the same images for validation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        if not (folder / "datalist.json").is_file():
            _lay_out(data, folder, protocol)
    return folder


def _lay_out(data: Path, folder: Path, protocol: Protocol) -> None:
    parts = split_centres(data.resolve())
    kvasir = list(parts["kvasir"])
    random.Random(0).shuffle(kvasir)
    validation, rest = kvasir[:VALIDATION], kvasir[VALIDATION:]
    count = protocol.labels or len(rest)
    labelled, others = rest[:count], rest[count:]
    frames = [(image, mask, clinicdb_sequence(int(image.stem))) for image, mask in parts["clinicdb"]]
    without = [image for image, _ in others]
    if protocol.centre:
        without += [image for image, _, sequence in frames if sequence not in TESTED_SEQUENCES]

    def entry(image: Path, mask: Path, group: str | None = None) -> dict[str, str]:
        return {"image": str(image), "label": str(mask), "group": group or image.stem}

    clinic = [(image, mask, f"sequence-{sequence:02d}") for image, mask, sequence in frames]
    tested = {f"sequence-{sequence:02d}" for sequence in TESTED_SEQUENCES}
    tests = {
        "Kvasir": [entry(*pair) for pair in parts["kvasir test"]],
        "ClinicDB-9": [entry(*frame) for frame in clinic if frame[2] in tested],
        "ClinicDB-612": [entry(*frame) for frame in clinic],
    }
    lists = {
        "training": [entry(*pair) for pair in labelled],
        # no more images to choose an epoch by than to train on
        "validation": [entry(*pair) for pair in validation[:count]],
        "test": {name: tests[name] for name in protocol.tests},
    }
    masks = {image: mask for part in parts.values() for image, mask in part}
    # a derangement by one place in a drawn order: every image has the mask of another
    drawn = random.Random(1).sample(without, len(without))
    for name in ("unlabelled", "truth", "shuffled"):
        (folder / name).mkdir(exist_ok=True)
    for image, other in zip(drawn, drawn[1:] + drawn[:1], strict=True):
        for link, file in (
            (folder / "unlabelled" / image.name, image),
            (folder / "truth" / f"{image.stem}{masks[image].suffix}", masks[image]),
        ):
            if not link.is_symlink():
                link.symlink_to(file)
        write_resized(masks[other], image, folder / "shuffled" / f"{image.stem}.png")
    # last, and at once: a datalist says that everything else is there
    with atomic_path(folder / "datalist.json") as temporary:
        temporary.write_text(json.dumps(lists, indent=1))


def write_resized(mask: Path, image: Path, file: Path) -> None:
    """Write another image's mask at an image's size."""
    with Image.open(image) as opened:
        size = opened.size
    with Image.open(mask) as opened:
        opened.convert("L").resize(size, Image.Resampling.NEAREST).save(file)
