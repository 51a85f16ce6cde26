"""Open a trained student in any format and run it on one picture; nothing in its file is unpickled."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from ...utils.documents import parse_json
from ..runs.folder import RunFolder
from .facts import DEPLOYMENT, METADATA, Deployment, read_deployment
from .model_files import check_onnx, check_openvino, check_torchscript
from .network import WEIGHTS, load_network
from .optional import require

ENGINES = ("torch", "onnx", "openvino")
# what a bundle holds for each engine, best first
_IN_BUNDLE = {
    "torch": (WEIGHTS, "models/model.ts"),
    "onnx": ("models/model.onnx",),
    "openvino": ("models/model_fp16.xml", "models/model_int8.xml"),
}
_BY_SUFFIX = {".pt": "torch", ".safetensors": "torch", ".ts": "torch", ".onnx": "onnx", ".xml": "openvino"}


@dataclass(frozen=True)
class Runner:
    """A network that is ready to run.

    Args:
        file: where its weights are from.
        engine: one of `ENGINES`.
        facts: what stands around the network.
        logits: input ``(B, C, h, w)``, float32 -> logits ``(B, K, h, w)``.
    """

    file: Path
    engine: str
    facts: Deployment
    logits: Callable[[np.ndarray], np.ndarray]

    def probabilities(self, picture: np.ndarray) -> np.ndarray:
        """Return probabilities ``(structures, H, W)`` of an 8-bit picture ``(H, W, C)``, at its size."""
        return self.facts.probabilities(self.logits(self.facts.prepare(picture)), picture.shape[:2])


def open_runner(
    model: str | os.PathLike, engine: str | None = None, trust_torchscript: bool = False
) -> Runner:
    """Open a bundle, a finished run, or one file.

    Args:
        model: folder of a bundle; folder of a run (its ``bundle``); or ``.pt`` in a bundle, ``.ts``, ``.onnx``, ``.xml``.
        engine: one of `ENGINES`; None takes that of the file, or torch.
        trust_torchscript: run TorchScript that this machine did not export. It is a program: give it only where it is known
            where the file is from.

    Raises:
        FileNotFoundError: there is nothing at ``model``, or the bundle has no file for the engine.
        ValueError: an engine that does not fit or is not installed, or a file that is refused.
    """
    given = Path(model)
    if engine is not None and engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}; allowed are {', '.join(ENGINES)}.")
    if not given.exists():
        raise FileNotFoundError(
            f"no model at {given}: give a bundle's folder, a run's folder or a model file."
        )
    file = _file_of(find_bundle(given), engine or "torch") if given.is_dir() else given
    own = _BY_SUFFIX.get(file.suffix)
    if own is None:
        raise ValueError(
            f"{file} is no model file; allowed are {', '.join(_BY_SUFFIX)}, and folders of bundles."
        )
    if engine not in (None, own):
        raise ValueError(
            f"{file.name} runs in {own}, not in {engine}. Give the bundle's folder, or leave out --engine."
        )
    if file.suffix in (".pt", ".safetensors"):
        return _open_weights(file)
    if own == "torch":
        check_torchscript(file, trust_torchscript)
    logits, facts = {"torch": _open_torchscript, "onnx": _open_onnx, "openvino": _open_openvino}[own](file)
    runner = Runner(file, own, _facts(facts, file), logits)
    _check_output(runner)
    return runner


def _check_output(runner: Runner) -> None:
    """Refuse a file whose network does not take the input, or give the output, that its facts say."""
    facts = runner.facts
    number = len(facts.structures) + (facts.activation == "softmax")
    try:
        found = np.shape(runner.logits(np.zeros((1, len(facts.mean), *facts.size), np.float32)))
    except Exception as error:  # every runtime has errors of its own
        raise ValueError(
            f"{runner.file} does not run on an image of {facts.size} pixels and {len(facts.mean)} channels, as it says: "
            f"{(str(error).splitlines() or [type(error).__name__])[0]}"
        ) from error
    if len(found) != 4 or found[1] != number:
        raise ValueError(
            f"{runner.file} gives an output of the shape {found}; needed are logits of {number} channels, for "
            f"{', '.join(facts.structures)}."
        )


def find_bundle(folder: Path) -> Path:
    """Return the bundle at a folder: itself, or the one that a run holds.

    Raises:
        FileNotFoundError: there is none.
    """
    for place in (folder, RunFolder(folder).bundle):
        if (place / METADATA).is_file():
            return place
    raise FileNotFoundError(
        f"{folder} is no bundle and no finished run with one: neither {METADATA} nor bundle/{METADATA} is there."
    )


def network_runner(network: torch.nn.Module, file: Path, facts: Deployment) -> Runner:
    """Return a runner of a torch network; moved to nowhere, run without gradients."""

    @torch.inference_mode()
    def logits(image: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(image)).float().numpy()

    return Runner(file, "torch", facts, logits)


def _file_of(bundle: Path, engine: str) -> Path:
    found = [bundle / name for name in _IN_BUNDLE[engine] if (bundle / name).is_file()]
    if not found:
        form = {"torch": "torchscript"}.get(engine, engine)
        raise FileNotFoundError(
            f"{bundle} holds nothing for {engine} ({' or '.join(_IN_BUNDLE[engine])}). Make it: "
            f"python -m monai_difom export --bundle {bundle} --output DIR --format bundle,{form}"
        )
    return found[0]


def _open_weights(file: Path) -> Runner:
    bundle = file.parent.parent
    if not (bundle / METADATA).is_file() or file != bundle / WEIGHTS:
        raise ValueError(
            f"{file} holds weights alone; the network is known where the file is {WEIGHTS} of a bundle. Give the bundle."
        )
    runner = network_runner(load_network(bundle), file, read_deployment(bundle))
    return replace(runner, facts=named_channels(runner))


def named_channels(runner: Runner) -> Deployment:
    """Return the facts of a network, with structures numbered where their names are not those of its channels."""
    facts = runner.facts
    image = np.zeros((1, len(facts.mean), *facts.size), np.float32)
    number = runner.logits(image).shape[1] - (facts.activation == "softmax")
    if number == len(facts.structures):
        return facts
    return replace(facts, structures=tuple(f"structure_{i}" for i in range(number)))


def _facts(text: str | None, file: Path) -> Deployment:
    """The facts inside a file, or those of the bundle that it is in."""
    if text:
        return Deployment.from_dict(parse_json(text, f"{file}: its deployment facts"))
    if (file.parent.parent / METADATA).is_file():
        return read_deployment(file.parent.parent)
    raise ValueError(
        f"{file} does not say how pictures become its input; files of `python -m monai_difom export` do."
    )


def _open_torchscript(file: Path) -> tuple[Callable[[np.ndarray], np.ndarray], str | None]:
    extra = {f"{DEPLOYMENT}.json": ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the deprecation
            network = torch.jit.load(str(file), map_location="cpu", _extra_files=extra).eval()
    except RuntimeError as error:
        raise ValueError(f"{file} is not readable TorchScript: {str(error).splitlines()[0]}") from error
    text: Any = extra[f"{DEPLOYMENT}.json"]
    return network_runner(network, file, Deployment((1, 1))).logits, text.decode() if isinstance(
        text, bytes
    ) else text


def _open_onnx(file: Path) -> tuple[Callable[[np.ndarray], np.ndarray], str | None]:
    runtime = require("onnxruntime", "onnx")
    check_onnx(file)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    # the runtime has exceptions of its own, one a failure
    except Exception as error:
        raise ValueError(f"{file} is not readable ONNX: {str(error).splitlines()[0]}") from error
    if not session.get_inputs() or not session.get_outputs():
        raise ValueError(f"{file} has no input or no output; it is no network that segments images.")
    name = session.get_inputs()[0].name
    props = session.get_modelmeta().custom_metadata_map
    return lambda image: session.run(None, {name: image})[0], props.get(DEPLOYMENT)


def _open_openvino(file: Path) -> tuple[Callable[[np.ndarray], np.ndarray], str | None]:
    core = openvino_core()
    check_openvino(file)
    # on some processors the default is bfloat16, which is another network
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    try:
        model = core.read_model(str(file))
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise ValueError(f"{file} is not readable OpenVINO: {str(error).splitlines()[0]}") from error
    text = model.get_rt_info([DEPLOYMENT]).astype(str) if model.has_rt_info([DEPLOYMENT]) else None
    return lambda image: compiled(image)[0], text


def openvino_core() -> Any:
    """Return the one OpenVINO core of this process, with its CPU plugin loaded.

    The plugin gives the main thread a stack for signal handlers, and takes it away with the core. Of two cores the second
    may put back the first one's stack after that is gone: the next Ctrl-C, or the next child that ends, is then a
    segmentation fault. One core that lives as long as the process has no such moment.

    Raises:
        ValueError: openvino is absent.
    """
    return _core_of(require("openvino"))


@cache
def _core_of(openvino: ModuleType) -> Any:
    core = openvino.Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin
    return core
