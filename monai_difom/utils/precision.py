"""In which precision a processor is fast."""

from __future__ import annotations

import platform

import torch


def fast_bfloat16() -> bool:
    """Return whether this processor calculates in bfloat16 itself.

    One without its instructions (x86: AVX512-BF16 or AMX) has them emulated: a step of a small
    U-Net then takes 13 to 19 times as long as in float32 (``benchmarks/precision.py``).
    """
    if platform.machine().lower() in ("x86_64", "amd64"):
        return any(
            getattr(torch.cpu, name, bool)()
            for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
