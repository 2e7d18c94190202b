"""Whole-slide images in, MIL heads with honest statistics and attention heatmaps out.

`import mil` gives what a notebook needs (see `PUBLIC`). Each name is imported when it is
first used, so that importing `mil` itself takes milliseconds and never imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mil.versions import TOOL_VERSION as __version__

if TYPE_CHECKING:
    from mil.api.heads import (
        SlideScore,
        TrainedHead,
        collate,
        extract_features,
        load_head,
        score_bag,
    )
    from mil.api.slides import open_slide, tile_slide
    from mil.bags import Bags, HeadOutput
    from mil.config import head_names, load_encoders, load_recipe
    from mil.errors import MilError
    from mil.heads import build_head
    from mil.io.bags import Bag, read_bag, write_bag
    from mil.io.results import Evaluation, read_evaluation
    from mil.io.scores import BagScores, read_scores
    from mil.io.slides import SlideReader
    from mil.io.tiles import Tiles, read_tiles

# Public names by the module that defines them. No name may also be a module or package of
# `mil`: importing `mil.score` would replace an attribute `score` of this package.
PUBLIC = {
    "Bag": "mil.io.bags",
    "BagScores": "mil.io.scores",
    "Bags": "mil.bags",
    "Evaluation": "mil.io.results",
    "HeadOutput": "mil.bags",
    "MilError": "mil.errors",
    "SlideReader": "mil.io.slides",
    "SlideScore": "mil.api.heads",
    "Tiles": "mil.io.tiles",
    "TrainedHead": "mil.api.heads",
    "build_head": "mil.heads",
    "collate": "mil.api.heads",
    "extract_features": "mil.api.heads",
    "head_names": "mil.config",
    "load_encoders": "mil.config",
    "load_head": "mil.api.heads",
    "load_recipe": "mil.config",
    "open_slide": "mil.api.slides",
    "read_bag": "mil.io.bags",
    "read_evaluation": "mil.io.results",
    "read_scores": "mil.io.scores",
    "read_tiles": "mil.io.tiles",
    "score_bag": "mil.api.heads",
    "tile_slide": "mil.api.slides",
    "write_bag": "mil.io.bags",
}


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module 'mil' has no attribute {name!r}")
    value = getattr(import_module(PUBLIC[name]), name)
    globals()[name] = value  # so that this function is asked once per name
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC})


__all__ = [
    "PUBLIC",
    "Bag",
    "BagScores",
    "Bags",
    "Evaluation",
    "HeadOutput",
    "MilError",
    "SlideReader",
    "SlideScore",
    "Tiles",
    "TrainedHead",
    "__version__",
    "build_head",
    "collate",
    "extract_features",
    "head_names",
    "load_encoders",
    "load_head",
    "load_recipe",
    "open_slide",
    "read_bag",
    "read_evaluation",
    "read_scores",
    "read_tiles",
    "score_bag",
    "tile_slide",
    "write_bag",
]
