"""The record of a trained head, `recipe.json`, which is read without torch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mil.config import Cohort, Fusion, Recipe, Section, checked
from mil.errors import DatasetError, FormatError, brief
from mil.io.disk import raise_of_machine
from mil.statistics.scaling import Calibration
from mil.statistics.threshold import mean_threshold
from mil.tasks import AnyTask

FORMAT = "mil.head"
VERSION = 2
# The version in which `classes` and `positive` stood where `task` does now.
CLASSES_ONLY = 1

RECORD = "recipe.json"
FILES = {"kept": "head.safetensors", "last": "last.safetensors"}
Which = Literal["kept", "last"]
# Largest number of members, far more than any recipe trains.
MAX_MEMBERS = 1000
# Settings that `train: auto` plans.
PLANNED_SECTIONS = ("train.", "options.")


class MemberRecord(Section):
    """One training of a head that has several: a restart, or one of an inner fold."""

    # Random seed of its initialisation, dropout and masking.
    seed: int
    # Inner fold that it was validated on, and its number among the restarts, from 0.
    part: int = Field(ge=0)
    restart: int = Field(ge=0)
    # Epoch whose weights were kept, from 1, and its validation loss, nats.
    epoch: int
    validation_loss: float | None = None


class InitialRecord(Section):
    """Head from whose weights a training started: `train.init`."""

    recipe_name: str
    dataset: str
    # Of its `head.safetensors`, hex.
    sha256: str
    # Parameters that started from random numbers: those of a classifier for other classes.
    new: list[str] = Field([], max_length=MAX_MEMBERS)
    # Whether all but the classifier stayed as it was.
    frozen: bool = False

    def described(self) -> str:
        """The head, what was new, and what was trained, in a few words."""
        new = "with a classifier of its own" if self.new else "with its classifier"
        trained = "the classifier alone trained" if self.frozen else "all weights trained on"
        of_dataset = f" of dataset {self.dataset}" if self.dataset else ""
        head = f"{self.recipe_name}{of_dataset} (SHA-256 {self.sha256[:12]})"
        return f"{head}, {new}, {trained}"


class Trained(Section):
    """Content of `recipe.json`: everything needed to rebuild a head and to run it."""

    recipe_name: str
    recipe: Recipe
    encoder: str
    weights_sha256: str
    tiling: str
    # Of the tiles before the encoder; empty: none.
    stain_norm: str = ""
    dim: int = Field(gt=0)
    task: AnyTask
    dataset: str
    seed: int
    fold: int
    # Epoch whose weights were kept, from 1; of several members, that of the first.
    epoch: int
    # Trainings whose average the head is; empty: one training on the fold's own split.
    members: list[MemberRecord] = Field([], max_length=MAX_MEMBERS)
    # Facts from which `train: auto` planned the recipe; None: it was written as it is.
    planned_from: Cohort | None = None
    # Head whose weights the training started from; None: random weights.
    started_from: InitialRecord | None = None
    # early: trained on bags of patients, all slides of each.
    fusion: Fusion = "late"
    # Of the kept epoch.
    calibration: Calibration | None = None
    # Digest of the slides of training and validation (`mil.io.bags.patients`); None: not
    # known.
    seen: str | None = None

    @model_validator(mode="after")
    def _has_intercepts_of_its_outputs(self) -> Self:
        intercepts = [] if self.calibration is None else self.calibration.intercepts
        if intercepts and len(intercepts) != self.task.outputs:
            raise ValueError(
                f"calibration.intercepts: must be as many as the head has outputs "
                f"({self.task.outputs}), not {len(intercepts)}"
            )
        return self

    @property
    def is_assembled(self) -> bool:
        """Whether the weights are those of `mil.trained.assembled`, not of one plain head."""
        return len(self.members) > 1 or self.recipe.train.scales_features

    @property
    def num_members(self) -> int:
        """Number of trainings whose average the head is."""
        return max(len(self.members), 1)

    @property
    def classes(self) -> list[str]:
        """Names of the classes in order; none where the label is a number."""
        return list(self.task.classes)

    @property
    def positive(self) -> str:
        """The class of interest; empty where there are no classes."""
        return self.task.positive


def threshold_of(records: Sequence[Trained]) -> float | None:
    """Threshold of the mean prediction of heads of one recipe.

    None for a task without a threshold; see `mil.statistics.threshold.mean_threshold`.
    """
    if not records[0].task.has_threshold:
        return None
    calibrations = [record.calibration for record in records]
    return mean_threshold([None if one is None else one.threshold for one in calibrations])


def read_record(folder: Path) -> Trained:
    """Read the record of a head's folder.

    Raises:
        FormatError: the folder is not that of a trained head, or of another version.
    """
    path = folder / RECORD
    try:
        return parse_record(path.read_text(encoding="utf-8"), path)
    # RecursionError: JSON that is nested deeper than Python reads. A FormatError is a
    # ValueError too, and has a message of its own.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        raise_of_machine(error, path)
        raise FormatError(
            f"{folder}: not the folder of a trained head: {error}; get it again from its source, "
            "or train the head again"
        ) from None


def parse_record(text: str, path: Path) -> Trained:
    """Read the text of a `recipe.json`, of this version or the one before.

    Args:
        text: Content of the file.
        path: File that holds the text, for the message of an error.

    Raises:
        FormatError: the text is of another format or version.
        ValueError: the text is not JSON, or a key has a wrong value.
        KeyError: a key is missing.
        TypeError, AttributeError: the text is not a mapping.
    """
    raw = json.loads(text)
    header = raw.pop("format"), raw.pop("format_version")
    # Only the model card shows it: whether a head can be read depends on the format's
    # version.
    raw.pop("tool_version")
    if header == (FORMAT, CLASSES_ONLY):
        raw["task"] = {
            "kind": "classification",
            "classes": raw.pop("classes"),
            "positive": raw.pop("positive"),
        }
    elif header != (FORMAT, VERSION):
        raise FormatError(
            f"{path}: expected {FORMAT} version {VERSION}, found {brief(header[0])} version "
            f"{brief(header[1])}"
        )
    return checked(Trained, raw, str(path))


def read_records(texts: Sequence[str], path: Path) -> list[Trained]:
    """Read the records of heads of one recipe, as a score file holds them.

    Args:
        texts: Texts of their `recipe.json`.
        path: File or folder that holds the texts, for the message of an error.

    Raises:
        FormatError: one is not the record of a trained head.
        DatasetError: see `check_one_recipe`.
    """
    records = []
    for text in texts:
        try:
            records.append(parse_record(text, path))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(
                f"{path}: holds a record that is not of a trained head: {error}; delete it and run "
                "`mil score` again"
            ) from None
    check_one_recipe([path] * len(records), records)
    return records


def find_heads(folder: Path) -> list[Path]:
    """Find the folder of a head, or the folders of all heads below it.

    Raises:
        FormatError: there is none.
    """
    # By the weights, which are written last: a folder without them is unfinished.
    folders = sorted(path.parent for path in folder.rglob(FILES["kept"]))
    if not folders:
        reason = "has no trained head in it" if folder.is_dir() else "no such folder"
        if folder.is_file():
            reason = "a file, not a folder"
        raise FormatError(
            f"{folder}: {reason}; give a folder with recipe.json and head.safetensors, such as "
            "results/DATASET/train/TILING/ENCODER/HEAD/SEED, or one that holds several"
        )
    return folders


def check_one_recipe(folders: Sequence[Path], records: Sequence[Trained]) -> None:
    """Refuse heads whose predictions may not be averaged.

    Args:
        folders: Folder of each head.
        records: Record of each head, in the same order.

    Raises:
        DatasetError: there is no head, or they are of several recipes, or of one recipe
            that was changed in between.
    """
    if not records:
        raise DatasetError("no head given; name at least one folder of a trained head")
    first = records[0]
    # A mean over several recipes would bear the name of the first.
    for folder, trained in zip(folders, records, strict=True):
        if _predicted(trained) != _predicted(first):
            raise DatasetError(
                f"{folder} is of {_described(trained)}, {folders[0]} of {_described(first)}; give "
                "heads of one recipe and task"
            )
        settings = _differing(trained.recipe, first.recipe)
        if _planned_apart(trained, first):
            settings = [name for name in settings if not name.startswith(PLANNED_SECTIONS)]
        if settings:
            raise DatasetError(
                f"{folder} and {folders[0]} are both of recipe {first.recipe_name}, but with "
                f"other settings ({', '.join(settings)}); train the older one again, or take it "
                "out"
            )


def _predicted(trained: Trained) -> tuple[str, str, list[str]]:
    return trained.recipe_name, trained.task.kind, list(trained.task.columns)


def _planned_apart(one: Trained, other: Trained) -> bool:
    """Whether the recipes of both were planned, from other facts, as of two folds."""
    facts = (one.planned_from, other.planned_from)
    return None not in facts and facts[0] != facts[1]


def _differing(one: Recipe, other: Recipe) -> list[str]:
    """Settings in which two recipes differ, as ``section.name``."""
    left, right = (_flat(recipe.model_dump()) for recipe in (one, other))
    return sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))


def _flat(sections: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, values in sections.items():
        if isinstance(values, dict):
            flat |= {f"{name}.{key}": value for key, value in values.items()}
        else:
            flat[name] = values
    return flat


def _described(trained: Trained) -> str:
    names = ", ".join(trained.classes or trained.task.columns)
    return f"recipe {trained.recipe_name} with {trained.task.kind} of {names}"
