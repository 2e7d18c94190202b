"""`train: auto`: the settings of a recipe, planned from facts about the cohort.

A pure function of the recipe and the facts, without torch: the same cohort has the same
recipe on any machine. Keys that the recipe writes are kept.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mil.config import Cohort, Recipe, TrainConfig, checked

# Heads with options of these names, which a plan may set: widths of the reducer and of
# the attention branch.
WITH_HIDDEN = (
    "abmil",
    "abmil_probe",
    "acmil",
    "acmil_mha",
    "clam_mb",
    "clam_sb",
    "dsmil",
    "dtfd",
    "graph_select",
    "ibmil",
    "lama",
    "max",
    "mean",
    "mha",
    "mhim",
    "mixed_abmil",
    "probe",
    "transmil",
)
WITH_ATTENTION = (
    "abmil",
    "abmil_probe",
    "acmil",
    "clam_mb",
    "clam_sb",
    "dtfd",
    "graph_select",
    "ibmil",
    "mhim",
    "mixed_abmil",
)
# Heads whose option `dropout` a plan may set: with whitened features it raised the AUROC
# of slides (acmil) or of tiles (abmil), and lowered neither.
WITH_DROPOUT = ("abmil", "abmil_probe", "acmil")
DROPOUT = 0.5
# Options of single heads. A pooled row of few whitened tiles is small: its layer norm would
# enlarge what tells single slides apart, and they are learned by heart. Queries that begin
# near zero let all tiles count alike, with the same end.
OPTIONS_OF_HEAD: Mapping[str, Mapping[str, float]] = {
    "lama": {"norm": False},
    "probe": {"norm": False, "query_std": 1.0},
}
# Smaller cohorts have fewer steps an epoch, and are trained for as many steps as one of
# this many slides: those of the demo were not learned in 50 epochs.
EPOCHS = 50
SLIDES_OF_EPOCHS = 40
# Epochs of heads that learn more slowly, since their terms oppose each other at first.
EPOCHS_FACTOR = {"acmil": 2, "acmil_mha": 2}
# Bags a step of tasks whose loss compares the bags of one batch.
BATCH_OF_COMPARING_TASKS = 32
# Task whose rules were measured (docs/results/composite.md); others train as before.
MEASURED_TASK = "classification"
UNMEASURED = {"lr": 1e-4, "batch_bags": 4}


class SettingsPlan(NamedTuple):
    """Settings that a cohort calls for."""

    train: Mapping[str, Any]
    options: Mapping[str, Any]


class SizeRule(NamedTuple):
    """Settings for cohorts of at most so many slides."""

    max_slides: int
    train: Mapping[str, Any]
    hidden: int
    attention: int
    # Rates of single heads, in place of that of `train`.
    lr_of_head: Mapping[str, float]
    # Options of single heads.
    options_of_head: Mapping[str, Mapping[str, float]]


# By number of training and validation slides of the study, smallest cohorts first; the
# last rule has no bound. Slides are counted over the study, so that no rule flips
# between two of its folds.
RULES = (
    SizeRule(
        80,
        {"whiten": 64, "lr": 1e-3, "batch_bags": 4, "restarts": 5, "keep_within": 0.2},
        hidden=64,
        attention=32,
        # Its scores begin near zero, and 400 steps at the rate of the others leave them there. Not
        # for larger cohorts: one of two of 100 slides came to 0.72 so, both to 1.00 at that rate.
        lr_of_head={"mha": 3e-3},
        # Whole messages of neighbours, or a whole context, tell few slides apart without their
        # tumour.
        options_of_head={
            "graph_select": {"message_scale": 0.3},
            "mixed_abmil": {"context_scale": 0.03},
        },
    ),
    SizeRule(
        2**63,
        {"whiten": 128, "lr": 1e-3, "batch_bags": 4, "restarts": 3, "keep_within": 0.2},
        hidden=128,
        attention=64,
        lr_of_head={},
        options_of_head={},
    ),
)


def plan_recipe(recipe: Recipe, cohort: Cohort) -> Recipe:
    """Concrete recipe for a cohort; a recipe without `train: auto` is returned as it is.

    Args:
        recipe: Recipe; keys that it writes are kept.
        cohort: Facts about the training and validation slides.

    Raises:
        ConfigError: A planned value does not go with one that the recipe writes.
    """
    if not recipe.train.auto:
        return recipe
    plan = _plan(recipe.name, cohort)
    written = recipe.train.model_dump(include=recipe.train.model_fields_set)
    planned = dict(plan.train)
    # Whitened features are standardised: a recipe that writes `zscore` means its own way.
    if recipe.train.zscore:
        planned.pop("whiten", None)
    # Checked again: a planned value must go with those that are written.
    train = checked(TrainConfig, {**planned, **written, "auto": False}, "train: auto")
    options = {**plan.options, **recipe.options}
    # Attention heads share the width, and so do the queries of a row that is as wide.
    shared = recipe.options.get("heads") or recipe.options.get("queries")
    if "hidden" not in recipe.options and "hidden" in options and isinstance(shared, int):
        # Rounded up, as the default is.
        options["hidden"] = -(-options["hidden"] // max(shared, 1)) * max(shared, 1)
    return recipe.model_copy(update={"train": train, "options": options})


def described(recipe: Recipe, planned: Recipe, cohort: Cohort) -> str:
    """One line about a plan: the facts that count and the settings that differ from defaults.

    Args:
        recipe: Recipe before planning.
        planned: Recipe after planning.
        cohort: Facts from which it was planned.
    """
    defaults = TrainConfig().model_dump()
    train = planned.train.model_dump(exclude={"auto"})
    settings = {name: value for name, value in train.items() if value != defaults[name]}
    options = {name: value for name, value in planned.options.items() if name not in recipe.options}
    listed = ", ".join(f"{name} {value}" for name, value in {**options, **settings}.items())
    return (
        f"planned for {cohort.num_slides} slides of {cohort.num_patients} patients: "
        f"{listed or 'the default settings'}"
    )


def _plan(head: str, cohort: Cohort) -> SettingsPlan:
    if cohort.task != MEASURED_TASK:
        train = dict(UNMEASURED)
        if cohort.smallest_batch > train["batch_bags"]:
            train["batch_bags"] = max(BATCH_OF_COMPARING_TASKS, cohort.smallest_batch)
        return SettingsPlan(train, {})
    rule = next(rule for rule in RULES if cohort.num_slides <= rule.max_slides)
    options = {**OPTIONS_OF_HEAD.get(head, {}), **rule.options_of_head.get(head, {})}
    if head in WITH_HIDDEN:
        options["hidden"] = rule.hidden
    if head in WITH_ATTENTION:
        options["attention"] = rule.attention
    if head in WITH_DROPOUT:
        options["dropout"] = DROPOUT
    train = {**rule.train, "epochs": _epochs(head, cohort.num_slides)}
    train["lr"] = rule.lr_of_head.get(head, train["lr"])
    return SettingsPlan(train, options)


def _epochs(head: str, num_slides: int) -> int:
    slides = min(max(num_slides, 1), SLIDES_OF_EPOCHS)
    # Rounded up, in whole numbers: no machine rounds otherwise.
    epochs = -(-EPOCHS * SLIDES_OF_EPOCHS // slides)
    return epochs * EPOCHS_FACTOR.get(head, 1)
