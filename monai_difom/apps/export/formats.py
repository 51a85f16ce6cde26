"""What an export format is: its file, what writes, opens and runs it, how far it may be from PyTorch. One record for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...utils.weight_files import BUNDLE_WEIGHTS, MODELS

if TYPE_CHECKING:
    from .writers import Work


@dataclass(frozen=True)
class Tolerance:
    """How far a format may be from PyTorch.

    Args:
        largest: highest difference of a pixel's probability; None sets no limit.
        mean: highest mean difference.
        dice: lowest Dice between the masks.
    """

    largest: float | None
    mean: float
    dice: float


@dataclass(frozen=True)
class Format:
    """One export format.

    Args:
        name: as a person asks for it.
        file: below the folder of the export.
        engine: what runs it.
        tolerance: see `Tolerance`.
        writer: function of `writers` that writes it; empty where the bundle holds the file anyway.
        opener: function of `monai_difom.apps.deployed.openers` that opens it; empty for weights, which a bundle opens.
        what: its files, for messages.
        packages: those that write it.
        runtime: the package that runs it; empty for PyTorch.
        use: import and call that turn ``x`` into ``logits``, for the model card; empty for none.
        program: a file of it is a program, which is run only where it is signed or a person vouches for it.
        calibrated: it is made with pictures that set its ranges, and comes with its engine where those are given.
        size: bytes of its files, as a share of the weights in 32 bits.
        note: for the help of the command line.
    """

    name: str
    file: str
    engine: str
    tolerance: Tolerance
    writer: str = ""
    opener: str = ""
    what: str = "ONNX files"
    packages: tuple[str, ...] = ()
    runtime: str = ""
    use: tuple[str, ...] = ()
    program: bool = False
    calibrated: bool = False
    size: float = 1.0
    note: str = ""

    @property
    def suffix(self) -> str:
        """The end of its file's name."""
        return Path(self.file).suffix

    def write(self, work: Work, file: Path) -> None:
        """Write it; the packages are there."""
        getattr(import_module(f"{__package__}.writers"), self.writer)(work, file)

    def open(self, file: Path) -> tuple[Callable[..., Any], str | None]:
        """Return the function from input to logits of a file, and the facts in it, as JSON."""
        return getattr(import_module(".deployed.openers", __package__.rpartition(".")[0]), self.opener)(file)


_ONNX = ("onnx", "onnxscript")
FORMATS = {
    form.name: form
    for form in (
        Format("bundle", BUNDLE_WEIGHTS, "torch", Tolerance(1e-4, 1e-5, 0.9999)),
        Format(
            "torchscript",
            f"{MODELS}/model.ts",
            "torch",
            Tolerance(1e-4, 1e-5, 0.9999),
            writer="write_torchscript",
            opener="open_torchscript",
            program=True,
            use=(
                "import torch",
                "logits = torch.jit.load('models/model.ts')(torch.from_numpy(x)).detach().numpy()",
            ),
        ),
        Format(
            "onnx",
            f"{MODELS}/model.onnx",
            "onnx",
            Tolerance(1e-3, 1e-5, 0.9995),
            writer="write_onnx",
            opener="open_onnx",
            packages=_ONNX,
            runtime="onnxruntime",
            use=(
                "import onnxruntime",
                "logits = onnxruntime.InferenceSession('models/model.onnx').run(None, {'image': x})[0]",
            ),
        ),
        Format(
            "openvino",
            f"{MODELS}/model_fp16.xml",
            "openvino",
            Tolerance(0.05, 1e-3, 0.995),
            writer="write_openvino",
            opener="open_openvino",
            what="OpenVINO files",
            packages=(*_ONNX, "openvino"),
            runtime="openvino",
            use=(
                "import openvino",
                "logits = openvino.compile_model('models/model_fp16.xml', 'CPU')(x)[0]",
            ),
            size=0.5,
            note="16 bits",
        ),
        Format(
            "openvino-int8",
            f"{MODELS}/model_int8.xml",
            "openvino",
            # 8 bits move single pixels at an edge far, the mask hardly: no limit to a pixel
            Tolerance(None, 0.02, 0.95),
            writer="write_int8",
            opener="open_openvino",
            what="8-bit OpenVINO files",
            packages=(*_ONNX, "openvino", "nncf"),
            runtime="openvino",
            calibrated=True,
            size=0.25,
        ),
    )
}
ENGINES = tuple(dict.fromkeys(form.engine for form in FORMATS.values()))
