"""A trained head is a folder, in which nothing is unpickled.

`head.safetensors` has the weights of the epoch that is kept, `last.safetensors` those
of the last one (but of a head that was imported); `recipe.json` and `history.json` say
what they are and how they came about.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mil.bags import Bags, HeadOutput, attention, join
from mil.config import Fusion, Recipe, Section, checked
from mil.errors import ConfigError, DatasetError, FormatError
from mil.heads import SelectsTiles, build_head, head_names
from mil.io.atomic import atomic_path, write_json
from mil.io.bags import Bag
from mil.losses.tasks import predictions
from mil.tasks import AnyTask
from mil.versions import TOOL_VERSION

FORMAT = "mil.head"
VERSION = 2
FILES = {"kept": "head.safetensors", "last": "last.safetensors"}
OF_WEIGHTS = (
    "seal.json",
    "MODEL_CARD.md",
)  # what is said of them afterwards (`mil.trained.seal`, `mil.trained.card`)
Which = Literal["kept", "last"]
CLASSES_ONLY = 1  # the version in which `classes` and `positive` stood where `task` does now


class Calibration(Section):
    """What the validation slides say of a head's answers."""

    temperature: float = Field(gt=0)  # logits are divided by it
    threshold: float | None = Field(
        None, ge=0, le=1
    )  # of two classes: from here on the positive one is called


class Trained(Section):
    """What `recipe.json` says: everything needed to rebuild a head and to run it."""

    recipe_name: str
    recipe: Recipe
    encoder: str
    weights_sha256: str
    tiling: str
    dim: int = Field(gt=0)
    task: AnyTask
    dataset: str
    seed: int
    fold: int
    epoch: int  # the one that was kept, from 1
    fusion: Fusion = "late"  # early: trained on bags of patients, all slides of each
    calibration: Calibration | None = None  # of that epoch
    seen: str | None = (
        # digest of the slides of training and validation (`mil.io.bags.patients`);
        # None: not known
        None
    )

    @property
    def classes(self) -> list[str]:
        """Names of the classes in order; none where the label is a number."""
        return list(self.task.classes)

    @property
    def positive(self) -> str:
        """The class of interest; empty where there are no classes."""
        return self.task.positive

    def answers(self, logits: Float[Tensor, "n outputs"]) -> Float[Tensor, "n columns"]:
        """What the task makes of logits, with calibrated probabilities."""
        if self.calibration is not None:
            logits = logits / self.calibration.temperature
        return predictions(self.task, logits)


def save_trained(
    folder: Path,
    trained: Trained,
    weights: Mapping[str, Tensor],
    history: dict[str, Any],
    last: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a head's folder; the weights come last, so that a folder with weights is complete.

    Args:
        folder: is made.
        trained: what `recipe.json` says.
        weights: of the epoch that is kept.
        history: what `history.json` says.
        last: weights of the last epoch, where they are known.
    """
    for name in (*FILES.values(), *OF_WEIGHTS):
        (folder / name).unlink(
            missing_ok=True
        )  # never old weights beside new settings, nor an old card
    write_json(folder / "history.json", history)
    write_json(
        folder / "recipe.json",
        {
            "format": FORMAT,
            "format_version": VERSION,
            "tool_version": TOOL_VERSION,
            **trained.model_dump(mode="json"),
        },
    )
    if last is not None:
        _write_weights(folder / FILES["last"], last)
    _write_weights(folder / FILES["kept"], weights)


def _write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    with atomic_path(path) as scratch:
        # not save_file, which makes a file that nobody else may read
        scratch.write_bytes(
            save({name: tensor.contiguous().cpu() for name, tensor in weights.items()})
        )


def load_trained(folder: Path, which: Which = "kept") -> tuple[nn.Module, Trained]:
    """Rebuild a head from its folder, in evaluation mode.

    Args:
        folder: of the head.
        which: with the weights of the epoch that was kept, or of the last.

    Raises:
        FormatError: a file is missing, of another format or version, does not fit, or
            holds no numbers.
    """
    path = folder / "recipe.json"
    weights = folder / FILES[which]
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        found = raw.pop("format"), raw.pop("format_version")
        raw.pop("tool_version")
        if found == (FORMAT, CLASSES_ONLY):
            raw["task"] = {
                "kind": "classification",
                "classes": raw.pop("classes"),
                "positive": raw.pop("positive"),
            }
        elif found != (FORMAT, VERSION):
            raise FormatError(
                f"{path}: expected {FORMAT} version {VERSION}, found {found[0]} version {found[1]}"
            )
        trained = checked(Trained, raw, str(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{folder}: not the folder of a trained head: {error}") from None
    try:
        head = build_head(
            trained.recipe.name,
            trained.recipe.options,
            dim=trained.dim,
            classes=trained.task.outputs,
        )
        head.load_state_dict(load_file(weights))
    except ConfigError as error:
        missing = trained.recipe.name not in head_names()
        hint = "; a head of another package needs that to be installed" if missing else ""
        raise FormatError(f"{path}: {error}{hint}") from None
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise FormatError(f"{weights}: does not fit recipe.json: {reason}") from None
    if not all(tensor.isfinite().all() for tensor in head.state_dict().values()):
        raise FormatError(f"{weights}: holds values that are not numbers; train the head again")
    return head.eval(), trained


def find_heads(folder: Path) -> list[Path]:
    """The folder of a head, or the folders of all heads below it.

    Raises:
        FormatError: there is none.
    """
    found = sorted(path.parent for path in folder.rglob("head.safetensors"))
    if not found:
        what = "has no trained head in it" if folder.is_dir() else "no such folder"
        raise FormatError(
            f"{folder}: {what}; give a folder with recipe.json and head.safetensors, such as "
            "results/DATASET/train/TILING/ENCODER/HEAD/SEED, or one that holds several"
        )
    return found


def load_heads(folders: Sequence[Path], which: Which = "kept") -> list[tuple[nn.Module, Trained]]:
    """Heads of one recipe, its seeds and folds, whose answers may be averaged.

    Raises:
        FormatError: see `load_trained`.
        DatasetError: there is none, or they are of several recipes, or of one that was
            changed in between.
    """
    loaded = [load_trained(folder, which) for folder in folders]
    if not loaded:
        raise DatasetError("no head given; name at least one folder of a trained head")
    first = loaded[0][1]
    for folder, (_, trained) in zip(folders, loaded, strict=True):
        if _answering(trained) != _answering(first):
            raise DatasetError(
                f"{folder} is of {_said(trained)}, {folders[0]} of {_said(first)}; give heads of "
                "one recipe and task"
            )
        others = _differing(trained.recipe, first.recipe)
        if others:
            raise DatasetError(
                f"{folder} and {folders[0]} are both of recipe {first.recipe_name}, but with "
                "other settings "
                f"({', '.join(others)}); train the older one again, or take it out"
            )
    return loaded


def _answering(trained: Trained) -> tuple[str, str, list[str]]:
    return trained.recipe_name, trained.task.kind, list(trained.task.columns)


def _differing(one: Recipe, other: Recipe) -> list[str]:
    """Settings in which two recipes differ, as ``section.name``."""
    left, right = (_flat(recipe.model_dump()) for recipe in (one, other))
    return sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))


def _flat(sections: Mapping[str, Any]) -> dict[str, Any]:
    nested = {name: values for name, values in sections.items() if isinstance(values, dict)}
    inside = {
        f"{name}.{key}": value for name, values in nested.items() for key, value in values.items()
    }
    return inside | {name: value for name, value in sections.items() if name not in nested}


def _said(trained: Trained) -> str:
    names = ", ".join(trained.classes or trained.task.columns)
    return f"recipe {trained.recipe_name} with {trained.task.kind} of {names}"


class Applied(NamedTuple):
    """What a head says of a bag's valid tiles."""

    attention: Float[np.ndarray, " tiles"]  # sums to 1
    answers: Float[
        np.ndarray, " columns"
    ]  # in the order of the task's columns; for classes their probabilities
    selected: Bool[np.ndarray, " tiles"] | None  # the tiles that the answer comes from, if not all
    full_answers: (
        Float[np.ndarray, " columns"] | None
    )  # what all tiles would have given, if some are selected


@torch.inference_mode()
def apply(head: nn.Module, trained: Trained, bag: Bag) -> Applied:
    """Apply a head to a bag; float64."""
    bags = _bags(bag)
    return applied(trained, head(bags), bags)


def applied(trained: Trained, out: HeadOutput, bags: Bags) -> Applied:
    """What a head's output for one bag says, however it was come by; float64."""
    return Applied(
        attention(out, bags, trained.task.attended).double().numpy(),
        trained.answers(out.logits)[0].double().numpy(),
        None if out.selected is None else out.selected.numpy(),
        None if out.full_logits is None else trained.answers(out.full_logits)[0].double().numpy(),
    )


@torch.inference_mode()
def answers(
    head: SelectsTiles, trained: Trained, bag: Bag, selections: Sequence[Bool[np.ndarray, " tiles"]]
) -> Float[np.ndarray, "selections columns"]:
    """What a head would say of a bag had it selected other tiles; float64."""
    logits = head.answers(_bags(bag), [torch.from_numpy(selected) for selected in selections])
    return trained.answers(logits[:, 0]).double().numpy()


def _bags(bag: Bag) -> Bags:
    coords = None if bag.coords is None else [torch.from_numpy(bag.coords[bag.valid])]
    return join([torch.from_numpy(bag.features[bag.valid]).float()], coords)
