"""Heads trained with the published codes of ACMIL, AEM and CLAM in, folders of trained heads out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
from mil.interop.checkpoints import Checkpoint, read_checkpoint
from mil.interop.detect import bag_files
from mil.interop.layouts import MASKING, PAPERS, TRAINING, Layout
from mil.interop.state_dicts import Sizes, Tensors, layout_of, sizes_of, tidy, to_ours
from mil.io.bags import common_identity, read_bag, read_header
from mil.tasks import Classification, load_dataset
from mil.trained import Trained, save_trained
from mil.trained.seal import seal

OTHER_SOFTMAX = "CLAM_MB in ACMIL's code adds 1 to what its softmax divides by: its probabilities differ from ours"


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What a checkpoint cannot say: its classes, the bags it is for, and what it is called here."""

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
class Brought:
    """What an import made, and what there is to know about it."""

    layout: Layout
    trained: Trained
    notes: list[str] = field(default_factory=list)


def run(file: Path, out: Path, *, tool: str, stated: Stated, force: bool = False) -> Brought:
    """Make a trained head's folder of a checkpoint.

    Args:
        file: a state dict saved by torch, alone or in a dict beside `epoch` and
            `config`.
        out: the head's folder.
        tool: whose code trained it: acmil, aem, clam.
        stated: what the file cannot say.
        force: write into a folder that is not empty.

    Raises:
        FormatError: the file is no head of that code, or does not go with the bags.
        ConfigError: something has to be stated, or does not go with the file.
    """
    if out.is_dir() and any(out.iterdir()) and not force:
        raise FormatError(
            f"{out}: is not empty; choose another --out, or write into it with --force"
        )
    given = read_checkpoint(file)
    theirs = tidy(given.tensors)
    layout = layout_of(theirs, tool, file)
    sizes = sizes_of(layout, theirs, file)
    task = _task(stated, sizes.classes, file)
    identity = _identity(stated, sizes.dim, file)
    weights = to_ours(layout, sizes, theirs, file)
    trained = Trained(
        recipe_name=_name(stated.name or layout.head),
        recipe=_recipe(layout, tool, sizes, given.config, file),
        dim=sizes.dim,
        task=task,
        **identity,
        **_when(stated, given),
    )
    save_trained(out, trained, weights, {"train": [], "valid": [], "best_epoch": trained.epoch})
    seal(out)
    return Brought(layout, trained, _notes(layout, tool, theirs, trained.recipe))


def _name(name: str) -> str:
    if not re.fullmatch(NAME, name):
        raise ConfigError(f"--name {name!r}: letters, digits, dots, dashes and underscores only")
    return name


def _task(stated: Stated, count: int, file: Path) -> Classification:
    """The head's classes and which is of interest."""
    if bool(stated.classes) == bool(stated.dataset):
        raise ConfigError(
            f"{file}: {count} classes without names; give --classes A,B in their order, or a "
            "--dataset"
        )
    what = load_dataset(stated.dataset) if stated.dataset else None
    if what is not None and what.task != "classification":
        raise ConfigError(
            f"{file}: is of classes, but the task of dataset {stated.dataset} is {what.task}"
        )
    classes = list(what.classes if what else stated.classes)
    positive = stated.positive or (what.positive_class if what else classes[-1])
    if len(classes) != count:
        raise ConfigError(
            f"{file}: has {count} classes, but {len(classes)} are named: {', '.join(classes)}"
        )
    if len(set(classes)) < count or not all(name and name.isprintable() for name in classes):
        raise ConfigError(f"--classes {','.join(classes)!r}: each needs a name of its own")
    if positive not in classes:
        raise ConfigError(f"--positive {positive!r} is not among the classes {', '.join(classes)}")
    return Classification(classes=classes, positive=positive)


def _identity(stated: Stated, dim: int, file: Path) -> dict[str, Any]:
    """What `mil.trained.compatibility.check_fits` will ask of bags."""
    if stated.bags is None:
        if not stated.encoder:
            raise ConfigError(
                f"{file}: does not say what made its features; give --bags FOLDER, or --encoder "
                "NAME"
            )
        tiling = tiling_name(stated.tile_px, stated.target_mpp)
        return {
            "encoder": stated.encoder,
            "weights_sha256": stated.weights_sha256,
            "tiling": tiling,
        }
    usable = [path for path in bag_files(stated.bags) if read_header(path).state == "ok"]
    if not usable:
        raise FormatError(f"{stated.bags}: none of its bags has features")
    identity = common_identity(usable)
    if stated.encoder not in ("", identity["encoder"]):
        raise ConfigError(
            f"{stated.bags}: encoder {identity['encoder']}, not {stated.encoder}; leave out "
            "--encoder"
        )
    if (found := read_bag(usable[0]).features.shape[1]) != dim:
        raise FormatError(
            f"{file}: takes {dim} features a tile, but {usable[0]} has {found}; it is for other "
            "bags"
        )
    return {**identity}


def _when(stated: Stated, given: Checkpoint) -> dict[str, Any]:
    """Dataset, seed, fold and epoch of the head; seed 1 and epoch 0 where nobody says."""
    said = given.config.get("seed")
    seed = said if type(said) is int and 0 <= said < 2**31 else 1
    return {
        "dataset": dataset_path(stated.dataset).stem if stated.dataset else "",
        "seed": seed if stated.seed is None else stated.seed,
        "fold": stated.fold,
        "epoch": given.epoch + 1 if given.epoch is not None and 0 <= given.epoch < 10**6 else 0,
    }


def _recipe(
    layout: Layout, tool: str, sizes: Sizes, config: Mapping[str, Any], file: Path
) -> Recipe:
    """Options from shapes and settings, and how it was trained as far as the file says."""
    entropy = _valid(LossWeight, config, {"start": "lamda"}).get("start", 0) if tool == "aem" else 0
    raw = {
        "name": layout.head,
        "options": {**sizes.options, **_valid(head_module(layout.head).Config, config, MASKING)},
        "losses": {**layout.losses, **({"attention_entropy": entropy} if entropy else {})},
        "train": {"batch_bags": 1, "select": "f1_auc", **_valid(TrainConfig, config, TRAINING)},
        "source": f"imported from {file.name}: {layout.name} of {tool}, {PAPERS[tool]}",
    }
    return checked(Recipe, raw, str(file))


def _valid(
    model: type[BaseModel], config: Mapping[str, Any], names: Mapping[str, str]
) -> dict[str, Any]:
    """Numbers of a stranger's settings that ours may be, under our names."""
    found: dict[str, Any] = {}
    for ours, theirs in names.items():
        value: Any = config.get(theirs)
        if ours in model.model_fields and type(value) in (int, float) and -1e9 < value < 1e9:
            try:
                model.model_validate({ours: value})
            except ValidationError:
                continue
            found[ours] = value
    return found


def _notes(layout: Layout, tool: str, theirs: Tensors, recipe: Recipe) -> list[str]:
    kinds = sorted(
        {str(tensor.dtype).removeprefix("torch.") for tensor in theirs.values()} - {"float32"}
    )
    notes = [f"kept as float32, was {' and '.join(kinds)}"] if kinds else []
    options = head_module(layout.head).Config.model_fields
    lacking = [name for name in MASKING if name in options and name not in recipe.options]
    if lacking:
        notes.append(
            f"the file does not say, so the default, for training only: {', '.join(lacking)}"
        )
    return [*notes, OTHER_SOFTMAX] if (layout.name, tool) == ("CLAM_MB", "acmil") else notes
