"""Settings and fixtures that all tests share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import torch

# before any test imports a library that reads it: tests need no network
os.environ["HF_HUB_OFFLINE"] = "1"
# exported TorchScript is signed with a key of this session, not with the person's own
_KEYS = tempfile.TemporaryDirectory(prefix="difom_key_")  # removed when the session ends
os.environ["DIFOM_SIGNING_KEY"] = str(Path(_KEYS.name) / "signing.key")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data; the test is skipped where it is absent."""
    folder = Path(os.environ.get("DIFOM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set DIFOM_TEST_DATA to the folder that holds it")
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a tiny MONAI network that was trained with taps."""
    from .apps.deployed.students import MONAI_NETWORK, learn, write_run

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
    """Its export in every format; put the tests that use it into the group "exported", so that it is made once."""
    from monai_difom.apps.export.deployable import export_bundle
    from monai_difom.apps.export.formats import FORMATS

    from .apps.deployed.students import write_pictures

    for package in ("onnxscript", "onnxruntime", "openvino", "nncf"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("exported")
    write_pictures(folder / "calibration", 8)
    export_bundle(finished, folder / "bundle", list(FORMATS), calibration=folder / "calibration")
    return folder / "bundle"
