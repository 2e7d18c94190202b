"""Folders of trained heads in, checkpoints for the published codes of ACMIL, AEM and CLAM out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mil.config import checked
from mil.errors import ConfigError, FormatError
from mil.heads import head_module
from mil.interop.import_head import OTHER_SOFTMAX
from mil.interop.layouts import LAYOUTS, MASKING, TRAINING, Layout
from mil.interop.state_dicts import to_theirs
from mil.io.atomic import atomic_path
from mil.trained import Trained, load_trained

# Widths that the published constructors make without a change: of the attention branch,
# and of what it looks at.
ATTENTION = {128}
CLAM_ATTENTION = {256, 384}
CLAM_HIDDEN = 512


@dataclass(frozen=True)
class Sent:
    """What an export wrote, and what there is to know about it."""

    layout: Layout
    trained: Trained
    notes: list[str] = field(default_factory=list)


def run(folder: Path, file: Path, *, tool: str, force: bool = False) -> Sent:
    """Write a trained head as a checkpoint of another code.

    CLAM reads a state dict alone; ACMIL and AEM a dict of `model`, `epoch` and
    `config`, here a plain dict.

    Args:
        folder: of the trained head.
        file: the checkpoint.
        tool: whose code is to read it: acmil, aem, clam.
        force: overwrite.

    Raises:
        FormatError: the folder is no trained head, or the file is there.
        ConfigError: that code has no such head, or not with these options.
    """
    if file.is_dir():
        raise FormatError(
            f"{file}: is a folder; give the checkpoint's file, such as {file}/checkpoint.pth"
        )
    if file.exists() and not force:
        raise FormatError(f"{file}: is there; choose another file, or overwrite it with --force")
    head, trained = load_trained(folder)
    if trained.task.kind != "classification":
        raise ConfigError(
            f"{folder}: is of the task {trained.task.kind}, but heads of {tool} are of classes"
        )
    layout = _layout(trained.recipe.name, tool, folder)
    options = checked(head_module(layout.head).Config, trained.recipe.options, str(folder))
    for option, value in layout.fixed.items():
        if getattr(options, option) != value:
            raise ConfigError(
                f"{folder}: has {option}: {getattr(options, option)}, but {layout.name} always "
                f"{value}"
            )
    branches = getattr(options, "branches", 1)
    theirs = to_theirs(layout, head.state_dict(), branches, len(trained.classes))
    theirs = {name: tensor.clone() for name, tensor in theirs.items()}
    config = _config(layout, trained, theirs, options)
    with atomic_path(file) as scratch:
        whole = {"model": theirs, "epoch": max(trained.epoch - 1, 0), "config": config}
        torch.save(theirs if tool == "clam" else whole, scratch)
    return Sent(layout, trained, _notes(layout, tool, theirs))


def _layout(head: str, tool: str, folder: Path) -> Layout:
    found = next((each for each in LAYOUTS if each.head == head and tool in each.tools), None)
    if found is None:
        heads = ", ".join(each.head for each in LAYOUTS if tool in each.tools)
        raise ConfigError(f"{folder}: {tool} has no head {head}; to {tool} go: {heads}")
    return found


def _config(
    layout: Layout, trained: Trained, theirs: Mapping[str, Tensor], options: Any
) -> dict[str, Any]:
    """Settings under the names of ACMIL's and AEM's codes, numbers and text only."""
    recipe = trained.recipe
    masking = {theirs: getattr(options, ours, 0) for ours, theirs in MASKING.items()}
    training = {theirs: getattr(recipe.train, ours) for ours, theirs in TRAINING.items()}
    entropy = recipe.losses.get("attention_entropy")
    return {
        "arch": layout.arch,
        "D_feat": trained.dim,
        "D_inner": len(theirs[layout.widths["hidden"]]),
        "n_class": len(trained.classes),
        "n_token": getattr(options, "branches", 1),
        **masking,
        **training,
        "B": recipe.train.batch_bags,
        "lamda": entropy.start if entropy else 0.0,
        "seed": trained.seed,
        "pretrain": trained.encoder,
        "dataset": trained.dataset,
        "classes": list(trained.classes),
    }


def _notes(layout: Layout, tool: str, theirs: Mapping[str, Tensor]) -> list[str]:
    hidden, attention = (
        len(theirs[layout.widths[w]]) if w in layout.widths else None
        for w in ("hidden", "attention")
    )
    notes = []
    if tool == "clam" and (hidden != CLAM_HIDDEN or attention not in CLAM_ATTENTION):
        notes.append(
            f"CLAM builds its heads with 512 and 256 or 384: put {hidden} and {attention} into "
            "its size_dict"
        )
    if tool != "clam" and attention not in (None, *ATTENTION):
        notes.append(
            f"{layout.name} is built with an attention width of 128 unless told so: D={attention}"
        )
    return [*notes, OTHER_SOFTMAX] if (layout.name, tool) == ("CLAM_MB", "acmil") else notes
