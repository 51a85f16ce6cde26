"""What a person asks of a training in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: what ``quick`` sets: minutes, whatever the size of the data set; figures that mean nothing
QUICK = {"image_size": 96, "batch_size": 8, "limit": 64, "train#trainer#max_epochs": 6, "adapt_epochs": 6}


@dataclass(frozen=True)
class Request:
    """A training, as it is asked for.

    Args:
        data: folder of the data set, or a ``datalist.json``.
        bundle: name or folder of the bundle whose method is used.
        teachers: overlays of ``configs/teachers``, names of `monai_difom.zoo.ZOO`, weight files, or folders of finished
            runs and bundles; without any the student is trained alone.
        student: overlay of ``configs/students``; None takes the bundle's own.
        recipe: overlay of ``configs/recipes``; None takes the bundle's own.
        quick: small and short, to see that everything runs; its figures mean nothing.
        images: name of the folder of images; None finds it.
        masks: name of the folder of masks; None finds it.
        suffix: what stands behind an image's name in its mask's name.
        group: which images belong together, see `monai_difom.data.regroup`.
        unlabelled: folder of further images without masks.
        structure: what is segmented, in a word.
        task: the task in a few words.
        modality: what the images are, in a word.
        output: the run's folder; None names one below ``runs``.
        settings: id -> value of the configuration that is merged.
    """

    data: Path
    bundle: str = "polyp_difom"
    teachers: Sequence[str] = ()
    student: str | None = None
    recipe: str | None = None
    quick: bool = False
    images: str | None = None
    masks: str | None = None
    suffix: str = ""
    group: str | None = None
    unlabelled: Path | None = None
    structure: str | None = None
    task: str | None = None
    modality: str | None = None
    output: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def limit(self) -> Any:
        """Number of images whose masks are used at most; None for all."""
        return self.settings.get("limit", QUICK["limit"] if self.quick else None)
