"""Tensor and file helpers that know nothing of networks, teachers or training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazy_names

if TYPE_CHECKING:
    from .bands import check_bands, radial_low_pass, split_bands
    from .files import (
        atomic_path,
        file_digest,
        load_state,
        locked,
        refuse_other_content,
        replaced_folder,
        save_state,
        save_tensors,
        with_folder,
        write_json,
    )
    from .imagenet import IMAGENET_MEAN, IMAGENET_STD
    from .names import few, listed, look_up, unknown_name
    from .ranks import (
        all_ranks_here,
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
    from .readings import Readings, read_later
    from .resampling import resample
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "bands": "check_bands radial_low_pass split_bands",
            "files": (
                "atomic_path file_digest load_state locked refuse_other_content replaced_folder save_state "
                "save_tensors with_folder write_json"
            ),
            "imagenet": "IMAGENET_MEAN IMAGENET_STD",
            "names": "few listed look_up unknown_name",
            "ranks": (
                "all_ranks_here average_in_place copy_from_main is_main_rank main_rank_only mean_over_ranks "
                "of_all_ranks own_device own_rank own_share share_of start_ranks stop_ranks world_size"
            ),
            "readings": "Readings read_later",
            "resampling": "resample",
        },
    )
