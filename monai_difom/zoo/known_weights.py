"""Weight files that are known by their content, so that each gets the input contract that it was trained with."""

from __future__ import annotations

import hashlib
import os
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
    """

    name: str
    network: str
    overlay: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str = "Apache-2.0"


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
        "MobileNetV2 1.0, ImageNet", "mobilenetv2_100", "imagenet_local", (0.5,) * 3, (0.5,) * 3
    ),
}


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
