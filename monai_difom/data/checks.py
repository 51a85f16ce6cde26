"""Checks of images and masks: all files before training, and each pair while it is loaded."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from PIL import Image
from tqdm import tqdm

from ..transforms.image import to_gray, to_rgb
from .items import NIFTI_SUFFIXES
from .volume_grids import volume_problems

SHOWN = 20


def binarise(mask: torch.Tensor, threshold: float | None = None) -> torch.Tensor:
    """Turn a mask of the values {0, v} into {0, 1}.

    Args:
        mask: ``(C, *spatial)``; more than one channel is allowed when the channels are equal. All zero is
            allowed.
        threshold: when given, every value from it upwards becomes 1, on the scale of the file (0 to 255).

    Returns:
        ``(1, *spatial)`` uint8 in {0, 1}; a MetaTensor stays one.

    Raises:
        ValueError: the channels differ, or there are more values than 0 and one other and no threshold.
    """
    if any(not torch.equal(channel, mask[0]) for channel in mask[1:]):
        raise ValueError(
            f"the mask has {mask.shape[0]} channels that differ; allowed is one channel, or equal ones. "
            "Save it as an "
            "8-bit grey PNG, or load it with to_gray."
        )
    mask = mask[:1]
    if threshold is not None:
        return (mask >= threshold).to(torch.uint8)
    lowest, highest = (float(value) for value in torch.aminmax(_plain(mask)))
    two_values = (lowest in (0, highest)) and bool(((mask == 0) | (mask == highest)).all())
    if lowest < 0 or not two_values:
        raise ValueError(
            f"the mask is not binary: {_value_counts(mask)}. Allowed are 0 and one other value; set "
            "mask_threshold "
            "to threshold it (128 for a mask of 0 to 255)."
        )
    return (mask > 0).to(torch.uint8)


def check_pairs(
    items: Sequence[Mapping[str, Any]], mask_threshold: float | None = None, progress: bool = True
) -> None:
    """Open every image and mask completely and report everything that is wrong with them at once.

    Args:
        items: ``{"image": path, "label": path}`` items; extra keys are passed over. Of NIfTI volumes the grids are compared too,
            and the values of masks are not looked at.
        mask_threshold: see `binarise`.
        progress: show a progress bar.

    Raises:
        ValueError: files cannot be read, sizes differ or masks are not binary; lists up to 20 problems.
    """
    problems: list[str] = []
    for item in tqdm(items, desc="Checking images", disable=not progress):
        volume = str(item["image"]).lower().endswith(NIFTI_SUFFIXES)
        problems += volume_problems(item) if volume else _problems_of(item, mask_threshold)
    if problems:
        shown = "\n".join(f"  - {problem}" for problem in problems[:SHOWN])
        more = f"\n  ... and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise ValueError(
            f"{len(problems)} problem(s) in {len(items)} image and mask pairs:\n{shown}{more}\n"
            "Repair or remove these files (both of a pair), then start again."
        )


class CheckPaird(MapTransform):
    """Refuse an image and a mask of different size while they are loaded.

    Args:
        image_key: key of the image, ``(C, *spatial)``.
        label_key: key of the mask, ``(C, *spatial)``; an item without one passes.

    Raises:
        ValueError: the spatial sizes differ; names the files and both sizes.
    """

    def __init__(self, image_key: str = "image", label_key: str = "label") -> None:
        super().__init__([image_key, label_key])
        self.image_key, self.label_key = image_key, label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the item, unchanged; see the class for what is refused."""
        if self.label_key not in data:
            return dict(data)
        image, label = data[self.image_key], data[self.label_key]
        if image.shape[1:] != label.shape[1:]:
            raise ValueError(
                f"the mask is {_size(label.shape[1:])} but its image is {_size(image.shape[1:])} (height x "
                "width): "
                f"{_file_of(label, self.label_key)} and {_file_of(image, self.image_key)}. A mask must "
                "have the size of "
                "its image: export it again, or remove the pair."
            )
        return dict(data)


class BinaryMaskd(MapTransform):
    """Turn masks of the values {0, v} into {0, 1}, one channel, uint8. See `binarise`.

    Args:
        keys: keys of masks, ``(C, *spatial)``.
        threshold: for masks that are not binary: values from it upwards become 1, on the scale of the file.
        allow_missing_keys: do not raise when a key is absent.

    Raises:
        ValueError: a mask is not binary and no threshold is given; names the file and counts the values.
    """

    def __init__(
        self, keys: KeysCollection, threshold: float | None = None, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.threshold = threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its masks as ``(1, *spatial)`` uint8 in {0, 1}."""
        d = dict(data)
        for key in self.key_iterator(d):
            try:
                d[key] = binarise(d[key], self.threshold)
            except ValueError as error:
                raise ValueError(f"{_file_of(d[key], str(key))}: {error}") from error
        return d


class ClassChannelsd(MapTransform):
    """Turn a mask of class numbers into one channel a class: value n becomes channel n - 1, 0 is the background.

    Args:
        keys: keys of masks, ``(1, *spatial)``.
        classes: number of classes without the background; the network's out_channels.
        allow_missing_keys: do not raise when a key is absent.

    Raises:
        ValueError: a mask holds a number above ``classes``; names the file.
    """

    def __init__(self, keys: KeysCollection, classes: int, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.classes = int(classes)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its masks as ``(classes, *spatial)`` of 0 and 1."""
        d = dict(data)
        for key in self.key_iterator(d):
            highest = int(d[key].max())
            if highest > self.classes:
                raise ValueError(
                    f"{_file_of(d[key], str(key))}: the mask holds class {highest}, but {self.classes} classes are expected "
                    f"({_value_counts(d[key])}). Give the network as many out_channels as the masks have classes; a mask of "
                    "0 and 255 has one class and goes through BinaryMaskd."
                )
            numbers = torch.arange(1, self.classes + 1).view(-1, *[1] * (d[key].ndim - 1))
            d[key] = (d[key][:1] == numbers).to(torch.uint8)
        return d


def _plain(x: torch.Tensor) -> torch.Tensor:
    return x.as_tensor() if isinstance(x, MetaTensor) else x


def _value_counts(mask: torch.Tensor, shown: int = 5) -> str:
    values, counts = torch.unique(_plain(mask), return_counts=True)
    order = torch.argsort(counts, descending=True, stable=True)[:shown]
    listed = ", ".join(f"{values[i].item():g} ({int(counts[i])} pixels)" for i in order)
    return f"{len(values)} different values, most frequent {listed}"


def _size(shape: Sequence[int]) -> str:
    return "x".join(str(int(n)) for n in shape)


def _file_of(x: Any, key: str) -> str:
    name = x.meta.get("filename_or_obj") if isinstance(x, MetaTensor) else None
    return str(name) if name else repr(key)


def _open(path: str | Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


def _problems_of(item: Mapping[str, Any], threshold: float | None) -> list[str]:
    problems: list[str] = []
    sizes: dict[str, tuple[int, int]] = {}
    for key, convert in (("image", to_rgb), ("label", to_gray)):
        path = item[key]
        try:
            opened = _open(path)
            sizes[key] = (opened.height, opened.width)
            converted = convert(opened)
            if key == "label":
                # a copy: torch warns about arrays that cannot be written to
                binarise(torch.from_numpy(np.array(converted))[None], threshold)
        except ValueError as error:
            problems.append(f"{path}: {error}")
        # Pillow raises SyntaxError, EOFError, struct.error and others for broken files, and its own type
        # for bombs
        except Exception as error:
            problems.append(f"{path}: cannot be read ({type(error).__name__}: {error})")
    if len(sizes) == 2 and sizes["image"] != sizes["label"]:
        problems.append(
            f"{item['label']}: the mask is {_size(sizes['label'])} but its image {item['image']} is "
            f"{_size(sizes['image'])} (height x width)"
        )
    return problems
