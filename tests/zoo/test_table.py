"""``python -m monai_difom teachers`` as a person runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from monai_difom.zoo import ZOO, hub_cache, list_teachers, locate


@pytest.fixture(autouse=True)
def _empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "DIFOM_WEIGHTS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def _hub_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"x")
    return folder


def entry(name: str):
    return next(entry for entry in ZOO if entry.name == name)


def test_the_table_fits_120_columns_and_lists_every_teacher(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_teachers() == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 120
    for teacher in ZOO:
        assert teacher.name in out
        assert teacher.licence in out
        assert teacher.source in out
        assert f"--{teacher.option}" in out or not teacher.option


def test_weights_are_found_in_the_hubs_cache_and_in_a_folder(tmp_path: Path) -> None:
    cached = _hub_folder(hub_cache() / "models--facebook--dinov2-base" / "snapshots" / "abc")
    assert locate(entry("dinov2-base")) == cached
    folder = tmp_path / "weights"
    assert locate(entry("dinov2-large"), folder) is None
    assert locate(entry("dinov2-large"), folder / "none") is None
    local = _hub_folder(folder / "dinov2-large")
    assert locate(entry("dinov2-large"), folder) == local
    (folder / "sam_vit_b_01ec64.pth").write_bytes(b"x")
    assert locate(entry("sam-vit_b"), folder) == folder / "sam_vit_b_01ec64.pth"
    (folder / "medclip-vit").mkdir()
    (folder / "medclip-vit" / "pytorch_model.bin").write_bytes(b"x")
    assert locate(entry("medclip-vit"), folder) == folder / "medclip-vit" / "pytorch_model.bin"
    assert locate(entry("medclip-resnet"), folder) is None


def test_a_download_that_broke_off_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "sam_vit_b_01ec64.pth").touch()
    (tmp_path / "dinov2-base").mkdir()
    (tmp_path / "dinov2-base" / "config.json").write_text("{}")
    assert locate(entry("sam-vit_b"), tmp_path) is None
    assert locate(entry("dinov2-base"), tmp_path) is None


def test_json_holds_every_field_and_the_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "medsam_vit_b.pth").write_bytes(b"x")
    monkeypatch.setenv("DIFOM_WEIGHTS", str(tmp_path))
    assert list_teachers(as_json=True) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["medsam"]["path"] == str(tmp_path / "medsam_vit_b.pth")
    assert rows["dinov3-vitb16"]["path"] is None
    assert rows["dinov3-vitb16"]["gated"]
    assert rows["dinov3-vitb16"]["licence"] == "DINOv3 License"


def test_a_folder_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_teachers("nowhere") == 2
    assert "there is no folder 'nowhere'" in capsys.readouterr().err


def test_the_verb_starts_without_torch() -> None:
    code = (
        "import sys; from monai_difom.__main__ import main; code = main(['teachers', '--json']); "
        "assert not {'torch', 'monai', 'transformers'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == len(ZOO)
