"""Save the masks of several structures, one picture each."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import DtypeLike
from monai.transforms import MapTransform, SaveImage


class SaveStructuresd(MapTransform):
    """Write every channel of a mask as ``<image>_<structure>.png``, so that structures may overlap.

    Args:
        key: key of the masks ``(K, H, W)`` in MONAI's axis order, with the image's file name in their meta data.
        structures: names of the channels.
        output_dir: folder of the pictures.
        output_dtype: numbers of the pictures.

    Raises:
        ValueError: there are not as many channels as structures.
    """

    def __init__(
        self, key: str, structures: Sequence[str], output_dir: str | Path, output_dtype: DtypeLike = np.uint8
    ) -> None:
        super().__init__([key])
        self.key = key
        self.savers = {
            name: SaveImage(
                output_dir=output_dir,
                output_ext=".png",
                output_postfix=name,
                output_dtype=output_dtype,
                resample=False,
                separate_folder=False,
            )
            for name in structures
        }

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write one picture for each structure and return the item as it is."""
        masks = data[self.key]
        if len(masks) != len(self.savers):
            raise ValueError(
                f"{len(masks)} masks for {len(self.savers)} structures ({', '.join(self.savers)}): structures must name the "
                "channels of the network."
            )
        for channel, save in enumerate(self.savers.values()):
            save(masks[channel : channel + 1])
        return dict(data)
