"""A trained student and its export, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_difom.apps.export_bundle import export_bundle

from .deployed import MONAI_NETWORK, learn, write_pictures, write_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a MONAI network that was trained with taps."""
    folder = tmp_path_factory.mktemp("finished")
    weights = learn(MONAI_NETWORK, folder / "model.pt")
    tapped = {
        "_target_": "monai_difom.networks.nets.tapped",
        "network": MONAI_NETWORK,
        "taps": {"bottleneck": "down_4", "stride8": "down_3"},
        "divisor": 16,
    }
    return write_run(folder / "run", tapped, weights)


@pytest.fixture(scope="session")
def exported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export in every format."""
    for package in ("onnxscript", "onnxruntime", "openvino", "nncf"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("exported")
    write_pictures(folder / "calibration", 8)
    formats = ["bundle", "torchscript", "onnx", "openvino"]
    export_bundle(finished, folder / "bundle", formats, calibration=folder / "calibration")
    return folder / "bundle"
