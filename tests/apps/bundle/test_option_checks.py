"""Every value of a wrong kind or range is refused with what was found, what is allowed, and what to write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from monai_difom.apps.bundle.option_checks import CHECKS, check_values, fits

ROOT = Path(__file__).parents[3]
TRAIN = ROOT / "bundles" / "polyp_difom" / "configs" / "train.yaml"
NAN, INFINITE = float("nan"), float("inf")
WRONG: dict[str, list[Any]] = {
    "image_size": [0, -1, "abc", [64], 64.5, [1, 2, 3, 4], True, [64, "x"], None],
    "batch_size": [0, -1, "x", 1.5, True, None, [8]],
    "epochs": ["x", 5, [1, "a"], [-1, 0, 0], [1.5, 1, 1], None],
    "limit": ["all", 0, -3, 2.5],
    "seed": ["x", -1, 2**40, 1.5, None],
    "num_workers": [-1, "two"],
    "learning_rate": ["high", 0, -1, NAN, INFINITE, "0.001", None],
    "val_interval": [0, "x"],
    "val_fraction": [1, -0.1, 2, NAN, "x"],
    "cache_rate": [1.5, -1, NAN],
    "device": ["gpu", "cuda:99", 3.5, None],
    "amp": ["maybe", 1, None],
    "progress": ["yes"],
    "mask_threshold": ["x", NAN],
    "classes": [1, "x"],
    "ema": [0, 1, 2, NAN],
    "scale": [3, [0, 1], [-1, 1], ["a", 1]],
    "rotate": [-1, 200, "x"],
    "feature_views": [0, 9, [8], "x"],
    "trust": [2, NAN],
    "adapt_seeds": [0, "x"],
}
NESTED: dict[str, Any] = {
    "network_def#features": [4, "a"],
    "network_def#out_channels": "x",
    "optimizer#lr": "high",
    "optimizer#weight_decay": "z",
    "targets#fit_images": "many",
    "train#trainer#max_epochs": "x",
    "train#trainer#amp": "maybe",
    "schedule#warmup": "a",
    "plan#epochs": "x",
}


def parser(**changes: Any) -> ConfigParser:
    found = ConfigParser()
    found.read_config(str(TRAIN))
    for name, value in changes.items():
        found[name] = value
    return found


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in WRONG.items() for v in values])
def test_a_wrong_value_is_refused_in_three_parts(name: str, value: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"^{name} is .*; allowed is .*\. Give, for example, --{name} "
    ) as refused:
        check_values(parser(**{name: value}))
    example = re.search(rf"--{name} (.*)\.$", str(refused.value))
    assert example is not None
    check_values(parser(**{name: yaml.safe_load(example[1])}))  # which is right itself


@pytest.mark.parametrize("name", NESTED)
def test_a_wrong_argument_deep_in_the_configuration_is_refused_alike(name: str) -> None:
    changed = parser()
    changed[name] = NESTED[name]
    with pytest.raises(ValueError, match=rf"^{name} is .*; allowed is .*\. Give, for example, --{name} "):
        check_values(changed, [name])


@pytest.mark.parametrize("config", sorted((ROOT / "bundles").glob("*/configs/*.yaml")), ids=str)
def test_what_the_bundles_say_themselves_is_allowed(config: Path) -> None:
    found = ConfigParser()
    found.read_config(str(config))
    check_values(found)


@pytest.mark.parametrize("overlay", sorted((ROOT / "configs").glob("[!lv]*/*.yaml")), ids=lambda p: p.stem)
def test_what_the_overlays_say_is_allowed(overlay: Path) -> None:
    found = ConfigParser()
    found.read_config([str(TRAIN), str(overlay)])
    check_values(found)


def test_right_values_and_what_is_computed_are_passed() -> None:
    good = {
        "image_size": [96, 128],
        "limit": None,
        "epochs": [1, 0, 0],
        "device": torch.device("cpu"),
        "ema": 0.5,
    }
    check_values(
        parser(**good, amp="$False", learning_rate="@cache_rate", optimizer_lr=3), ["optimizer#lr", "x#y"]
    )
    assert set(WRONG) <= set(CHECKS)


@pytest.mark.parametrize(
    ("value", "kind", "good"),
    [
        (1, int, True),
        (True, int, False),
        (1, float, True),
        (NAN, float, False),
        ("a", str | None, True),
        (None, str | None, True),
        (2, str | None, False),
        ([1, 2], Sequence[int], True),
        ([1, "a"], Sequence[int], False),
        ("none", Literal["none", "side"], True),
        ("x", Literal["none", "side"], False),
        ({"a": 1}, dict[str, int], True),
        ("x", torch.Tensor, False),
        ("x", Any, True),
    ],
)
def test_plain_data_fit_types(value: Any, kind: Any, good: bool) -> None:
    assert fits(value, kind) is good
