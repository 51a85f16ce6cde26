"""A bundle's inference configuration in MONAI's own classes, so that it runs where this package is not installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...transforms import IMAGENET_MEAN, IMAGENET_STD
from ...utils.documents import parse_yaml
from ...utils.plain import plain_data
from ..deployed.facts import INFERENCE
from ..deployed.network import NETWORK
from .trained_bundle import with_settings

_OURS = "monai_difom."
# 16-bit grey is scaled by the range of its type, as in training
_RGB = (
    "$monai.data.PILReader(converter=lambda image: (pillow_image.fromarray(((np.asarray(image).astype(np.uint32) * 255 "
    "+ 32767) // 65535).astype(np.uint8)) if image.mode.startswith('I') else image).convert('RGB'))"
)


def portable_text(text: str, definition: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Replace this package's transforms in an inference configuration by MONAI's that compute the same.

    Args:
        text: the YAML of ``configs/inference.yaml``.
        definition: the network.

    Returns:
        The new text, and what in it is still of this package: empty where it runs without.
    """
    config = parse_yaml(text, INFERENCE)
    size = config.get("image_size")
    settings: dict[str, Any] = {NETWORK: dict(definition)}
    if isinstance(config.get("preprocessing"), Mapping):
        transforms = [t for old in config["preprocessing"]["transforms"] for t in _replace(old, size)]
        settings["preprocessing"] = {**config["preprocessing"], "transforms": transforms}
    if isinstance(config.get("postprocessing"), Mapping):
        transforms = [t for old in config["postprocessing"]["transforms"] for t in _after(old)]
        settings["postprocessing"] = {**config["postprocessing"], "transforms": transforms}
    # refuse misspelt options and empty folders in plain words; conveniences of this package
    checks = ("check_overrides", "check_images")
    for part in ("initialize", "run"):
        if isinstance(config.get(part), list):
            settings[part] = [
                line for line in config[part] if not any(check in str(line) for check in checks)
            ]
    rest = {key: value for key, value in config.items() if key not in (*settings, "imports")}
    left = sorted(set(_ours({**rest, **settings})))
    imports = [line for line in config.get("imports", []) if _OURS[:-1] not in str(line)]
    settings["imports"] = [
        *imports,
        "$import PIL.Image as pillow_image",
        *(["$import monai_difom"] if left else []),
    ]
    return with_settings(text, plain_data(settings)), left


def _replace(transform: Mapping[str, Any], image_size: Any) -> list[dict[str, Any]]:
    """Return MONAI's transforms for one of this package; any other as it is."""
    new = dict(transform)
    if str(new.get("reader", "")).startswith("$monai_difom.transforms.PictureReader('rgb')"):
        new["reader"] = _RGB
    name = str(new.get("_target_", ""))
    keys = new.get("keys", "image")
    if not name.startswith(_OURS):
        return [new]
    kind = name.rpartition(".")[2]
    if kind == "ResizeImaged" and new.get("mode", "bilinear") == "bilinear":
        size = image_size if new.get("spatial_size") == "@image_size" else new.get("spatial_size")
        sides = [size, size] if isinstance(size, int) else list(size or [])
        if len(sides) != 2:
            return [new]
        # torch's antialiased filter on 8-bit data; MONAI's Resized smooths with a Gaussian, another picture
        return [_resize(keys, f"[{sides[0]}, {sides[1]}]", "x.as_tensor()", ", antialias=True")]
    if kind == "SplitTeacherd" and new.get("teacher_key", "") is None:
        scale = {"a_min": 0, "a_max": 255, "b_min": 0, "b_max": 1}
        return [{"_target_": "ScaleIntensityRanged", "keys": new.get("image_key", "image"), **scale}]
    if kind == "NormalizeImaged":
        mean, std = (list(new.get(key, own)) for key, own in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)))
        statistics = {"subtrahend": mean, "divisor": std, "channel_wise": True}
        return [{"_target_": "NormalizeIntensityd", "keys": keys, **statistics}]
    return [new]


def _after(transform: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a transform of the postprocessing, and behind MONAI's ``Invertd`` the resize that it cannot undo."""
    if transform.get("_target_") != "Invertd":
        return [dict(transform)]
    size = "[int(n) for n in x.meta['spatial_shape']]"
    return [dict(transform), _resize(transform["keys"], size, "x.as_tensor().float()", ", antialias=True")]


def _resize(keys: Any, size: str, tensor: str, options: str) -> dict[str, Any]:
    call = f"torch.nn.functional.interpolate({tensor}[None], size={size}, mode='bilinear', align_corners=False{options})[0]"
    return {
        "_target_": "Lambdad",
        "keys": keys,
        "func": f"$lambda x: monai.data.MetaTensor({call}, meta=x.meta, applied_operations=x.applied_operations)",
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
