"""No bundle from elsewhere runs, reads or fetches anything, whichever door it comes through."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from monai_difom.apps.deployed.runners import open_runner
from monai_difom.apps.export.deployable import export_bundle
from monai_difom.networks.teachers import bundle_teacher

from .hostile import CHANGES, DEFINITIONS, make, with_definition

pytestmark = pytest.mark.xdist_group("exported")
PLAIN = {"mean": [0.5] * 3, "std": [0.5] * 3}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands are run in; Python would import what lies in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("kind", CHANGES)
def test_a_hostile_bundle_is_refused_and_nothing_of_it_runs(kind: str, finished: Path, here: Path) -> None:
    bundle = make(CHANGES[kind], finished / "bundle", here)
    left = sorted(here.rglob("*"))
    begun = time.perf_counter()
    with pytest.raises(ValueError, match=r"\w") as refused:
        open_runner(bundle)
    with pytest.raises(ValueError, match=r"\w"):
        export_bundle(bundle, here / "out", ["bundle"])
    assert time.perf_counter() - begun < 20
    assert len(str(refused.value)) < 1500
    assert sorted(here.rglob("*")) == left


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_a_hostile_bundle_is_no_teacher(kind: str, finished: Path, here: Path) -> None:
    bundle = make(with_definition(DEFINITIONS[kind]), finished / "bundle", here)
    left = sorted(here.rglob("*"))
    with pytest.raises(ValueError, match=r"\w"):
        bundle_teacher(bundle, {"a": "down_4"}, **PLAIN)
    assert sorted(here.rglob("*")) == left


@pytest.mark.parametrize(
    "asked", ["/etc/passwd", "evil", "hf-hub:evil/evil", True, {"_target_": "os.system", "command": "touch evil"}]
)  # fmt: skip
def test_first_weights_are_neither_read_nor_fetched(asked: object, finished: Path, here: Path) -> None:
    from .students import MONAI_NETWORK

    asking = {**MONAI_NETWORK, "pretrained": asked, "checkpoint_path": asked}
    bundle = make(with_definition(asking), finished / "bundle", here)
    assert open_runner(bundle).facts == open_runner(finished).facts
    assert not (here / "evil").exists()
