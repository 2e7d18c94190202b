"""Sections of a model card about its making: the recipe, where it comes from."""

import json
import re
from pathlib import Path

import yaml

from mil.trained import Trained
from mil.trained.manifest import read_manifest
from mil.trained.markdown import escaped, table


def recipe_section(trained: Trained) -> str:
    """Text of the section on the recipe."""
    text = yaml.safe_dump(
        trained.recipe.model_dump(mode="json", exclude_none=True),
        sort_keys=False,
        allow_unicode=True,
    )
    # A fence longer than any in the text, so that the recipe cannot end its own block.
    longest = max([3, *(len(backticks) for backticks in re.findall("`+", text))])
    fence = "`" * (longest + 1)
    return f"{_planned(trained)}{_start(trained)}{fence}yaml\n{text}{fence}"


def _planned(trained: Trained) -> str:
    """Facts that the recipe was planned from; empty for one that was written as it is."""
    cohort = trained.planned_from
    if cohort is None:
        return ""
    return (
        f"Planned (`train: auto`) for {cohort.num_slides} training and validation slides of "
        f"{cohort.num_patients} patients, {cohort.tiles_median} tiles a slide (median), "
        f"{cohort.dim} features a tile.\n\n"
    )


def _start(trained: Trained) -> str:
    """Head whose weights the training started from; empty for random weights."""
    if trained.started_from is None:
        return ""
    return f"Started from {escaped(trained.started_from.described())}.\n\n"


def provenance_section(trained: Trained, folder: Path) -> str:
    """Text of the section on where the head comes from."""
    files = [[name, digest] for name, digest in read_manifest(folder).sha256.items()]
    return (
        f"Trained with mil {escaped(_tool_version(folder))}, seed {trained.seed}, fold "
        f"{trained.fold}, {_kept(trained)}{_calibrated(trained)}.\n\n"
        f"{table(['file', 'SHA-256'], files)}"
    )


def _kept(trained: Trained) -> str:
    """Epoch that was kept, or the members whose average the head is."""
    if len(trained.members) < 2:
        return f"epoch {trained.epoch} kept"
    epochs = ", ".join(str(member.epoch) for member in trained.members)
    return f"the average of {len(trained.members)} trainings, epochs {epochs} kept"


def _calibrated(trained: Trained) -> str:
    calibration = trained.calibration
    if calibration is None:
        return ", predictions not calibrated"
    text = f"; predictions not calibrated: {calibration.reason}"
    if not calibration.reason:
        count = "" if calibration.n is None else f"{calibration.n} "
        values = [f"temperature {calibration.temperature:.4g}"]
        if calibration.intercepts:
            intercepts = (f"{intercept:.4g}" for intercept in calibration.intercepts)
            values.append(f"intercepts {' and '.join(intercepts)}")
        text = f"; predictions calibrated on the {count}validation slides ({', '.join(values)})"
    if calibration.threshold is not None:
        text += f", {escaped(trained.positive)} predicted from {calibration.threshold:.4g} up"
    return text


def _tool_version(folder: Path) -> str:
    recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    return str(recipe.get("tool_version", "?"))
