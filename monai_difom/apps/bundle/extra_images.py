"""What is looked at before a training on images without masks: that they are not held out, and that soft masks are theirs."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...data import SoftMaskError, check_unlabelled
from ...data.soft_masks import AnySoftMasks
from ...data.unlabelled import REST
from ...utils import main_rank_only, write_json

logger = logging.getLogger(__name__)
Items = Sequence[Mapping[str, Any]]
_COMPARED = "unlabelled.json"


@main_rank_only
def check_unlabelled_images(
    unlabelled: str | os.PathLike | Sequence[str | os.PathLike] | None,
    items: Items,
    held_out: Mapping[str, Items],
    output_dir: str | os.PathLike,
    progress: bool = True,
) -> None:
    """Refuse folders of images without masks in which a validation or test image lies; each pair of sets is compared once.

    Args:
        unlabelled: where the items are from, see `monai_difom.data.unlabelled_items`. The rest of the training images was split
            from the held-out ones with the data set and is not compared.
        items: images without masks.
        held_out: name of a set -> its items.
        output_dir: folder for ``unlabelled.json``, which says what was compared.
        progress: show a progress bar.

    Raises:
        ValueError: see `monai_difom.data.check_unlabelled`.
    """
    sources = [unlabelled] if isinstance(unlabelled, (str, os.PathLike)) else list(unlabelled or ())
    folders = [Path(source).expanduser() for source in sources if source != REST]
    own = [item for item in items if any(Path(item["image"]).is_relative_to(folder) for folder in folders)]
    if not own:
        return
    sets = {"images without masks": own, **held_out}
    seen = {name: sorted(_state(item["image"]) for item in part) for name, part in sets.items()}
    file = Path(output_dir) / _COMPARED
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("compared") == seen:
        return
    report = check_unlabelled(own, held_out, progress)
    nearest = "" if report["nearest"] is None else f"; the nearest is at distance {report['nearest']:.3f}"
    logger.info(
        "None of the %d validation and test images is among the %d without masks%s.",
        report["held_out"],
        len(own),
        nearest,
    )
    write_json(file, {**report, "compared": seen})


def check_soft_masks(
    masks: AnySoftMasks | None,
    labelled: Items,
    unlabelled: Items,
    channels: int = 1,
    progress: bool = True,
) -> None:
    """Refuse soft masks of other images or structures before a training starts; does nothing without soft masks.

    Args:
        masks: the soft masks.
        labelled: labelled training items, which may have soft masks.
        unlabelled: items without labels, which must have them.
        channels: number of structures of the student.
        progress: show a progress bar.

    Raises:
        SoftMaskError: says what is missing, of another size, or constant.
    """
    if masks is None:
        return
    if len(masks.structures) != channels:
        raise SoftMaskError(
            f"the soft masks in {masks.folder} are of {len(masks.structures)} structure(s) ({', '.join(masks.structures)}), the "
            f"student's masks of {channels}. Label the images with teachers of the same structures."
        )
    both = [str(item["image"]) for item in labelled if masks.has(item["image"])]
    alone = [str(item["image"]) for item in unlabelled]
    if not both and not alone:
        raise SoftMaskError(
            f"the soft masks in {masks.folder} are of none of the {len(labelled)} training images, and there are no images "
            "without masks. Give the soft masks of these images, or the folder of images that they are of as unlabelled."
        )
    masks.check([*both, *alone], progress=progress)
    logger.info(
        "Soft masks of %d of %d labelled images and of all %d images without masks.",
        len(both),
        len(labelled),
        len(alone),
    )


def _state(path: str | os.PathLike) -> list[Any]:
    return [os.fspath(path), os.path.getsize(path), os.path.getmtime(path)]
