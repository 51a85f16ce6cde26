"""What a data set holds and what is wrong with it, before anything is trained on it."""

from .same_images import shared_images
from .survey import check_pairs, check_structures, describe_data, survey

__all__ = ["check_pairs", "check_structures", "describe_data", "shared_images", "survey"]
