"""Export of trained heads as checkpoints for the published codes of ACMIL, AEM and CLAM."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import BaseModel
from torch import Tensor

from mil.config import checked
from mil.errors import ConfigError, FormatError
from mil.heads import head_module
from mil.interop.layouts import (
    MASKING_SETTINGS,
    PUBLISHED_HEADS,
    TRAINING_SETTINGS,
    PublishedHead,
    differences,
)
from mil.interop.state_dicts import to_published
from mil.io.atomic import atomic_path
from mil.trained import Trained, load_trained

# Widths that the published constructors use by default; others must be passed to them.
DEFAULT_ATTENTION_WIDTH = 128
CLAM_ATTENTION_WIDTHS = (256, 384)
CLAM_HIDDEN_WIDTH = 512


@dataclass(frozen=True)
class HeadExportResult:
    """Head that was exported, the published class it became, and notes for the user."""

    published: PublishedHead
    trained: Trained
    notes: list[str] = field(default_factory=list)


def run(folder: Path, file: Path, *, tool: str, force: bool = False) -> HeadExportResult:
    """Write a trained head as a checkpoint of another code.

    CLAM and MIL-Lab read a state dict alone; ACMIL and AEM a dict of `model`, `epoch` and
    `config`, here a plain dict.

    Args:
        folder: folder of the trained head.
        file: path of the checkpoint.
        tool: code that is to read it: acmil, aem, clam or feather.
        force: overwrite an existing file.

    Raises:
        FormatError: the folder holds no trained head, or the file exists.
        ConfigError: that code has no such head, or not with these options.
    """
    _check_free(file, force)
    head, trained = load_trained(folder)
    _check_exportable(trained, tool, folder)
    published = _published_head(trained.recipe.name, tool, folder)
    # Through the model, which adds the defaults that the recipe leaves out.
    options = checked(head_module(published.head).Config, trained.recipe.options, str(folder))
    _check_options(options, published, folder)
    branches = getattr(options, "branches", 1)
    tensors = to_published(published, head.state_dict(), branches, len(trained.classes))
    # Clones: views would take all of the memory they look at into the file.
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    checkpoint: object = tensors
    # These two read a state dict alone.
    if tool not in ("clam", "feather"):
        checkpoint = {
            "model": tensors,
            # These codes count epochs from 0.
            "epoch": max(trained.epoch - 1, 0),
            "config": _settings(published, trained, tensors, options),
        }
    with atomic_path(file) as scratch:
        torch.save(checkpoint, scratch)
    notes = [*_width_notes(published, tool, tensors), *differences(published, tool)]
    return HeadExportResult(published, trained, notes)


def _check_free(file: Path, force: bool) -> None:
    if file.is_dir():
        raise FormatError(
            f"{file}: is a folder; give the checkpoint's file, such as {file}/checkpoint.pth"
        )
    if file.exists() and not force:
        raise FormatError(f"{file}: exists; choose another file, or overwrite it with --force")


def _check_exportable(trained: Trained, tool: str, folder: Path) -> None:
    """Refuse heads of other tasks than classification, and several heads in one."""
    if trained.task.kind != "classification":
        raise ConfigError(
            f"{folder}: is of the task {trained.task.kind}, but heads of {tool} classify"
        )
    if trained.is_assembled:
        raise ConfigError(
            f"{folder}: {_assembled_of(trained)}, but a checkpoint of {tool} holds one head on "
            "plain features; write keep_within: 0, inner_folds: 0, zscore: false and whiten: null "
            "under train in the recipe, train again and export that head"
        )


def _check_options(options: BaseModel, published: PublishedHead, folder: Path) -> None:
    """Refuse options that the published class does not have."""
    project = getattr(options, "project", "linear")
    if project != "linear":
        raise ConfigError(
            f"{folder}: reduces tiles by project: {project}, but {published.name} has a "
            "linear layer there; export it with --onnx, or train with project: linear"
        )
    for option, fixed in published.fixed_options.items():
        value = getattr(options, option)
        if value != fixed:
            raise ConfigError(
                f"{folder}: has {option}: {value}, but {published.name} always {fixed}"
            )


def _assembled_of(trained: Trained) -> str:
    """Why a head is not one head on plain features."""
    reasons = []
    if len(trained.members) > 1:
        reasons.append(f"averages {len(trained.members)} members")
    if trained.recipe.train.scales_features:
        reasons.append("scales its features")
    return " and ".join(reasons)


def _published_head(head: str, tool: str, folder: Path) -> PublishedHead:
    of_tool = [published for published in PUBLISHED_HEADS if tool in published.tools]
    for published in of_tool:
        if published.head == head:
            return published
    heads = ", ".join(published.head for published in of_tool)
    raise ConfigError(f"{folder}: {tool} has no head {head}; it has: {heads}")


def _settings(
    published: PublishedHead, trained: Trained, tensors: Mapping[str, Tensor], options: BaseModel
) -> dict[str, int | float | str | list[str]]:
    """Settings under the names of ACMIL's and AEM's codes, numbers and text only.

    Args:
        published: class of the published codes.
        trained: the trained head.
        tensors: state dict under the published names.
        options: the head's options, checked.
    """
    recipe = trained.recipe
    masking = {setting: getattr(options, option, 0) for option, setting in MASKING_SETTINGS.items()}
    training = {
        setting: getattr(recipe.train, option) for option, setting in TRAINING_SETTINGS.items()
    }
    entropy = recipe.losses.get("attention_entropy")
    return {
        "arch": published.arch,
        "D_feat": trained.dim,
        # DSMIL has no reducer; its query width stands for the inner one.
        "D_inner": len(tensors[published.width_weights["hidden"]]),
        "n_class": len(trained.classes),
        "n_token": getattr(options, "branches", 1),
        **masking,
        **training,
        "B": recipe.train.batch_bags,
        # AEM's weight is constant; of one that changes the first value is written.
        "lamda": entropy.start if entropy else 0.0,
        "seed": trained.seed,
        "pretrain": trained.encoder,
        "dataset": trained.dataset,
        "classes": list(trained.classes),
    }


def _width_notes(published: PublishedHead, tool: str, tensors: Mapping[str, Tensor]) -> list[str]:
    """Lines about what the published constructors must be given besides the checkpoint."""
    # Not every width is in the checkpoint: whoever loads it must know them.
    hidden = _width(published, "hidden", tensors)
    attention = _width(published, "attention", tensors)
    notes = []
    if tool == "clam":
        if hidden != CLAM_HIDDEN_WIDTH or attention not in CLAM_ATTENTION_WIDTHS:
            notes.append(
                f"CLAM builds its heads with 512 and 256 or 384: put {hidden} and {attention} "
                "into its size_dict"
            )
    elif attention not in (None, DEFAULT_ATTENTION_WIDTH):
        notes.append(
            f"{published.name} has an attention width of 128 by default: give its constructor "
            f"D={attention}"
        )
    return notes


def _width(published: PublishedHead, option: str, tensors: Mapping[str, Tensor]) -> int | None:
    """Width that an option sets; None if the class has no such width."""
    weight = published.width_weights.get(option)
    return None if weight is None else len(tensors[weight])
