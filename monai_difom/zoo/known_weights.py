"""Weight files that are known by their content, so that each gets the input contract that it was trained with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class KnownWeights:
    """A weight file that others have too.

    Args:
        name: what it is.
        network: its timm name.
        overlay: of ``configs/teachers``, with its contract.
        mean: per-channel mean for an image in [0, 1].
        std: per-channel standard deviation, in the same way.
        licence: licence of the weights.
        pad_type: padding that ``timm.create_model`` must be told; None where the network's own is right.
    """

    name: str
    network: str
    overlay: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str = "Apache-2.0"
    pad_type: str | None = None


#: SHA-256 of a file -> what it is
KNOWN_WEIGHTS = {
    "f7a89f326ce29ae74451d92f1ae723fc3f1dde4a727dccc4b9bfa2416dc6f29b": KnownWeights(
        "EfficientNet-Lite2, ImageNet",
        "tf_efficientnet_lite2",
        "efficientnet_lite2",
        (127 / 255,) * 3,
        (128 / 255,) * 3,
    ),
    "fd21cac85aa3c966d17ce3bbb4893f81a9ae7d3afa759346d9a07143190aaf85": KnownWeights(
        "MobileNetV2 1.0, ImageNet",
        "mobilenetv2_100",
        "imagenet_local",
        (0.5,) * 3,
        (0.5,) * 3,
        pad_type="same",
    ),
}


def known_contract(
    path: str | os.PathLike | None,
    network: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    pad_type: str | None,
) -> KnownWeights | None:
    """Return what a weight file is, if it is known, of this network, and not contradicted.

    Args:
        path: the file; None or what is no file is not known.
        network: timm's name of the network that it is for.
        mean: what a configuration says of the file's mean; None says nothing.
        std: the same of its standard deviation.
        pad_type: the same of its padding; an empty text is the network's own.

    Raises:
        ValueError: the file is known to have been trained with another input; says with which.
    """
    known = known_weights(path) if path is not None and Path(path).is_file() else None
    if known is None or known.network != network.partition(".")[0]:
        return None
    wrong = [
        f"{name} {list(given)}"
        for name, given, right in (("mean", mean, known.mean), ("std", std, known.std))
        if given is not None and any(abs(a - b) > 0.01 for a, b in zip(given, right, strict=True))
    ]
    if pad_type is not None and (pad_type or None) != known.pad_type:
        wrong.append(f"pad_type {pad_type!r}" if pad_type else "no pad_type")
    if wrong:
        padding = f", pad_type {known.pad_type!r}" if known.pad_type else ""
        raise ValueError(
            f"{path} is known by its content: {known.name}, trained with mean {_short(known.mean)}, std {_short(known.std)}"
            f"{padding}; the configuration says {', '.join(wrong)}. Give what it was trained with, as the overlay "
            f"{known.overlay} does."
        )
    return known


def _short(values: Sequence[float]) -> str:
    return str([round(value, 4) for value in values])


def known_weights(path: str | os.PathLike) -> KnownWeights | None:
    """Return what a weight file is, by its content; None where nobody has described it.

    Raises:
        FileNotFoundError: there is no such file.
    """
    file = Path(path)
    return KNOWN_WEIGHTS.get(_digest(file, file.stat().st_mtime_ns, file.stat().st_size))


@lru_cache(maxsize=64)
def _digest(file: Path, _changed: int, _size: int) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
