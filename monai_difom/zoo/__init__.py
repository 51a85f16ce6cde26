"""The zoo: teachers known by name. Nothing here imports torch, so that the table is there at once."""

from .entries import ZOO, ZooEntry
from .known_weights import KnownWeights, known_contract, known_weights
from .lookup import find_entry, hub_cache, locate
from .table import list_teachers

__all__ = [
    "ZOO",
    "KnownWeights",
    "ZooEntry",
    "find_entry",
    "hub_cache",
    "known_contract",
    "known_weights",
    "list_teachers",
    "locate",
]
