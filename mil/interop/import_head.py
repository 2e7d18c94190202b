"""Import of checkpoints of ACMIL's, AEM's, CLAM's and MIL-Lab's code as trained heads."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from mil.config import (
    NAME,
    LossWeight,
    Recipe,
    TrainConfig,
    checked,
    dataset_path,
    tiling_name,
)
from mil.errors import ConfigError, FormatError
from mil.heads import head_module
from mil.interop.checkpoints import ExternalCheckpoint, read_checkpoint
from mil.interop.convert import entry_name, known_encoders
from mil.interop.detect import bag_files
from mil.interop.layouts import MASKING_SETTINGS, PAPERS, TRAINING_SETTINGS, PublishedHead
from mil.interop.state_dicts import (
    HeadFacts,
    Tensors,
    from_published,
    head_facts,
    normalised_names,
    published_head_of,
    with_classifier,
)
from mil.io.bags import common_identity, read_bag, read_header
from mil.tasks import Classification, load_dataset
from mil.trained import Trained, save_trained
from mil.trained.seal import write_manifest

OTHER_SOFTMAX = (
    "CLAM_MB in ACMIL's code adds 1 to the sum that its softmax divides by: its probabilities "
    "differ from those here"
)
# Names of the outputs of weights that are published without a classifier.
NO_CLASSES = ("none_1", "none_2")
# Numbers beyond these in a file are damage, or mischief.
MAX_SETTING = 1e9
MAX_SEED = 2**31
MAX_EPOCH = 10**6


@dataclass(frozen=True, kw_only=True)
class HeadImportOptions:
    """Facts that a checkpoint lacks: options of `mil heads import`.

    Attributes:
        classes: names of the classes in the order of the head's outputs.
        positive: class of interest; empty: the last, or the dataset's.
        dataset: dataset to take the classes from: a name, or a yaml file.
        bags: folder of bags that the head is for.
        encoder: encoder of the features, where there are no bags yet.
        weights_sha256: SHA-256 of the encoder's weights.
        tile_px: side of a tile as the encoder saw it, pixels.
        target_mpp: requested pixel size of a tile, µm.
        name: name of the recipe in predictions; empty: the head's.
        seed: random seed of the training; None: the checkpoint's, else 1.
        fold: number of the fold that the head was trained on.
    """

    classes: Sequence[str] = ()
    positive: str = ""
    dataset: str = ""
    bags: Path | None = None
    encoder: str = ""
    weights_sha256: str = ""
    tile_px: int | None = None
    target_mpp: float | None = None
    name: str = ""
    seed: int | None = None
    fold: int = 0


@dataclass(frozen=True)
class HeadImportResult:
    """Head that was imported, the published class it was of, and notes for the user."""

    published: PublishedHead
    trained: Trained
    notes: list[str] = field(default_factory=list)


class _BagIdentity(NamedTuple):
    """Identity that bags must have for the head; compare `BagHeader.identity`."""

    encoder: str
    weights_sha256: str
    tiling: str
    stain_norm: str = ""


def run(
    file: Path, out: Path, *, tool: str, options: HeadImportOptions, force: bool = False
) -> HeadImportResult:
    """Write the folder of a trained head from a checkpoint of another code.

    Args:
        file: a state dict saved by torch, alone or in a dict beside `epoch` and
            `config`.
        out: folder for the head.
        tool: code that trained the head: acmil, aem, clam or feather.
        options: facts that the file lacks.
        force: write into a folder that is not empty.

    Raises:
        FormatError: the file holds no head of that code, or does not fit the bags.
        ConfigError: an option is missing, or contradicts the file.
    """
    if out.is_dir() and any(out.iterdir()) and not force:
        raise FormatError(
            f"{out}: is not empty; choose another --out, or write into it with --force"
        )
    checkpoint = read_checkpoint(file)
    tensors = normalised_names(checkpoint.tensors)
    published = published_head_of(tensors, tool, file)
    in_file = tensors
    tensors = with_classifier(published, tensors)
    is_start = len(tensors) > len(in_file)
    facts = head_facts(published, tensors, file)
    if is_start and not (options.classes or options.dataset):
        options = replace(options, classes=NO_CLASSES)
    task = _task(options, facts.classes, file)
    # Without it a head could be applied to features of another encoder.
    identity = _bag_identity(options, facts.dim, file)
    weights = from_published(published, facts, tensors, file)
    trained = Trained(
        recipe_name=_checked_name(options.name or published.head),
        recipe=_recipe(published, tool, facts, checkpoint.settings, file),
        encoder=identity.encoder,
        weights_sha256=identity.weights_sha256,
        tiling=identity.tiling,
        stain_norm=identity.stain_norm,
        dim=facts.dim,
        task=task,
        dataset=dataset_path(options.dataset).stem if options.dataset else "",
        seed=_seed(options, checkpoint),
        fold=options.fold,
        epoch=_epoch(checkpoint),
    )
    # A checkpoint has no course of training, but the file belongs to every head.
    history = {"train": [], "valid": [], "best_epoch": trained.epoch}
    save_trained(out, trained, weights, history)
    write_manifest(out)
    notes = _notes(published, tool, tensors, trained.recipe)
    if is_start:
        notes.append(
            "without a classifier, which is zeros here: a start for training (train.init), whose "
            "own predictions mean nothing"
        )
    return HeadImportResult(published, trained, notes)


def _checked_name(name: str) -> str:
    # The name becomes part of paths and tables.
    if not re.fullmatch(NAME, name):
        raise ConfigError(
            f"--name {name!r}: use letters, digits, dots, dashes and underscores only"
        )
    return name


def _task(options: HeadImportOptions, outputs: int, file: Path) -> Classification:
    """Names of the classes, and the class of interest.

    Args:
        options: options of the command.
        outputs: number of classes of the head.
        file: the checkpoint, for messages.
    """
    if bool(options.classes) == bool(options.dataset):
        raise ConfigError(
            f"{file}: {outputs} classes without names; give --classes A,B in their order, or a "
            "--dataset"
        )
    classes = list(options.classes)
    positive = options.positive
    if options.dataset:
        dataset = load_dataset(options.dataset)
        if dataset.task != "classification":
            raise ConfigError(
                f"{file}: its outputs are classes, but the task of dataset {options.dataset} is "
                f"{dataset.task}"
            )
        classes = list(dataset.classes)
        positive = positive or dataset.positive_class
    # The convention of datasets here: the class of interest is the last.
    positive = positive or classes[-1]
    if len(classes) != outputs:
        raise ConfigError(
            f"{file}: has {outputs} classes, but {len(classes)} are named: {', '.join(classes)}"
        )
    distinct = len(set(classes)) == outputs
    if not distinct or not all(name and name.isprintable() for name in classes):
        raise ConfigError(f"--classes {','.join(classes)!r}: each class needs a name of its own")
    if positive not in classes:
        raise ConfigError(f"--positive {positive!r} is not among the classes {', '.join(classes)}")
    return Classification(classes=classes, positive=positive)


def _bag_identity(options: HeadImportOptions, dim: int, file: Path) -> _BagIdentity:
    """Identity of the bags that the head is for, from bags or from the options.

    Args:
        options: options of the command.
        dim: number of features per tile that the head takes.
        file: the checkpoint, for messages.
    """
    encoder = entry_name(options.encoder, known_encoders())
    if options.bags is None:
        if not options.encoder:
            raise ConfigError(
                f"{file}: does not name the encoder of its features; give --bags FOLDER, or "
                "--encoder NAME"
            )
        tiling = tiling_name(options.tile_px, options.target_mpp)
        return _BagIdentity(encoder, options.weights_sha256, tiling)
    usable = [path for path in bag_files(options.bags) if read_header(path).state == "ok"]
    if not usable:
        raise FormatError(f"{options.bags}: none of its bags has features")
    # A head is of one encoder, one set of weights and one tiling.
    identity = _BagIdentity(**common_identity(usable))
    if identity.encoder not in (encoder, options.encoder) and options.encoder:
        raise ConfigError(
            f"{options.bags}: encoder {identity.encoder}, not {options.encoder}; leave out "
            "--encoder"
        )
    # All bags of a folder have one dimension, so the first stands for all.
    bag_dim = read_bag(usable[0]).features.shape[1]
    if bag_dim != dim:
        raise FormatError(
            f"{file}: takes {dim} features a tile, but {usable[0]} has {bag_dim}; the head is for "
            "other bags"
        )
    return identity


def _seed(options: HeadImportOptions, checkpoint: ExternalCheckpoint) -> int:
    if options.seed is not None:
        return options.seed
    seed = checkpoint.settings.get("seed")
    return seed if type(seed) is int and 0 <= seed < MAX_SEED else 1


def _epoch(checkpoint: ExternalCheckpoint) -> int:
    """Number of the epoch from 1, as heads here count; 0 where the file lacks it."""
    epoch = checkpoint.epoch
    return epoch + 1 if epoch is not None and 0 <= epoch < MAX_EPOCH else 0


def _recipe(
    published: PublishedHead,
    tool: str,
    facts: HeadFacts,
    settings: Mapping[str, object],
    file: Path,
) -> Recipe:
    """Recipe from the shapes of the tensors and, as far as the file has them, the settings."""
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


def _notes(published: PublishedHead, tool: str, tensors: Tensors, recipe: Recipe) -> list[str]:
    """Lines about what was changed, what was missing, and what differs."""
    notes = []
    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}
    converted = sorted(dtypes - {"float32"})
    if converted:
        notes.append(f"kept as float32, was {' and '.join(converted)}")
    options = head_module(published.head).Config.model_fields
    missing = [name for name in MASKING_SETTINGS if name in options and name not in recipe.options]
    if missing:
        notes.append(
            f"not in the file, so set to the default, which only training uses: "
            f"{', '.join(missing)}"
        )
    if (published.name, tool) == ("CLAM_MB", "acmil"):
        notes.append(OTHER_SOFTMAX)
    return notes
