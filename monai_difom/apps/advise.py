"""``monai-difom advise``: which student and which teacher to start with, for the images and the machine that are there."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from ..data.datalists import test_sets, training_pairs
from ..data.unlabelled import unlabelled_images

NOT_MEASURED = "not measured here"
#: labelled images up to which images without masks are worth collecting for a U-Net: they helped at 25, at 100 not surely,
#: `benchmarks/gain.md`
FEW = 50


@dataclass(frozen=True)
class Start:
    """A student and what teaches it.

    Args:
        name: for whom.
        student: overlay of ``configs/students``.
        teacher: overlay of ``configs/teachers``, or a name that `monai-difom teachers` lists.
        recipe: overlay of ``configs/recipes``; None for the bundle's own.
        dice: what the student reached, and beside what, or that nobody measured it.
        milliseconds: of one image of 352 x 352 pixels on two CPU threads in OpenVINO, ``docs/students.md``.
        training: how long it trained for that.
    """

    name: str
    student: str
    teacher: str
    recipe: str | None = None
    dice: str = NOT_MEASURED
    milliseconds: int | None = None
    training: str = NOT_MEASURED

    def cells(self) -> tuple[str, ...]:
        """Return what a table says of it, see `COLUMNS`."""
        time = NOT_MEASURED if self.milliseconds is None else str(self.milliseconds)
        return (
            self.name,
            self.student,
            self.teacher,
            self.recipe or "features",
            self.dice,
            time,
            self.training,
        )

    def command(self, data: Path, unlabelled: Path | None = None) -> str:
        """Return the command that trains it, beside its undistilled twin."""
        words = ["monai-difom", "train", str(data), "--student", self.student, "--teacher", self.teacher]
        words += ["--recipe", self.recipe] if self.recipe else []
        words += ["--unlabelled", str(unlabelled)] if unlabelled and self.recipe else []
        return shlex.join([*words, "--control"])


COLUMNS = ("start", "student", "teacher", "recipe", "Dice", "ms per image", "training")
FEW_LABELS = Start(
    "few labels",
    "unet_small",
    "efficientnet_lite2",
    "soft_masks",
    dice="0.804 on Kvasir with 25 labels (0.697 alone)",
    training="2,500 steps, 25 minutes on one core",
)
CLINIC = Start(
    "CPU in a clinic",
    "light_mobilenetv3",
    "efficientnet_lite2",
    dice="0.658 on Kvasir with 100 labels alone, 0.720 with soft masks; not measured with features",
    milliseconds=4,
    training="2,500 steps, 6 to 20 minutes on one core",
)
GPU = Start("one GPU", "unetpp", "dinov2-base", milliseconds=340)
STARTS = (FEW_LABELS, CLINIC, GPU)
PRETRAINED = (
    "First of all: where there are ImageNet weights for the student's encoder, start from them (--set "
    "network_def#pretrained=true, or a local file). With 100 labels and no teacher a U-Net on an ImageNet MobileNetV2 "
    "(encoder_unet, 12 ms) ended at 0.827 on Kvasir and 0.766 on ClinicDB's other patients, one seed; the best taught "
    "student that started from random weights (unet, 44 ms) at 0.837 and 0.741."
)


def choose(labelled: int, unlabelled: int, gpu: bool) -> tuple[Start, str]:
    """Return where to start, and why in one sentence.

    Args:
        labelled: images with masks.
        unlabelled: images without.
        gpu: whether a GPU is there to train on.
    """
    if unlabelled:
        return (
            FEW_LABELS,
            "There are images without masks: a teacher that is adapted to yours labels them for the student. In our measurements "
            "both test sets gained with 25 labels, and with 100 for the MobileNetV3 of 4 ms. For a U-Net with 100 only images "
            "without masks did for sure; other centres gained 3 to 5 points with 100 and 810, not surely. The control tells.",
        )
    if labelled <= FEW:
        return (
            FEW_LABELS,
            f"There are {labelled} labelled images: collect more without masks, and name their folder by --unlabelled.",
        )
    if gpu:
        return GPU, "There are many labels and a GPU, so a larger student and teacher are worth their time."
    return (
        CLINIC,
        "There are many labels and no GPU: a small student runs at video rate on a CPU.",
    )


def run_advise(data: Path, unlabelled: Path | None = None) -> int:
    """Count images, look for a GPU, and print where to start, with the command.

    Args:
        data: a data set, see `monai_difom.data.training_pairs`.
        unlabelled: folder of images without masks.

    Returns:
        The exit code, 0.

    Raises:
        ValueError, FileNotFoundError: no images, or none that have masks.
    """
    import torch  # late: a folder that is not there is said before

    labelled, tests = len(training_pairs(data.expanduser())), test_sets(data.expanduser())
    others = len(unlabelled_images(unlabelled)) if unlabelled else 0
    gpu = torch.cuda.is_available()
    start, why = choose(labelled, others, gpu)
    named = ", ".join(tests) or "none, so a fifth of the images will be split off"
    print(
        f"{data}: {labelled} images with masks, {others} without; test sets: {named}; {'a' if gpu else 'no'} GPU."
    )
    for each in STARTS:
        values = each.cells()
        print(
            f"\n{'>' if each is start else ' '} {each.name}: {each.student}, taught by {each.teacher} ({values[3]})"
        )
        print(
            "    "
            + "; ".join(f"{name}: {value}" for name, value in zip(COLUMNS[4:], values[4:], strict=True))
        )
    print(f"\n{PRETRAINED}")
    print(f"\nStart with: {start.name}. {why}\n")
    print(start.command(data, unlabelled))
    return 0
