"""Distil vision foundation models into light segmentation networks, as MONAI Bundles.

The package root imports nothing heavy: `monai_difom.losses`, `.networks`, `.targets`, `.data`,
`.engines` and the other rooms are imported where they are used.
"""

__version__ = "0.1.0"
