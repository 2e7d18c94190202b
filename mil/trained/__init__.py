"""Trained heads: the folder of one, its checksums, its model card, and whether it fits a bag.

The record of a head is read without torch; what loads or applies heads is imported when
it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from mil.statistics.scaling import Calibration
from mil.trained.record import MemberRecord, Trained, find_heads

if TYPE_CHECKING:
    from mil.trained.folder import load_heads, load_trained, save_trained
    from mil.trained.forward import apply

# Importing torch takes two seconds, which every job of a study would wait for.
_NEED_TORCH = {
    "apply": "mil.trained.forward",
    "load_heads": "mil.trained.folder",
    "load_trained": "mil.trained.folder",
    "save_trained": "mil.trained.folder",
}


def __getattr__(name: str) -> object:
    if name not in _NEED_TORCH:
        raise AttributeError(f"module 'mil.trained' has no attribute {name!r}")
    return getattr(import_module(_NEED_TORCH[name]), name)


__all__ = [
    "Calibration",
    "MemberRecord",
    "Trained",
    "apply",
    "find_heads",
    "load_heads",
    "load_trained",
    "save_trained",
]
