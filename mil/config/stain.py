"""Stain normalisation: its name where there is none, and the package that it needs."""

from importlib.util import find_spec
from typing import Final

# What the setting is called where there is no normalisation; a bag states nothing then.
NO_STAIN_NORM: Final = "none"
NEEDS_TORCHSTAIN = (
    "stain_norm: macenko needs the package torchstain, which is not installed; pip install "
    "'mil[stain]'"
)


def missing_stain_package(stain_norm: str) -> str:
    """What to install for a method of stain normalisation; empty: nothing.

    Args:
        stain_norm: Method, or `none`.
    """
    is_needed = stain_norm != NO_STAIN_NORM
    # Looked for, not imported: it takes a while to load.
    return NEEDS_TORCHSTAIN if is_needed and find_spec("torchstain") is None else ""
