"""Any network as a teacher: a module with taps, a timm model, or the network of a MONAI Bundle."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...utils.configurations import read_configuration, resolved
from ...utils.weight_files import BUNDLE_WEIGHTS
from ...zoo.known_weights import known_contract
from ..definition import build_network
from ..encoders import load_encoder
from ..taps import Tap, declared_taps, read_taps
from ..weights import fill_network, read_weights
from .base import InputContract, Teacher, TeacherMap, fixed_sides, fixed_size

logger = logging.getLogger(__name__)
_SEE_SOURCE = "see the source of the weights"
_PROBE_SIDE = 64


class NetworkTeacher(Teacher):
    """Give the maps at named places of any network, one fine-tuned on the task included.

    Args:
        network: any module called as ``network(image)``; it is frozen in place.
        taps: map name -> dotted module path; channels and stride are found by one forward pass. A `Tap` in
            place of the path declares them, and the network is then not run here.
        mean: per-channel mean, subtracted from an image in [0, 1]. It has no default: what the network was
            trained with cannot be seen from its weights (zeros where it took [0, 1] as it is).
        std: per-channel standard deviation, in the same way.
        weights: a checkpoint that must fit the network key by key; None when the network holds its weights.
        input_size: side, or (height, width), that the image is resized to; None keeps the size of the image,
            rounded to ``multiple_of``.
        multiple_of: what the sides must be multiples of, usually the largest stride of the network.
        interpolation: resize filter, ``"bilinear"`` or ``"bicubic"``.
        licence: licence of the weights.
        source: where the weights came from; None takes the weight file or the network's class.
        spatial_dims: 2; or 3 for a network of volumes, which takes ``(B, in_channels, D, H, W)`` in [0, 1].
        in_channels: channels of the image, as many as means; other than 3 for volumes only.

    Raises:
        ValueError: a tap names no module or no map, the weights do not fit, or a size is not allowed.
        FileNotFoundError: there is no such weight file.

    Example::

        unet = monai.networks.nets.BasicUNet(spatial_dims=2, in_channels=3, out_channels=1)
        plain = {"mean": [0, 0, 0], "std": [1, 1, 1]}
        teacher = NetworkTeacher(unet, {"stride16": "down_4"}, weights="unet.pt", **plain)
    """

    def __init__(
        self,
        network: nn.Module,
        taps: Mapping[str, str | Tap],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        weights: str | os.PathLike | None = None,
        input_size: int | Sequence[int] | None = None,
        multiple_of: int = 32,
        interpolation: str = "bilinear",
        licence: str = _SEE_SOURCE,
        source: str | None = None,
        spatial_dims: int = 2,
        in_channels: int = 3,
    ) -> None:
        if spatial_dims not in (2, 3) or (spatial_dims == 2 and in_channels != 3) or len(mean) != in_channels:
            raise ValueError(
                f"spatial_dims is {spatial_dims}, in_channels {in_channels}, with {len(mean)} means; allowed are images of 3 "
                "channels (spatial_dims: 2), and volumes of any (spatial_dims: 3), with one mean per channel."
            )
        if weights is not None:
            state = read_weights(weights, "`weights` takes the state dict of exactly this network.")
            fill_network(network, state, weights, "Save it with torch.save(network.state_dict(), path).")
        size = fixed_sides(input_size, multiple_of, spatial_dims)
        found = declared_taps(network, taps, in_channels, size or _probe_size(multiple_of, spatial_dims))
        source = source or (os.fspath(weights) if weights is not None else type(network).__name__)
        super().__init__(
            {name: TeacherMap(tap.channels, tap.stride) for name, tap in found.items()},
            InputContract(size, tuple(mean), tuple(std), multiple_of, interpolation),
            licence,
            source,
            spatial_dims,
            in_channels,
        )
        self.taps = found
        self.network = network
        self.freeze()

    def extract(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the maps at the taps, each ``(B, C, h, w)``, for a prepared batch ``(B, 3, H, W)``."""
        return read_taps(self.network, image, self.taps)[1]

    def signature_extra(self) -> str:
        """Return the tap paths and the printed network, which shows paddings, strides and epsilons."""
        paths = sorted((name, tap.module, tap.source) for name, tap in self.taps.items())
        return f"{paths} {self.network!r}"


class TimmTeacher(Teacher):
    """Give the stages of a timm feature extractor; built by `timm_teacher`.

    Args:
        network: a model of ``timm.create_model(..., features_only=True)``.
        names: one map name per stage, in order.
        contract: the input that the network wants.
        licence: licence of the weights.
        source: where the weights came from.
    """

    def __init__(
        self, network: nn.Module, names: Sequence[str], contract: InputContract, licence: str, source: str
    ) -> None:
        info: Any = network.feature_info
        specs = [TeacherMap(c, r) for c, r in zip(info.channels(), info.reduction(), strict=True)]
        super().__init__(dict(zip(names, specs, strict=True)), contract, licence, source)
        self.network = network
        # transformers with windows (Swin) keep their channels last
        self._channels_last = "NHWC" in str(getattr(network, "output_fmt", ""))
        self.freeze()

    def extract(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return one map per stage, each ``(B, C, h, w)``, for a prepared batch ``(B, 3, H, W)``."""
        stages = self.network(image)
        if self._channels_last:
            stages = [stage.permute(0, 3, 1, 2).contiguous() for stage in stages]
        return dict(zip(self.maps, stages, strict=True))

    def signature_extra(self) -> str:
        """Return the printed network, which shows paddings, strides and epsilons."""
        return f"{self.network.feature_info.module_name()} {self.network!r}"  # type: ignore[operator, union-attr]


def timm_teacher(
    name: str,
    weights: str | os.PathLike | None = None,
    *,
    out_indices: Sequence[int] | None = None,
    map_names: Sequence[str] | None = None,
    input_size: int | Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: str | None = None,
    licence: str | None = None,
    **model_arguments: Any,
) -> TimmTeacher:
    """Return a timm model as a teacher.

    Args:
        name: model name, with its tag where wanted (``"resnet50.a1_in1k"``).
        weights: local ``.safetensors`` or ``.pth`` in timm's layout; None downloads the published ones. Every
            key of the feature extractor must be there; keys of modules it has not (classifier, conv_head) are
            left out.
        out_indices: stages to give, as timm counts them; None gives all.
        map_names: one name per stage; None names them by their stride: ``stride4``, ``stride8``, ...
        input_size: side, or (height, width), that the image is resized to, multiples of the largest stride.
            None keeps the size of the image, rounded so, or takes the trained size where the model allows no
            other.
        mean: per-channel mean for an image in [0, 1]; None takes that of a file that is known by its content (with its padding,
            see `monai_difom.zoo.known_weights`), else that of timm's configuration, which belongs to timm's own weights.
        std: per-channel standard deviation, in the same way.
        interpolation: ``"bilinear"`` or ``"bicubic"``; None takes that of timm's configuration.
        licence: licence of the weights; None takes timm's for its own weights.
        **model_arguments: passed to ``timm.create_model``, such as ``pad_type="same"``.

    Raises:
        ValueError: no such model, weights that do not fit or are known to want another input, or a size or map name that is not
            allowed.
        FileNotFoundError: there is no such weight file.
        OSError: the published weights cannot be downloaded.

    Example::

        teacher = timm_teacher("resnet50", "weights/resnet50.safetensors", out_indices=[2, 3])
        teacher(torch.rand(1, 3, 352, 352))["stride8"].shape  # (1, 512, 44, 44)
    """
    known = known_contract(weights, name, mean, std, model_arguments.get("pad_type"))
    if known is not None:
        mean, std, licence = mean or known.mean, std or known.std, licence or known.licence
        model_arguments |= {"pad_type": known.pad_type} if known.pad_type else {}
    network = _create_timm(name, weights, out_indices, model_arguments)
    config: Mapping[str, Any] = getattr(network, "pretrained_cfg", {})
    strides = [int(stride) for stride in network.feature_info.reduction()]  # type: ignore[operator, union-attr]
    if input_size is None and config.get("fixed_input_size") and not model_arguments.get("dynamic_img_size"):
        input_size = tuple(config["input_size"][1:])
    trained_with = "bicubic" if config.get("interpolation") == "bicubic" else "bilinear"
    contract = InputContract(
        size=fixed_size(input_size, max(strides)),
        mean=tuple(mean if mean is not None else config["mean"]),
        std=tuple(std if std is not None else config["std"]),
        multiple_of=max(strides),
        interpolation=interpolation or trained_with,
    )
    if weights is not None and (mean is None or std is None) and Path(weights).is_file():
        logger.warning(
            "%s takes mean and std of timm's own weights of %s (%s, %s). If it was trained with others, give them.",
            *(weights, name, list(contract.mean), list(contract.std)),
        )
    licence = licence or (config.get("license") if weights is None else None) or _SEE_SOURCE
    source = f"timm {name}" if weights is None else os.fspath(weights)
    return TimmTeacher(network, _stage_names(name, strides, map_names), contract, licence, source)


def bundle_teacher(
    bundle_dir: str | os.PathLike,
    taps: Mapping[str, str | Tap],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    config: str | None = None,
    network_key: str = "network_def",
    weights: str | os.PathLike | None = None,
    **arguments: Any,
) -> NetworkTeacher:
    """Return the network of a MONAI Bundle as a teacher.

    Nothing of a bundle's configuration is run: its network is one of known packages, see `monai_difom.networks.definition`,
    and its weight file is read without running code. A network that the configuration makes by an expression is refused;
    write it in your own configuration as a `NetworkTeacher`.

    Args:
        bundle_dir: folder with ``configs/`` and ``models/``.
        taps: map name -> dotted module path in the network.
        mean: per-channel mean for an image in [0, 1], as the bundle's own preprocessing does it.
        std: per-channel standard deviation, in the same way.
        config: configuration file inside the folder; None takes ``configs/inference`` or ``configs/train``,
            JSON or YAML.
        network_key: name of the network in the configuration.
        weights: checkpoint; None takes ``models/model.pt``.
        **arguments: further arguments of `NetworkTeacher`.

    Raises:
        ValueError: no configuration, no such network in it or one that is refused, or weights that do not fit.
        FileNotFoundError: there is no such weight file.
    """
    folder = Path(bundle_dir)
    file = _bundle_config(folder, config)
    known = read_configuration(file)
    if network_key not in known:
        raise ValueError(
            f"{file} has no {network_key!r}; it has {', '.join(sorted(known))}. Give its name as network_key."
        )
    definition = resolved(file, network_key)
    if not isinstance(definition, Mapping):
        raise ValueError(f"{network_key!r} of {file} is a {type(definition).__name__}, not a torch module.")
    path = Path(weights) if weights is not None else folder / BUNDLE_WEIGHTS
    size = path.stat().st_size if path.is_file() else 0
    network = build_network(definition, f"{file}: {network_key}", size)
    arguments.setdefault("source", str(folder))
    return NetworkTeacher(network, taps, mean=mean, std=std, weights=path, **arguments)


def bundle_teachers(
    bundles: Mapping[str, str | os.PathLike],
    taps: Mapping[str, str | Tap],
    mean: Sequence[float] = InputContract.mean,
    std: Sequence[float] = InputContract.std,
    **arguments: Any,
) -> dict[str, NetworkTeacher]:
    """Return the networks of several bundles as teachers: what a folder of trained specialists is to an agglomeration.

    Args:
        bundles: name -> folder, such as ``output_dir/bundle`` of a finished run.
        taps: map name -> dotted module path, the same in all of them.
        mean: see `bundle_teacher`; ImageNet's, which this project's students take.
        std: see `bundle_teacher`.
        **arguments: further arguments of `bundle_teacher`.
    """
    return {
        name: bundle_teacher(folder, taps, mean=mean, std=std, **arguments)
        for name, folder in bundles.items()
    }


def _probe_size(multiple_of: int, spatial_dims: int) -> tuple[int, ...]:
    """Return a small square or cube that a network with this largest stride takes."""
    side = multiple_of * max(2, -(-(_PROBE_SIDE if spatial_dims == 2 else 32) // multiple_of))
    return (side,) * spatial_dims


def _create_timm(
    name: str,
    weights: str | os.PathLike | None,
    out_indices: Sequence[int] | None,
    model_arguments: dict[str, Any],
) -> nn.Module:
    """Create a timm feature extractor with published or local weights."""
    chosen = {} if out_indices is None else {"out_indices": tuple(out_indices)}
    option = "`weights` (`teacher_weights` in a configuration)"
    published = weights if weights is not None else True
    return load_encoder(name, published, option=option, **{**model_arguments, **chosen})


def _stage_names(model: str, strides: Sequence[int], names: Sequence[str] | None) -> list[str]:
    """Return one name per stage, by stride unless names are given."""
    chosen = list(names) if names is not None else [f"stride{stride}" for stride in strides]
    if len(chosen) != len(strides) or len(set(chosen)) != len(chosen):
        raise ValueError(
            f"{model} gives {len(strides)} stages with the strides {', '.join(map(str, strides))}; the map "
            f"names are {', '.join(chosen)}. Give as many different map_names, or choose stages with "
            "out_indices."
        )
    return chosen


def _bundle_config(folder: Path, config: str | None) -> Path:
    """Return the configuration file of a bundle."""
    names = [f"configs/{stem}.{end}" for stem in ("inference", "train") for end in ("json", "yaml", "yml")]
    for name in [config] if config is not None else names:
        if (folder / name).is_file():
            return folder / name
    looked = config if config is not None else ", ".join(names)
    raise ValueError(f"{folder} is no MONAI Bundle that can be read: there is no {looked}. Give `config`.")
