"""What is trained and compared: the networks that teach, the arms of the students, the order of all jobs, and what each needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from gain_data import PROTOCOLS, SAME_LABELS

ROOT = Path(__file__).resolve().parents[1]
#: the student: the bundle's U-Net at half its width, 0.4 million parameters
WIDTHS = yaml.safe_load((ROOT / "configs/students/unet_small.yaml").read_text())["network_def"]["features"]
EPOCH_STEPS, EPOCHS = 50, 50
STEPS = EPOCH_STEPS * EPOCHS
#: encoder of a teacher -> its weight file, and what else `configs/students/encoder_unet.yaml` must know of it
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "efficientnet_lite2": (
        "efficientnet_lite2_imagenet.safetensors",
        {"encoder": "tf_efficientnet_lite2", "mean": [127 / 255] * 3, "std": [128 / 255] * 3},
    ),
    "mobilenetv2": (
        "mobilenetv2_100_same_imagenet.safetensors",
        {"mean": [0.5] * 3, "std": [0.5] * 3, "encoder_arguments": {"pad_type": "same"}},
    ),
}


@dataclass(frozen=True)
class Job:
    """One training, or one set of soft masks.

    Args:
        protocol: key of `PROTOCOLS`.
        arm: name in the tables; ``teacher/<encoder>`` for a teacher, ``second teacher/<encoder>`` for one that also learned from
            the soft masks of the first, ``masks/<source>`` for soft masks.
        seed: seed of a training.
    """

    protocol: str
    arm: str
    seed: int = 0

    @property
    def name(self) -> str:
        """Folder name."""
        return f"{self.protocol}_{self.arm}_{self.seed}".replace(" ", "_").replace("/", "-")


HALF = {"unlabelled_share": 0.5}
#: whose soft masks are made here by ``autolabel``
GIVEN_BY = ("teachers", "students", "second")
#: of a second teacher, which has three quarters of its batches without drawn masks
SECOND_STEPS = 800
#: arms of another student than the benchmark's are named after it: what follows the comma
OTHERS: dict[str, dict[str, Any]] = {
    "unet": {"network_def#features": [2 * n for n in WIDTHS]},  # the bundle's own, of twice the width
    "light_mobilenetv3": {"student": "configs/students/light_mobilenetv3.yaml"},
    # starts from the ImageNet weights of a key of ``ENCODERS``, at the rate of a teacher
    "mobilenetv2_unet": {
        "student": "configs/students/encoder_unet.yaml",
        "encoder": "mobilenetv2",
        "learning_rate": 0.001,
    },
}
#: arm of a student -> whose soft masks it reads, recipe overlay, further options
ARMS: dict[str, tuple[str | None, list[str], dict[str, Any]]] = {
    "alone": (None, ["configs/phases/undistilled.yaml"], {}),
    "alone, twice the steps": (None, ["configs/phases/undistilled.yaml"], {"epochs": [0, 2 * EPOCHS, 0]}),
    # from the bundle's own
    "inherited weights": (None, ["configs/phases/undistilled.yaml"], {}),
    "soft masks": ("teachers", ["configs/recipes/soft_masks.yaml"], {}),
    "soft masks, twice the steps": (
        "teachers",
        ["configs/recipes/soft_masks.yaml"],
        {"epochs": [0, 2 * EPOCHS, 0]},
    ),
    # half of a batch is without drawn masks, not three quarters; the controls too, which are compared with it
    "soft masks, half": ("teachers", ["configs/recipes/soft_masks.yaml"], HALF),
    # as many of a batch as they are of all images: a third with all labels
    "soft masks, by their number": (
        "teachers",
        ["configs/recipes/soft_masks.yaml"],
        {"unlabelled_share": 0.34},
    ),
    # of a teacher that was itself taught by the first one's soft masks
    "second round": ("second", ["configs/recipes/soft_masks.yaml"], {}),
    "student ensemble": ("students", ["configs/recipes/soft_masks.yaml"], HALF),
    "masks of other images": ("shuffled", ["configs/recipes/soft_masks.yaml"], HALF),
    "true masks": ("truth", ["configs/recipes/soft_masks.yaml"], HALF),
    "features": (None, ["configs/recipes/features.yaml"], {}),
    # its first phase is the one on maps: a third of the steps
    "features, then masks": (
        "teachers",
        ["configs/recipes/features_then_masks.yaml"],
        {"epochs": [EPOCHS // 3, EPOCHS - EPOCHS // 3, 0]},
    ),
}
for _name, _more in OTHERS.items():
    ARMS |= {
        f"{arm}, {_name}": (*ARMS[arm][:2], {**ARMS[arm][2], **_more})
        for arm in (
            "alone",
            "alone, twice the steps",
            "soft masks",
            "soft masks, twice the steps",
            "second round",
        )
    }
#: (protocol, arm, seeds), what decides most first
PLAN: list[tuple[str, str, tuple[int, ...]]] = [
    ("few", "alone", (0,)),
    ("few", "soft masks", (0,)),
    ("very few", "alone", (0,)),
    ("very few", "soft masks", (0,)),
    ("all", "alone", (0,)),
    ("all", "soft masks", (0,)),
    ("unseen", "soft masks", (0,)),
    ("few", "alone", (1, 2)),
    ("few", "soft masks", (1, 2)),
    ("very few", "alone", (1, 2)),
    ("very few", "soft masks", (1, 2)),
    ("unseen", "soft masks", (1, 2)),
    ("few", "soft masks, half", (0,)),
    ("very few", "soft masks, half", (0, 1, 2)),
    ("very few", "masks of other images", (0,)),
    ("very few", "student ensemble", (0,)),
    ("very few", "true masks", (0,)),
    ("few", "alone, unet", (0, 1, 2)),
    ("few", "soft masks, unet", (0, 1, 2)),
    ("few", "second round, unet", (0, 1, 2)),
    ("few", "alone, light_mobilenetv3", (0, 1, 2)),
    ("few", "soft masks, light_mobilenetv3", (0, 1, 2)),
    ("few", "alone, mobilenetv2_unet", (0, 1, 2)),
    ("few", "soft masks, mobilenetv2_unet", (0, 1, 2)),
    ("few", "second round, light_mobilenetv3", (0, 1, 2)),
    ("few", "alone, twice the steps, light_mobilenetv3", (0, 1, 2)),
    ("few", "soft masks, twice the steps, light_mobilenetv3", (0, 1, 2)),
    ("unseen", "alone, light_mobilenetv3", (0, 1, 2)),
    ("unseen", "soft masks, light_mobilenetv3", (0, 1, 2)),
    ("unseen", "soft masks, twice the steps, light_mobilenetv3", (0, 1, 2)),
    ("unseen", "alone, twice the steps, light_mobilenetv3", (0, 1, 2)),
    ("all", "soft masks, twice the steps, light_mobilenetv3", (0, 1, 2)),
    ("all", "alone, twice the steps, light_mobilenetv3", (0, 1, 2)),
    ("few", "student ensemble", (0, 1)),
    ("few", "masks of other images", (0,)),
    ("few", "true masks", (0,)),
    ("few", "alone, twice the steps", (0,)),
    ("all", "alone", (1, 2)),
    ("all", "soft masks", (1, 2)),
    ("all", "soft masks, by their number", (1, 0)),
    ("all", "student ensemble", (0,)),
    ("few", "features", (0, 1)),
    ("few", "features, then masks", (0,)),
    ("few", "inherited weights", (0,)),
]


def teacher_jobs(protocol: str) -> list[Job]:
    """Return the adapted teachers of a protocol."""
    own = SAME_LABELS.get(protocol, protocol)
    return [Job(own, f"teacher/{encoder}") for encoder in PROTOCOLS[own].encoders]


def needs(job: Job) -> list[Job]:
    """Return what must be finished before a job."""
    if job.arm == "masks/teachers":
        return teacher_jobs(job.protocol)
    if job.arm == "masks/second":
        return [Job(job.protocol, f"second {teacher.arm}") for teacher in teacher_jobs(job.protocol)[:1]]
    if job.arm.startswith("second teacher/"):
        return [Job(job.protocol, "masks/teachers")]
    if job.arm == "masks/students":
        own = SAME_LABELS.get(job.protocol, job.protocol)
        return [Job(own, "alone", seed) for seed in (0, 1, 2)]
    if job.arm == "inherited weights":
        return [Job(job.protocol, "alone, unet")]
    source = ARMS[job.arm][0] if job.arm in ARMS else None
    own = SAME_LABELS.get(job.protocol, job.protocol)
    return [Job(own, f"masks/{source}")] if source in GIVEN_BY else []
