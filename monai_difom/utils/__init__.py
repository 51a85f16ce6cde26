"""Tensor and file helpers that know nothing of networks, teachers or training."""

from .bands import band_energy, check_bands, radial_low_pass, split_bands
from .files import atomic_path, file_digest, load_state, locked, save_state, save_tensors, write_json
from .names import few, look_up, unknown_name
from .ranks import (
    average_in_place,
    copy_from_main,
    is_main_rank,
    main_rank_only,
    mean_over_ranks,
    of_all_ranks,
    own_device,
    own_rank,
    own_share,
    share_of,
    start_ranks,
    stop_ranks,
    world_size,
)
from .resample import resample

__all__ = [
    "atomic_path",
    "average_in_place",
    "band_energy",
    "check_bands",
    "copy_from_main",
    "few",
    "file_digest",
    "is_main_rank",
    "load_state",
    "locked",
    "look_up",
    "main_rank_only",
    "mean_over_ranks",
    "of_all_ranks",
    "own_device",
    "own_rank",
    "own_share",
    "radial_low_pass",
    "resample",
    "save_state",
    "save_tensors",
    "share_of",
    "split_bands",
    "start_ranks",
    "stop_ranks",
    "unknown_name",
    "world_size",
    "write_json",
]
