"""A trained network of whole volumes: what its bundle does to a NIfTI file before and behind it, and its probabilities.

Nothing of a bundle's configuration is run: a transform is one of those below with plain arguments, or the bundle is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import monai.transforms as mt
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference

from ...data import CheckVolumesd
from ...transforms import NormalizeImaged, apply_view, invert_view
from ...utils.configurations import resolved
from ...utils.documents import read_json
from ...utils.names import few
from ...utils.probabilities import checked_probabilities
from .facts import METADATA, inference_config, structures_of

#: transform of a bundle's preprocessing -> arguments that are taken over; of those of `_OWN` none, they are done here anyway
TRANSFORMS: dict[str, tuple[str, ...]] = {
    "Orientationd": ("axcodes",),
    "Spacingd": ("pixdim", "mode"),
    "ScaleIntensityRanged": ("a_min", "a_max", "b_min", "b_max", "clip"),
    "NormalizeIntensityd": ("subtrahend", "divisor", "nonzero", "channel_wise"),
    "NormalizeImaged": ("mean", "std"),
}
_OWN = ("LoadImaged", "EnsureChannelFirstd", "CheckVolumesd", "EnsureTyped")
_TOLD = ("_target_", "_disabled_", "keys", "allow_missing_keys", "labels")  # of any step
_ITEM = re.compile(r"\$\s*@(\w+)\[(\d)\]")
_ABSENT = re.compile(r"\$\s*@(\w+) is (not )?None")
_LARGEST_WINDOW = 512
_WINDOWS = 2  # in one pass


@dataclass(frozen=True)
class VolumeDeployment:
    """Plain facts of a network of volumes.

    Args:
        size: three sides of the window that slides over a volume, in voxels.
        steps: names and arguments of the transforms before it, of `TRANSFORMS`.
        activation: ``"sigmoid"``, every channel for itself; or ``"softmax"``, where channel 0 is the background.
        structures: names of the foreground channels.
        overlap: share of a window that the next one covers too, in [0, 1).

    Raises:
        ValueError: a window or an overlap that is none.
    """

    size: tuple[int, int, int]
    steps: tuple[tuple[str, Mapping[str, Any]], ...]
    activation: str
    structures: tuple[str, ...]
    overlap: float = 0.25

    def __post_init__(self) -> None:
        if len(self.size) != 3 or not all(1 <= side <= _LARGEST_WINDOW for side in self.size):
            raise ValueError(
                f"the sliding window is {self.size}; allowed are three sides of 1 to {_LARGEST_WINDOW} voxels."
            )
        if not 0 <= self.overlap < 1:
            raise ValueError(f"the overlap of sliding windows is {self.overlap}; allowed is [0, 1).")

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as JSON can hold them."""
        return asdict(self)

    def preparation(self) -> mt.Compose:
        """Return the chain from the path of a NIfTI file under ``image`` to the network's input, which can be inverted."""
        load = [
            mt.LoadImaged("image", reader="NibabelReader"),
            mt.EnsureChannelFirstd("image"),
            CheckVolumesd(),
        ]
        return mt.Compose([*load, *self._moves(), mt.EnsureTyped("image")])

    def check(self, predict: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Try the transforms on a small volume, and the network on one window.

        Raises:
            ValueError: one of them refuses it, or the network gives other channels.
        """
        try:
            small = MetaTensor(torch.zeros(1, 8, 8, 8), affine=torch.eye(4))
            channels = int(mt.Compose(self._moves())({"image": small})["image"].shape[0])
            logits = predict(torch.zeros(1, channels, *self.size))
        except Exception as error:  # MONAI wraps what its transforms raise, and networks raise many kinds
            root: BaseException = error
            while root.__cause__ is not None:
                root = root.__cause__
            raise ValueError(
                f"the preprocessing, {dict(self.steps)}, or the network does not work on a volume: "
                f"{(str(root).splitlines() or [type(root).__name__])[0]}"
            ) from error
        self._activated(logits)

    def _moves(self) -> list[Callable]:
        known = {"NormalizeImaged": NormalizeImaged}
        # MONAI 1.6 warns of its own default
        more = {"Orientationd": {"labels": None}}
        return [
            (known.get(name) or getattr(mt, name))("image", **{**arguments, **more.get(name, {})})
            for name, arguments in self.steps
        ]

    def probabilities(
        self,
        predict: Callable[[torch.Tensor], torch.Tensor],
        path: str | os.PathLike,
        views: Sequence[int] = (0,),
    ) -> torch.Tensor:
        """Return what a network says of a volume in each view, on the grid of its file.

        Args:
            predict: windows ``(B, 1, d, h, w)`` -> logits ``(B, K, d, h, w)``.
            path: NIfTI file.
            views: dihedral views (flips), see `monai_difom.transforms.VIEWS`.

        Returns:
            ``(V, structures, X, Y, Z)`` in [0, 1], on the CPU.

        Raises:
            ValueError: it is no volume, or some logits are not numbers.
        """
        chain = self.preparation()
        item = chain({"image": os.fspath(path)})
        back = mt.Invertd("pred", chain, orig_keys="image", nearest_interp=False, to_tensor=True)
        image = item["image"]
        found = []
        for view in views:
            turned = apply_view(image.as_tensor(), view, 3).contiguous()[None]
            logits = sliding_window_inference(
                turned, self.size, _WINDOWS, predict, overlap=self.overlap, mode="gaussian"
            )
            said = invert_view(self._activated(logits)[0], view, 3)
            pred = type(image)(said, meta=dict(image.meta), applied_operations=image.applied_operations)
            # interpolation may leave [0, 1] by a rounding error
            found.append(back({"image": image, "pred": pred})["pred"].as_tensor().float().clamp(0, 1))
        return torch.stack(found)

    def _activated(self, logits: torch.Tensor) -> torch.Tensor:
        number = len(self.structures) + (self.activation == "softmax")
        if logits.shape[1] != number:
            raise ValueError(
                f"the network gives {logits.shape[1]} channels; needed are {number}, for {', '.join(self.structures)}."
            )
        scores = logits.float()
        return checked_probabilities(
            scores.sigmoid() if self.activation == "sigmoid" else scores.softmax(1)[:, 1:]
        )


def is_volume_bundle(folder: Path) -> bool:
    """True where a bundle slides a window of three sides over what it is given."""
    file = inference_config(folder)
    inferer = resolved(file, "inferer") if file.is_file() else None
    size = inferer.get("roi_size") if isinstance(inferer, dict) else None
    return isinstance(size, list) and len(size) == 3


def read_volume_deployment(folder: Path) -> VolumeDeployment:
    """Return the facts of a bundle of volumes, out of ``configs/inference`` and ``configs/metadata.json``.

    Args:
        folder: the bundle: of a training with ``configs/data/nifti_volumes.yaml``, or MONAI's model zoo.

    Raises:
        FileNotFoundError: the folder is no bundle.
        ValueError: a configuration that is damaged, or does what is not known here; names it.
    """
    file = inference_config(folder)
    try:
        inferer = resolved(file, "inferer")
        softmax = _has_background(file)
        metadata = read_json(folder / METADATA)
        return VolumeDeployment(
            size=tuple(int(side) for side in inferer["roi_size"]),  # type: ignore[arg-type]
            steps=_preparation(file),
            activation="softmax" if softmax else "sigmoid",
            structures=structures_of(metadata, resolved(file, "structures"), softmax),
            overlap=float(inferer.get("overlap", 0.25)),
        )
    # a file from elsewhere may hold anything anywhere
    except (AttributeError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise ValueError(
            f"{file} is damaged, or of no segmentation of volumes ({type(error).__name__}: {error})."
        ) from error


def _has_background(file: Path) -> bool:
    """Whether channel 0 of the logits is the background, by what is done to them."""
    after = {_name(step): step for step in _steps(file, "postprocessing")}
    activations, discrete = after.get("Activationsd", {}), after.get("AsDiscreted", {})
    if activations.get("softmax") is True or discrete.get("argmax") is True:
        return True
    if activations.get("sigmoid") is not True:
        raise ValueError(
            f"{file}: the postprocessing says neither that the logits go through a sigmoid nor through a softmax (Activationsd), "
            "so that nothing tells what they mean."
        )
    return False


def _preparation(file: Path) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    found, strange = [], []
    for step in _steps(file, "preprocessing"):
        name = _name(step)
        disabled = _value(file, step.get("_disabled_", False))
        if not isinstance(disabled, bool):
            raise ValueError(
                f"{file}: whether {name} is done is an expression, and nothing of a bundle is run."
            )
        if name in _OWN or disabled:
            continue
        if name not in TRANSFORMS:
            strange.append(name)
            continue
        unknown = sorted(set(step) - {*TRANSFORMS[name], *_TOLD})
        if unknown:
            raise ValueError(
                f"{file}: {name} has {few(unknown)}, which is not known here; known are {few(TRANSFORMS[name])}."
            )
        arguments = {key: _value(file, step[key]) for key in TRANSFORMS[name] if key in step}
        running = [key for key, value in arguments.items() if isinstance(value, str) and "$" in value]
        if running:
            raise ValueError(
                f"{file}: {name} computes {few(running)} by an expression, and nothing of a bundle is run. Write the numbers."
            )
        if isinstance(arguments.get("mode"), list):
            arguments["mode"] = arguments["mode"][0]
        found.append((name, arguments))
    if strange:
        raise ValueError(
            f"{file}: the preprocessing has {few(strange)}, which would have to be done as the bundle does it; known are "
            f"{', '.join(TRANSFORMS)}."
        )
    return tuple(found)


def _steps(file: Path, name: str) -> list[dict[str, Any]]:
    return list((resolved(file, name) or {}).get("transforms", []))


def _name(step: Mapping[str, Any]) -> str:
    return str(step.get("_target_", "")).rpartition(".")[2]


def _value(file: Path, value: Any) -> Any:
    """A value of the file; of expressions only a number out of a list, and whether an id is null."""
    text = value if isinstance(value, str) else ""
    item, absent = _ITEM.fullmatch(text), _ABSENT.fullmatch(text)
    if item:
        return resolved(file, item[1])[int(item[2])]
    if absent:
        return (resolved(file, absent[1]) is None) != bool(absent[2])
    return value
