"""What a checkpoint states of its training, checked: recipe, seed and epoch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mil.config import LossWeight, Recipe, TrainConfig, checked
from mil.heads import head_module
from mil.interop.checkpoints import ExternalCheckpoint
from mil.interop.layouts import MASKING_SETTINGS, PAPERS, TRAINING_SETTINGS, PublishedHead
from mil.interop.state_dicts import HeadFacts

# Numbers beyond these in a file are damage, or mischief.
MAX_SETTING = 1e9
MAX_SEED = 2**31
MAX_EPOCH = 10**6


def recipe_of(
    published: PublishedHead,
    tool: str,
    facts: HeadFacts,
    settings: Mapping[str, object],
    file: Path,
) -> Recipe:
    """Recipe from the shapes of the tensors and, as far as the file has them, the settings.

    Args:
        published: class of the published code.
        tool: code that trained the head.
        facts: facts that the shapes of its tensors state.
        settings: settings of the checkpoint, not checked.
        file: the checkpoint, which the recipe names as its source.
    """
    # Shapes cannot be wrong, settings can: only valid ones are taken.
    head_config = head_module(published.head).Config
    losses = dict(published.losses)
    if tool == "aem":
        # AEM's own term, an entropy whose weight its code calls lamda.
        entropy = _valid_settings(LossWeight, settings, {"start": "lamda"}).get("start", 0)
        if entropy:
            losses["attention_entropy"] = entropy
    recipe = {
        "name": published.head,
        "options": {**facts.options, **_valid_settings(head_config, settings, MASKING_SETTINGS)},
        "losses": losses,
        # The published codes train on one bag a step and keep the best of these metrics.
        "train": {
            "batch_bags": 1,
            "select": "f1_auc",
            **_valid_settings(TrainConfig, settings, TRAINING_SETTINGS),
        },
        "source": f"imported from {file.name}: {published.name} of {tool}, {PAPERS[tool]}",
    }
    return checked(Recipe, recipe, str(file))


def _valid_settings(
    model: type[BaseModel], settings: Mapping[str, object], names: Mapping[str, str]
) -> dict[str, int | float]:
    """Numbers of untrusted settings that a model accepts, under the model's names.

    Args:
        model: model that has the fields.
        settings: settings of the checkpoint, not checked.
        names: name in the settings, by field of the model.
    """
    valid: dict[str, int | float] = {}
    for option, setting in names.items():
        value: Any = settings.get(setting)
        # Not isinstance: True is an int too. NaN fails both comparisons.
        is_number = type(value) in (int, float) and -MAX_SETTING < value < MAX_SETTING
        if option in model.model_fields and is_number:
            try:
                model.model_validate({option: value})
            except ValidationError:
                # Of the training only: the head predicts the same without it.
                continue
            valid[option] = value
    return valid


def seed_of(checkpoint: ExternalCheckpoint) -> int:
    """Random seed of the training; 1 where the file lacks it."""
    seed = checkpoint.settings.get("seed")
    return seed if type(seed) is int and 0 <= seed < MAX_SEED else 1


def epoch_of(checkpoint: ExternalCheckpoint) -> int:
    """Number of the epoch from 1, as heads here count; 0 where the file lacks it."""
    epoch = checkpoint.epoch
    return epoch + 1 if epoch is not None and 0 <= epoch < MAX_EPOCH else 0
