"""A trained network in the formats that run without this package: TorchScript, ONNX, OpenVINO in 16 and in 8 bits."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...networks.student import reparameterize
from ..deployed.facts import DEPLOYMENT, Deployment
from ..deployed.openers import openvino_core
from ..deployed.optional import require
from ..deployed.signature import archive_records, key_file, sign, write_archive

logger = logging.getLogger(__name__)

INPUT, OUTPUT = "image", "pred"


@dataclass
class Work:
    """What the formats are written from.

    Args:
        network: the trained network.
        facts: size of the input, and what stands around the network.
        onnx_file: where the ONNX file is, or goes; formats that are made from it share it.
        pictures: 8-bit pictures ``(H, W, C)`` for formats whose ranges they set.
    """

    network: nn.Module
    facts: Deployment
    onnx_file: Path
    pictures: Sequence[np.ndarray] = ()

    @cached_property
    def graph(self) -> nn.Module:
        """The network as it is written to every format: eval mode, parallel branches folded, no gradients."""
        return reparameterize(self.network).requires_grad_(False)

    def onnx(self) -> Path:
        """Return the ONNX file, written where it is not there yet."""
        if not self.onnx_file.is_file():
            write_onnx(self, self.onnx_file)
        return self.onnx_file


def _example(facts: Deployment) -> torch.Tensor:
    # two images: an axis of length one would be taken for a constant
    return torch.zeros(2, len(facts.mean), *facts.size)


def write_torchscript(work: Work, file: Path) -> None:
    """Write a signed TorchScript file of any batch size; its facts are in it as the extra file ``deployment.json``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing tells of shapes that are fixed, and they are
        traced = torch.jit.trace(work.graph, _example(work.facts), check_trace=False)
    extra = {f"{DEPLOYMENT}.json": json.dumps(work.facts.as_dict())}
    with warnings.catch_warnings():
        # PyTorch would rather have torch.export, which needs this PyTorch's classes
        warnings.simplefilter("ignore")
        whole = traced.save_to_buffer(_extra_files=extra)
    # what is left out is where each line of source was on the machine that wrote it
    records = archive_records(io.BytesIO(whole))
    write_archive(file, {name: part for name, part in records.items() if not name.endswith(".debug_pkl")})
    if not sign(file):
        logger.warning(
            "%s cannot be signed, since there is no key at %s and none can be made: it runs with --trust-torchscript.",
            file.name,
            key_file(),
        )


def write_onnx(work: Work, file: Path) -> None:
    """Write an ONNX file, weights inside, batch size free; its facts are in ``metadata_props``.

    Raises:
        ValueError: onnx or onnxscript is absent.
    """
    onnx = require("onnx")
    require("onnxscript")
    with _quiet():
        torch.onnx.export(
            work.graph,
            (_example(work.facts),),
            str(file),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},),
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    model = onnx.load(str(file))
    for node in model.graph.node:
        del node.metadata_props[:]  # lines of source with the folders of this machine
    onnx.helper.set_model_props(model, {DEPLOYMENT: json.dumps(work.facts.as_dict())})
    onnx.save(model, str(file))


def write_openvino(work: Work, file: Path) -> None:
    """Write OpenVINO's two files (``.xml``, ``.bin``) with weights of 16 bits; the facts are in their runtime information.

    Raises:
        ValueError: openvino is absent.
    """
    openvino = require("openvino")
    # not convert_model, which tells its maker that it was used
    model = openvino_core().read_model(str(work.onnx()))
    model.set_rt_info(json.dumps(work.facts.as_dict()), DEPLOYMENT)
    openvino.save_model(model, str(file), compress_to_fp16=True)


def write_int8(work: Work, file: Path) -> None:
    """Write OpenVINO's two files with weights and activations of 8 bits, by quantisation after training.

    The pictures set the ranges of the activations: some hundred, of the training's kind.

    Raises:
        ValueError: nncf or openvino is absent, or there is no picture.
    """
    openvino, nncf = require("openvino"), require("nncf")
    inputs = [work.facts.prepare(picture) for picture in work.pictures]
    if not inputs:
        raise ValueError("the calibration set is empty; 8 bits need pictures like those of the training.")
    with _quiet():
        model = nncf.quantize(
            openvino_core().read_model(str(work.onnx())), nncf.Dataset(inputs), subset_size=len(inputs)
        )
    model.set_rt_info(json.dumps(work.facts.as_dict()), DEPLOYMENT)
    openvino.save_model(model, str(file), compress_to_fp16=False)


@contextlib.contextmanager
def _quiet() -> Any:
    """Keep exporters from filling the screen; what goes wrong is raised all the same."""
    names = ("torch.onnx", "onnxscript", "onnx_ir", "nncf")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
