"""`python -m monai_difom taps` shows what a person can name as a tap."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from monai_difom.__main__ import main

ROOT = Path(__file__).parents[2]
STUDENTS = ROOT / "configs" / "students"


def rows(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}


def test_every_module_has_a_row_with_channels_stride_and_tap(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["taps", str(STUDENTS / "unet.yaml"), "--image_size", "64", "96"]) == 0
    out = capsys.readouterr().out
    found = rows(out)
    assert found["encoder.3"] == ["DoubleConv", "128", "8", "8x12", "stride8"]
    assert found["encoder.4"] == ["DoubleConv", "192", "16", "4x6", "bottleneck"]
    assert found["head"] == ["Conv2d", "1", "1", "64x96"]
    assert "encoder.3.conv1" not in found
    assert "one output 1x1x64x96" in out


def test_the_command_of_the_page_on_students_shows_the_modules_that_it_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "students.md").read_text()
    (line,) = re.findall(r"^python -m monai_difom (taps .*)$", page, re.MULTILINE)
    monkeypatch.chdir(ROOT)
    assert main(line.split()) == 0
    assert {"down_4", "down_3"} <= set(rows(capsys.readouterr().out))


def test_depth_shows_more_and_several_maps_have_a_row_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["taps", str(STUDENTS / "flexible_unet.yaml"), "--depth", "1"]) == 0
    found = rows(capsys.readouterr().out)
    assert found["encoder[2]"] == ["EfficientNetEncoder", "40", "8", "8x8", "stride8"]
    assert main(["taps", str(STUDENTS / "unet.yaml"), "--depth", "0"]) == 0
    assert "encoder.3.conv1" in rows(capsys.readouterr().out)


def test_an_overlay_that_needs_the_image_size_is_shown_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["taps", str(STUDENTS / "vit_monai.yaml"), "--image_size", "96"]) == 0
    assert rows(capsys.readouterr().out)["layers.5"] == [
        "Identity",
        "192",
        "16",
        "6x6",
        "layer6,",
        "bottleneck",
    ]


def test_volumes_are_known_by_their_convolutions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (STUDENTS / "unet.yaml").read_text().replace("spatial_dims: 2", "spatial_dims: 3")
    (tmp_path / "volume.yaml").write_text(text.replace("16, 32, 64, 128, 192", "2, 3, 4"))
    assert main(["taps", str(tmp_path / "volume.yaml")]) == 0
    assert rows(capsys.readouterr().out)["encoder.2"] == ["DoubleConv", "4", "4", "16x16x16", "bottleneck"]


def test_a_wrong_tap_is_named_and_the_inner_network_can_be_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "student.yaml"
    file.write_text((STUDENTS / "basic_unet.yaml").read_text().replace("down_4", "down_44"))
    assert main(["taps", str(file)]) == 2
    message = capsys.readouterr().err
    assert "unknown module of BasicUNet 'down_44'. Did you mean 'down_4'?" in message
    assert "--network network_def::network" in message
    assert main(["taps", str(file), "--network", "network_def::network"]) == 0
    assert "down_4" in rows(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.yaml"], "no configuration at nowhere.yaml"),
        ([str(STUDENTS / "unet.yaml"), "--network", "net"], "has no 'net'; it has"),
        ([str(STUDENTS / "unet.yaml"), "--image_size", "8", "8", "8"], "the network takes 2 axes"),
        ([str(STUDENTS / "unet.yaml"), "--image_size", "40"], "Nearest: 32x32 or 48x48"),
    ],
)
def test_what_cannot_be_shown_says_why(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["taps", *words]) == 2
    assert message in capsys.readouterr().err
