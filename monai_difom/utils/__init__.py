"""Tensor and file helpers that know nothing of networks, teachers or training."""

from .bands import band_energy, check_bands, radial_low_pass, split_bands
from .files import atomic_path, file_digest, load_state, locked, save_state, save_tensors, write_json
from .names import look_up, unknown_name
from .ranks import mean_over_ranks
from .resample import resample

__all__ = [
    "atomic_path",
    "band_energy",
    "check_bands",
    "file_digest",
    "load_state",
    "locked",
    "look_up",
    "mean_over_ranks",
    "radial_low_pass",
    "resample",
    "save_state",
    "save_tensors",
    "split_bands",
    "unknown_name",
    "write_json",
]
