"""Bags on disk: one HDF5 file a slide, folders of them, slides of a patient as one bag."""

from mil.io.bags.checks import common_identity
from mil.io.bags.content import Bag, BagHeader, BagPositions, bag_of
from mil.io.bags.file import (
    BagTally,
    read_bag,
    read_header,
    read_identity,
    read_positions,
    read_share,
    read_tally,
    write_bag,
)

__all__ = [
    "Bag",
    "BagHeader",
    "BagPositions",
    "BagTally",
    "bag_of",
    "common_identity",
    "read_bag",
    "read_header",
    "read_identity",
    "read_positions",
    "read_share",
    "read_tally",
    "write_bag",
]
