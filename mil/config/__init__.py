"""The configuration, checked as a whole before anything runs.

Each section, encoder, recipe and dataset is a frozen model.
"""

from mil.config.base import NAME, Section, checked, config_path, read_yaml
from mil.config.cohort import Cohort
from mil.config.datasets import DatasetConfig, dataset_path
from mil.config.encoder_names import by_alias, unknown_encoder
from mil.config.encoders import (
    DEFAULT_ENCODER,
    EncoderConfig,
    load_encoder,
    load_encoders,
    tiling_name,
)
from mil.config.recipes import (
    LOSS_TERMS,
    LossWeight,
    Recipe,
    TrainConfig,
    check_head,
    head_names,
    load_recipe,
    recipe_path,
)
from mil.config.run import (
    Config,
    FeaturesConfig,
    Fusion,
    HeatmapConfig,
    SplitConfig,
    TileConfig,
    load_config,
)

__all__ = [
    "DEFAULT_ENCODER",
    "LOSS_TERMS",
    "NAME",
    "Cohort",
    "Config",
    "DatasetConfig",
    "EncoderConfig",
    "FeaturesConfig",
    "Fusion",
    "HeatmapConfig",
    "LossWeight",
    "Recipe",
    "Section",
    "SplitConfig",
    "TileConfig",
    "TrainConfig",
    "by_alias",
    "check_head",
    "checked",
    "config_path",
    "dataset_path",
    "head_names",
    "load_config",
    "load_encoder",
    "load_encoders",
    "load_recipe",
    "read_yaml",
    "recipe_path",
    "tiling_name",
    "unknown_encoder",
]
