"""Bundles from elsewhere that try to run, read or fetch something when they are opened; each would leave ``evil`` behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

COMMAND = "touch evil"
# what an import or a constructor of this module would leave behind
MODULE = """
import pathlib, torch
pathlib.Path("evil").touch()
class Net(torch.nn.Module):
    def __init__(self, **arguments):
        pathlib.Path("evil").touch()
"""
IDENTITY = {"_target_": "torch.nn.Identity"}
UNET = {
    "_target_": "monai.networks.nets.BasicUNet",
    "spatial_dims": 2,
    "in_channels": 3,
    "out_channels": 1,
    "features": [4, 4, 8, 8, 8, 4],
    "norm": "batch",
}


def calls(target: Any, **arguments: Any) -> dict[str, Any]:
    return {"_target_": target, **arguments}


# a network_def each
DEFINITIONS: dict[str, Any] = {
    "a command by its full name": calls("os.system", command=COMMAND),
    "a command of subprocess": calls("subprocess.call", args=COMMAND, shell=True),
    "a bare name of MONAI": calls("run_cmd", cmd_list=["touch", "evil"]),
    "a bare builtin": calls("eval", source=f"__import__('os').system('{COMMAND}')"),
    "a builtin": calls("builtins.exec", source=f"__import__('os').system('{COMMAND}')"),
    "MONAI's own runner": calls("monai.utils.misc.run_cmd", cmd_list=["touch", "evil"]),
    "out of timm over its imports": calls("timm.models._hub.os.system", command=COMMAND),
    "out of torch.nn over its imports": calls("torch.nn.modules.module.torch.os.system", command=COMMAND),
    "out of MONAI over its imports": calls("monai.networks.utils.warnings.sys.modules", x=1),
    "out of segmentation_models_pytorch": calls("segmentation_models_pytorch.warnings.sys.exit"),
    "a class that a package only imported": calls("monai.networks.nets.resnet.Path", x="evil"),
    "a function of an allowed package": calls("timm.create_model", model_name="hf-hub:evil/evil"),
    "a loader of an allowed package": calls("timm.models.load_checkpoint", checkpoint_path="evil"),
    "a method": calls("torch.nn.Module.apply", fn="print"),
    "a method of a class": calls("monai.networks.nets.UNet.__init__", self=1),
    "a private name": calls("torch.nn.modules.module._global_parameter_registration_hooks"),
    "a module that is run": calls("monai.bundle.__main__.fire", component=1),
    "a prefix of an allowed name": calls("timm_evil.Net"),
    "a module beside the bundle": calls("evil_module.Net"),
    "a relative name": calls("..evil_module.Net"),
    "a path": calls("./evil_module.py"),
    "a target with a space": calls("torch.nn. Identity"),
    "a mapping as target": calls(calls("os.system", command=COMMAND)),
    "a list as target": calls(["os.system"], command=COMMAND),
    "a number as target": calls(1),
    "nothing as target": calls(None),
    "an expression as target": calls(f"$__import__('os').system('{COMMAND}')"),
    "a reference as target": calls("@preprocessing::transforms::0::_target_"),
    "an expression as network": f"$__import__('os').system('{COMMAND}')",
    "an expression as argument": {**UNET, "norm": f"$__import__('os').system('{COMMAND}')"},
    "an expression deep in a list": {**UNET, "norm": ["batch", {"eps": [f"$open('evil', 'w')"]}]},  # noqa: F541
    "an expression that looks like a class": {**UNET, "act": "$torch.nn.ReLU"},
    "an expression after a space": {**UNET, "norm": " $1"},
    "a macro": {**UNET, "norm": "%evil.yaml::p"},
    "a macro that yields a macro": calls("torch.nn.Identity", x="%evil.yaml::q"),
    "a reference to an expression": {**UNET, "norm": "@evil"},
    "a reference to nothing": {**UNET, "norm": "@gone"},
    "a reference to itself": {**UNET, "norm": "@network_def"},
    "a nested command": {**UNET, "norm": calls("os.system", command=COMMAND)},
    "a nested bare name": calls("torch.nn.Sequential", a=[calls("run_cmd", cmd_list=["touch", "evil"])]),
    "a command in a wrapper": calls(
        "monai_difom.networks.nets.tapped", network=calls("os.system", command=COMMAND), taps={}
    ),
    "a command beside the network of a wrapper": calls(
        "monai_difom.networks.nets.MainOutput", network=UNET, main=calls("os.system", command=COMMAND)
    ),
    "an expression as key": {**UNET, f"$__import__('os').system('{COMMAND}')": 1},
    "the debugger": {**UNET, "_mode_": "debug"},
    "a partial call": {**UNET, "_mode_": "callable"},
    "a requirement": {**UNET, "_requires_": [f"$__import__('os').system('{COMMAND}')"]},
    "a disabled network": {**UNET, "_disabled_": True},
    "a path as argument": {**UNET, "norm": "/etc/passwd"},
    "an address as argument": calls("monai.networks.nets.FlexibleUNet", in_channels=3, out_channels=1, backbone="http://localhost/evil"),
    "a model of a hub": calls("monai_difom.networks.nets.LightSegmenter", encoder="hf-hub:evil/evil"),
    "a model of a local folder": calls("segmentation_models_pytorch.Unet", encoder_name="tu-local-dir:evil"),
    "a file by its name alone": calls("monai_difom.networks.nets.SamSegmenter", architecture={"config": "evil.yaml"}),
    "a model that its class fetches": calls(
        "monai.networks.nets.transchex.Transchex",
        in_channels=3, img_size=[32, 32], num_classes=2, patch_size=[16, 16],
        num_language_layers=1, num_vision_layers=1, num_mixed_layers=1,
    ),
    "a teacher, which reads files": calls("monai_difom.networks.teachers.ViTTeacher", weights="evil"),
    "a network of terabytes": calls("torch.nn.Linear", in_features=1_000_000, out_features=1_000_000),
    "a network without end": calls("torch.nn.Transformer", num_encoder_layers=10**9),
    "a class without its arguments": calls("monai.networks.nets.UNet"),
    "no network": [1, 2],
}  # fmt: skip


def with_definition(definition: Any) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        file = bundle / "configs" / "inference.yaml"
        config = yaml.safe_load(file.read_text())
        config["network_def"] = definition
        config["evil"] = f"$__import__('os').system('{COMMAND}')"
        file.write_text(yaml.safe_dump(config, sort_keys=False))

    return change


def with_text(name: str, text: str, append: bool = False) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        file = bundle / name
        file.write_text(file.read_text() + text if append else text)

    return change


def with_metadata(**values: Any) -> Callable[[Path], None]:
    def change(bundle: Path) -> None:
        file = bundle / "configs" / "metadata.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return change


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (__import__("os").system, (COMMAND,))


def with_pickle(bundle: Path) -> None:
    (bundle / "models" / "model.pt").unlink()
    torch.save({"a": Evil()}, bundle / "models" / "model.pt")


def facts(**changes: Any) -> dict[str, Any]:
    good = {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "activation": "sigmoid", "threshold": 0.5}
    return {**good, "structures": ["a"], **changes}


INFERENCE, METADATA = "configs/inference.yaml", "configs/metadata.json"
BOMB = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)
# what is changed of a good bundle
CHANGES: dict[str, Callable[[Path], None]] = {
    **{name: with_definition(definition) for name, definition in DEFINITIONS.items()},
    "an object by a YAML tag": with_text(INFERENCE, "\nx: !!python/object/apply:os.system ['touch evil']\n", True),
    "an alias bomb": with_text(INFERENCE, BOMB, True),
    "a network defined twice": with_text(INFERENCE, "\nnetwork_def: {_target_: os.system, command: touch evil}\n", True),
    "a huge configuration": with_text(INFERENCE, "x: " + "y" * 5_000_000, True),
    "a configuration of endless depth": with_text(INFERENCE, "x: " + "[" * 500_000, True),
    "a configuration that is a list": with_text(INFERENCE, "[1]"),
    "an empty configuration": with_text(INFERENCE, ""),
    "metadata of endless depth": with_text(METADATA, "[" * 500_000),
    "metadata that are a list": with_text(METADATA, "[1]"),
    "metadata that are cut off": with_text(METADATA, '{"a": '),
    "facts that are a text": with_metadata(deployment="evil"),
    "an image of a terabyte": with_metadata(deployment=facts(size=[1_000_000, 1_000_000])),
    "an image without an end": with_metadata(deployment=facts(size=[float("inf"), 1])),
    "a mean that is no number": with_metadata(deployment=facts(mean=[float("nan")] * 3)),
    "a threshold above one": with_metadata(deployment=facts(threshold=2)),
    "a structure with a line break": with_metadata(deployment=facts(structures=["a\nb"])),
    "pickled code for weights": with_pickle,
}  # fmt: skip


def make(change: Callable[[Path], None], good: Path, folder: Path) -> Path:
    """Copy a good bundle, change it, and put beside it what it would need to do harm."""
    bundle = folder / "bundle"
    for name in ("configs", "models"):
        (bundle / name).mkdir(parents=True)
    for name in (INFERENCE, METADATA, "models/model.pt"):
        (bundle / name).write_bytes((good / name).read_bytes())
    change(bundle)
    run = f"$__import__('os').system('{COMMAND}')"
    (folder / "evil.yaml").write_text(yaml.safe_dump({"p": run, "q": "%evil2.yaml::p"}))
    (folder / "evil2.yaml").write_text(yaml.safe_dump({"p": run}))
    for name in ("evil_module.py", "timm_evil.py"):
        (folder / name).write_text(MODULE)
    return bundle
