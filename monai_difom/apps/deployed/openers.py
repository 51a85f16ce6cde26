"""Open a file of a trained network in the runtime of its format; nothing in it is unpickled."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from .facts import DEPLOYMENT
from .model_files import check_onnx, check_openvino
from .optional import require

if TYPE_CHECKING:
    import torch

Logits = Callable[[np.ndarray], np.ndarray]


def torch_logits(network: torch.nn.Module) -> Logits:
    """Return the function from input to logits of a torch network, run without gradients."""
    import torch

    @torch.inference_mode()
    def logits(image: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(image)).float().numpy()

    return logits


def open_torchscript(file: Path) -> tuple[Logits, str | None]:
    """Open TorchScript; its facts are an extra file in it.

    Raises:
        ValueError: it is not readable.
    """
    import torch

    extra = {f"{DEPLOYMENT}.json": ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the deprecation
            network = torch.jit.load(str(file), map_location="cpu", _extra_files=extra).eval()
    except RuntimeError as error:
        raise ValueError(f"{file} is not readable TorchScript: {str(error).splitlines()[0]}") from error
    text: Any = extra[f"{DEPLOYMENT}.json"]
    return torch_logits(network), text.decode() if isinstance(text, bytes) else text


def open_onnx(file: Path) -> tuple[Logits, str | None]:
    """Open ONNX; its facts are in its metadata.

    Raises:
        ValueError: onnxruntime is absent, or the file is refused or not readable.
    """
    runtime = require("onnxruntime")
    check_onnx(file)
    import torch

    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    # the runtime has exceptions of its own, one per failure
    except Exception as error:
        raise ValueError(f"{file} is not readable ONNX: {str(error).splitlines()[0]}") from error
    if not session.get_inputs() or not session.get_outputs():
        raise ValueError(f"{file} has no input or no output; it is no network that segments images.")
    name = session.get_inputs()[0].name
    props = session.get_modelmeta().custom_metadata_map
    return lambda image: session.run(None, {name: image})[0], props.get(DEPLOYMENT)


def open_openvino(file: Path) -> tuple[Logits, str | None]:
    """Open OpenVINO's two files; the facts are in their runtime information.

    Raises:
        ValueError: openvino is absent, or the file is refused or not readable.
    """
    core = openvino_core()
    check_openvino(file)
    import torch

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
