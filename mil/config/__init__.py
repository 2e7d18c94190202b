"""The configuration, checked as a whole before anything runs.

Each section, encoder, recipe and dataset is a frozen model.
"""

from mil.config.bag_sets import BagSetConfig, load_bag_set, load_bag_sets
from mil.config.base import NAME, Section, checked, config_path, name_fault
from mil.config.cohort import Cohort
from mil.config.datasets import DatasetConfig, dataset_argument, dataset_path
from mil.config.encoder_names import by_alias, unknown_encoder
from mil.config.encoders import (
    DEFAULT_ENCODER,
    EncoderConfig,
    encoder_name,
    load_encoder,
    load_encoders,
    tiling_name,
)
from mil.config.heads import check_head, head_names
from mil.config.losses import LOSS_TERMS, LossWeight
from mil.config.recipes import Recipe, load_recipe, recipe_errors, recipe_path
from mil.config.run import Config, Fusion, load_config
from mil.config.stages import (
    EvaluateConfig,
    FeaturesConfig,
    FetchConfig,
    HeatmapConfig,
    ScoreConfig,
    SlidesPerJob,
    SplitConfig,
    TileConfig,
)
from mil.config.training import TrainConfig
from mil.config.yaml_file import read_yaml

__all__ = [
    "DEFAULT_ENCODER",
    "LOSS_TERMS",
    "NAME",
    "BagSetConfig",
    "Cohort",
    "Config",
    "DatasetConfig",
    "EncoderConfig",
    "EvaluateConfig",
    "FeaturesConfig",
    "FetchConfig",
    "Fusion",
    "HeatmapConfig",
    "LossWeight",
    "Recipe",
    "ScoreConfig",
    "Section",
    "SlidesPerJob",
    "SplitConfig",
    "TileConfig",
    "TrainConfig",
    "by_alias",
    "check_head",
    "checked",
    "config_path",
    "dataset_argument",
    "dataset_path",
    "encoder_name",
    "head_names",
    "load_bag_set",
    "load_bag_sets",
    "load_config",
    "load_encoder",
    "load_encoders",
    "load_recipe",
    "name_fault",
    "read_yaml",
    "recipe_errors",
    "recipe_path",
    "tiling_name",
    "unknown_encoder",
]
