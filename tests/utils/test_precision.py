"""Mixed precision is used, or warned about, by what the processor can do."""

from __future__ import annotations

import logging
import platform

import pytest
import torch

from monai_difom.engines import preflight
from monai_difom.utils.precision import fast_bfloat16


def test_an_x86_processor_without_its_instructions_has_no_fast_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    assert not fast_bfloat16()
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert fast_bfloat16()


@pytest.mark.parametrize(
    ("device", "fast", "warned"), [("cpu", False, True), ("cpu", True, False), ("cuda", False, False)]
)
def test_amp_is_warned_about_where_bfloat16_is_emulated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, device: str, fast: bool, warned: bool
) -> None:
    monkeypatch.setattr(preflight, "fast_bfloat16", lambda: fast)
    with caplog.at_level(logging.WARNING):
        preflight.check_mixed(torch.device(device))
    assert ("emulates it" in caplog.text) is warned
