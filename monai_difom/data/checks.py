"""Checks of an image and its mask while they are loaded; `monai_difom.data.survey` looks at all files before."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type

from ..transforms.label_file import foreground


def binarise(mask: torch.Tensor, threshold: float | None = None) -> torch.Tensor:
    """Turn a mask of the values {0, v} into {0, 1}.

    Args:
        mask: ``(C, *spatial)``, values as stored; more than one channel is allowed when the channels are equal. All zero is
            allowed.
        threshold: for a mask of more values: from it upwards they become 1, on the scale of the mask. A mask of 0 and one other
            value is that whatever the threshold.

    Returns:
        ``(1, *spatial)`` uint8 in {0, 1}; a MetaTensor stays one.

    Raises:
        ValueError: the channels differ, there are more values than 0 and one other and no threshold, or a threshold that
            empties the mask.
    """
    if any(not torch.equal(channel, mask[0]) for channel in mask[1:]):
        raise ValueError(
            f"the mask has {mask.shape[0]} channels that differ; allowed is one channel, or equal ones. "
            "Save it as an 8-bit grey PNG, or load it with PictureReader('mask')."
        )
    mask = mask[:1]
    found = foreground(_plain(mask).cpu().numpy(), threshold)
    out, *_ = convert_to_dst_type(torch.from_numpy(found), mask, dtype=torch.uint8)
    return out


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
                f"the mask is {_size(label.shape[1:])} but its image is {_size(image.shape[1:])} (height x width): "
                f"{_file_of(label, self.label_key)} and {_file_of(image, self.image_key)}. A mask must have the size of "
                "its image as viewers show it: export it again, or remove the pair."
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
    """Turn a mask of class numbers into one channel per class: value n becomes channel n - 1, 0 is the background.

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
