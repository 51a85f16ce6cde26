"""A bundle's inference configuration in MONAI's own classes, so that it runs where this package is not installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...transforms import IMAGENET_MEAN, IMAGENET_STD
from ...transforms.volume_file import QUANTILES
from ...utils.documents import parse_yaml
from ...utils.plain import plain_data
from ..deployed.facts import INFERENCE
from ..deployed.network import NETWORK
from .trained_bundle import with_settings

_OURS = "monai_difom."
# what `read_picture_file` does, in one expression: errors in a reader's get_data are MONAI's to pass on, those in read are not
_UPRIGHT = "pillow_ops.exif_transpose(image)"
_LEVELS = "((np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)"
_PAGES = "image.format != 'MPO' and getattr(image, 'n_frames', 1) > 1"
_DEEP = "image.format != 'BMP' and ';16' in str(image.tile[:1])"
_DARK = "0 < np.asarray(image).max() < 16384 if image.mode.startswith('I') else np.asarray(image.convert('RGB')).max() < 64"
_SAID = "{name}: several pages, 32-bit numbers, or 14 bits or fewer in a 16-bit file. Save it as one picture of 8 bits."
_RGB = (
    "$type('UprightReader', (monai.data.PILReader,), {'read': lambda self, data, **kwargs: data, 'get_data': lambda self, names: "
    "monai.data.PILReader.get_data(self, [(lambda image: (_ for _ in ()).throw(ValueError(f'"
    + _SAID
    + "')) if "
    f"{_PAGES} or image.mode in ('I', 'F') or ({_DEEP} and ({_DARK})) else "
    f"(lambda image: (pillow_image.fromarray({_LEVELS}) if image.mode.startswith('I') else image).convert('RGB'))({_UPRIGHT}))"
    "(pillow_image.open(name)) for name in monai.utils.ensure_tuple(names)])})()"
)
# what `check_overrides` and `check_images` do, as far as it goes without this package; MONAI would read the signs themselves
_TYPED = (
    r"$sys.exit('A path with \x23, or a number for one, goes elsewhere in a MONAI configuration: give another name.') if "
    r"not (isinstance(@dataset_dir, str) and isinstance(@output_dir, str)) or any('\x23' in word and word[:1] not in '\x24\x40' "
    r"for word in [w.partition('=')[2] if w.startswith('--') else w for w in sys.argv[1:]]) else None"
)
_CLASH = (
    "$sys.exit('Two images have the same name up to the ending, and would write one mask: rename one of them.') if "
    "len({os.path.basename(item['image']).removesuffix('.gz').rpartition('.')[0] for item in @datalist}) < len(@datalist) "
    "else None"
)
_STORED = "[int(n) for n in x.meta['spatial_shape']]"
_CHECKS = {"check_overrides": _TYPED, "check_images": _CLASH}


def portable_text(text: str, definition: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Replace this package's transforms in an inference configuration by MONAI's that compute the same.

    Args:
        text: the YAML of ``configs/inference.yaml``.
        definition: the network.

    Returns:
        The new text, and what in it is still of this package: empty where it runs without.
    """
    config = parse_yaml(text, INFERENCE)
    settings: dict[str, Any] = {NETWORK: dict(definition)}
    if isinstance(config.get("preprocessing"), Mapping):
        transforms = [
            t for old in config["preprocessing"]["transforms"] for t in _replace(_filled(old, config))
        ]
        settings["preprocessing"] = {**config["preprocessing"], "transforms": transforms}
    if isinstance(config.get("postprocessing"), Mapping):
        stacked = any(
            "SlicesToImagesd" in str(t.get("_target_")) for t in config["preprocessing"]["transforms"]
        )
        transforms = [t for old in config["postprocessing"]["transforms"] for t in _after(old, stacked)]
        settings["postprocessing"] = {**config["postprocessing"], "transforms": transforms}
    for part in ("initialize", "run"):
        if isinstance(config.get(part), list):
            settings[part] = [_check(line) for line in config[part]]
    rest = {key: value for key, value in config.items() if key not in (*settings, "imports")}
    left = sorted(set(_ours({**rest, **settings})))
    imports = [line for line in config.get("imports", []) if _OURS[:-1] not in str(line)]
    settings["imports"] = [
        *imports,
        "$import sys",
        "$import PIL.Image as pillow_image",
        "$import PIL.ImageOps as pillow_ops",
        *(["$import monai_difom"] if left else []),
    ]
    return with_settings(text, plain_data(settings)), left


def _check(line: Any) -> Any:
    """Return a line of the configuration, a check of this package as an expression that does without it."""
    return next((own for name, own in _CHECKS.items() if name in str(line)), line)


def _filled(transform: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a transform with references to plain ids of the configuration replaced by their values."""
    return {
        key: config[value[1:]]
        if isinstance(value, str) and value[:1] == "@" and value[1:] in config
        else value
        for key, value in transform.items()
    }


def _replace(transform: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return MONAI's transforms for one of this package; any other as it is."""
    new = dict(transform)
    if str(new.get("reader", "")).startswith("$monai_difom.transforms.PictureReader('rgb')"):
        new["reader"] = _RGB
    name = str(new.get("_target_", ""))
    keys = new.get("keys", "image")
    if not name.startswith(_OURS):
        return [new]
    kind = name.rpartition(".")[2]
    if kind == "CheckVolumesd":  # refuses what is no volume in plain words; what follows refuses it too
        return []
    if kind == "SlicesToImagesd" and _sides(new.get("image_size")):
        return [_slices(keys, new, _sides(new["image_size"]))]
    if (
        kind == "ResizeImaged"
        and new.get("mode", "bilinear") == "bilinear"
        and _sides(new.get("spatial_size"))
    ):
        # torch's antialiased filter on 8-bit data; MONAI's Resized smooths with a Gaussian, another picture
        return [_resize(keys, str(_sides(new["spatial_size"])), "x.as_tensor()", ", antialias=True")]
    if kind == "SplitTeacherd" and new.get("teacher_key", "") is None:
        scale = {"a_min": 0, "a_max": 255, "b_min": 0, "b_max": 1}
        return [{"_target_": "ScaleIntensityRanged", "keys": new.get("image_key", "image"), **scale}]
    if kind == "NormalizeImaged":
        mean, std = (list(new.get(key, own)) for key, own in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)))
        statistics = {"subtrahend": mean, "divisor": std, "channel_wise": True}
        return [{"_target_": "NormalizeIntensityd", "keys": keys, **statistics}]
    return [new]


def _sides(size: Any) -> list[int]:
    """Height and width; empty where they are not said in numbers."""
    sides = [size, size] if isinstance(size, int) else list(size) if isinstance(size, list | tuple) else []
    return sides if len(sides) == 2 else []


def _after(transform: Mapping[str, Any], stacked: bool) -> list[dict[str, Any]]:
    """Return a transform of the postprocessing, and behind MONAI's ``Invertd`` the resize that it cannot undo."""
    if transform.get("_target_") != "Invertd":
        return [dict(transform)]
    tensor = "x.as_tensor().float()"
    if not stacked:
        return [dict(transform), _resize(transform["keys"], _STORED, tensor, ", antialias=True")]
    # turned back at another size than it was turned at, the stack has lost its place in the body
    call = f"torch.nn.functional.interpolate({tensor}[None], size={_STORED}, mode='trilinear', align_corners=False)[0]"
    return [
        dict(transform),
        _lambda(transform["keys"], call, ", affine=torch.as_tensor(x.meta['original_affine'])"),
    ]


def _resize(keys: Any, size: str, tensor: str, options: str) -> dict[str, Any]:
    return _lambda(
        keys,
        f"torch.nn.functional.interpolate({tensor}[None], size={size}, mode='bilinear', align_corners=False{options})[0]",
    )


def _slices(keys: Any, transform: Mapping[str, Any], sides: list[int]) -> dict[str, Any]:
    """`SlicesToImagesd` in an expression."""
    window = transform.get("window")
    levels = f"np.quantile(v, {QUANTILES})" if window is None else str([float(n) for n in window])
    grey = "(np.clip((v - w[0]) / max(w[1] - w[0], 1e-6), 0, 1) * 255).round().astype(np.uint8)"
    channels = transform.get("channels", 3)
    count = channels if isinstance(channels, int) else "len(@mean)"
    stack = f"torch.from_numpy({grey})[:, None].expand(-1, {count}, -1, -1).contiguous()"
    resized = f"torch.nn.functional.interpolate({stack}, size={sides}, mode='bilinear', align_corners=False, antialias=True)"
    return _lambda(
        keys, f"(lambda v: (lambda w: {resized}.transpose(0, 1))({levels}))(x.as_tensor()[0].numpy())"
    )


def _lambda(keys: Any, call: str, affine: str = "") -> dict[str, Any]:
    return {
        "_target_": "Lambdad",
        "keys": keys,
        "func": f"$lambda x: monai.data.MetaTensor({call}{affine}, meta=x.meta, applied_operations=x.applied_operations)",
    }


def _ours(value: Any) -> list[str]:
    """Every name of this package in a configuration."""
    if isinstance(value, Mapping):
        return [name for child in value.values() for name in _ours(child)]
    if isinstance(value, list | tuple):
        return [name for child in value for name in _ours(child)]
    if not isinstance(value, str) or _OURS[:-1] not in value:
        return []
    start = value.index(_OURS[:-1])
    return [value[start:].split("(")[0].split()[0].rstrip("',\"")]
