"""Every bundle, and one that was exported, passes what MONAI's model zoo checks before it takes a bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, verify_metadata, verify_net_in_out
from PIL import Image

from monai_difom.apps.deployed.facts import read_deployment
from monai_difom.utils import load_state, save_state
from tests.apps.deployed.students import write_pictures

ROOT = Path(__file__).parents[2]
BUNDLES = sorted(path.parents[1] for path in (ROOT / "bundles").glob("*/configs/metadata.json"))
pytestmark = pytest.mark.xdist_group("exported")
SCHEMA = ROOT.parent / "shared" / "schema" / "meta_schema_20240725.json"


def network_of(folder: Path) -> torch.nn.Module:
    """The network of a bundle, as MONAI builds it."""
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.yaml"))
    return parser.get_parsed_content("network_def").eval()


@pytest.fixture(params=[*(path.name for path in BUNDLES), "exported"])
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A bundle as it would be handed in: with the weights that a training leaves."""
    if request.param == "exported":
        return request.getfixturevalue("exported")
    folder = tmp_path / request.param
    shutil.copytree(ROOT / "bundles" / request.param, folder)
    (folder / "models").mkdir(exist_ok=True)
    torch.manual_seed(0)
    save_state(folder / "models" / "model.pt", network_of(folder).state_dict())
    return folder


def test_necessary_and_preferred_files_are_there(bundle: Path) -> None:
    for name in (
        "configs/metadata.json",
        "LICENSE",
        "models/model.pt",
        "docs/README.md",
        "configs/logging.conf",
    ):
        assert (bundle / name).is_file(), name
    assert any((bundle / "configs" / f"inference.{end}").is_file() for end in ("json", "yaml", "yml"))


def test_the_changelog_has_the_version(bundle: Path) -> None:
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata["changelog"][metadata["version"]]


def test_the_metadata_follow_the_schema(bundle: Path, tmp_path: Path) -> None:
    if not SCHEMA.is_file():
        pytest.skip(f"no schema at {SCHEMA}; MONAI would fetch it")
    pytest.importorskip("jsonschema")
    copy = shutil.copyfile(SCHEMA, tmp_path / "schema.json")
    verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(copy))


def test_the_metadata_are_in_the_zoos_format(bundle: Path) -> None:
    text = (bundle / "configs" / "metadata.json").read_text()
    assert text == json.dumps(json.loads(text), indent=4, ensure_ascii=False) + "\n"
    for file in bundle.rglob("*"):
        if file.suffix in (".yaml", ".json", ".md", ".conf"):
            lines = file.read_text().split("\n")
            assert lines[-1] == "", f"{file} does not end with a line end"
            assert not [line for line in lines if line != line.rstrip()], (
                f"{file} has blanks at the end of a line"
            )


def test_the_network_takes_and_gives_what_the_metadata_say(bundle: Path) -> None:
    verify_net_in_out(
        "network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.yaml"),
    )


def test_it_is_exported_by_monais_own_command(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "verify_model.ts"
    facts = read_deployment(bundle)
    shape = [1, len(facts.mean), *(min(side, 96) for side in facts.size)]
    ckpt_export(
        "network_def",
        filepath=str(file),
        ckpt_file=str(bundle / "models" / "model.pt"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.yaml"),
    )
    image = torch.rand(shape)
    network = network_of(bundle)
    network.load_state_dict(load_state(bundle / "models" / "model.pt"))
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(file)(image), network(image), atol=1e-5, rtol=0)
    own = bundle / "models" / "model.ts"
    if own.is_file():
        torch.jit.load(own)


def test_its_inference_has_every_property_and_runs(bundle: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 1)
    flow = ConfigWorkflow(
        str(bundle / "configs" / "inference.yaml"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=str(bundle / "configs" / "logging.conf"),
        workflow_type="infer",
        bundle_root=str(bundle),
        dataset_dir=str(tmp_path / "images"),
        output_dir=str(tmp_path / "masks"),
        device="cpu",
    )
    flow.initialize()
    assert flow.check_properties() == []
    flow.run()
    flow.finalize()
    (mask,) = (tmp_path / "masks").rglob("*.png")
    levels = np.asarray(Image.open(mask))
    assert levels.shape[:2] == (40, 60)
    assert set(np.unique(levels)) <= {0, 1}
