"""`mil bench learn`: what heads learn from slide labels, on composites of real tiles."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch

from mil.bench.learn_bank import FeatureBank, open_bank
from mil.bench.learn_cohorts import (
    CohortName,
    CohortSettings,
    bags_of,
    build_cohort,
)
from mil.bench.learn_fit import train_and_predict
from mil.bench.learn_probe import probe_and_predict
from mil.bench.learn_results import (
    LearnResult,
    ResultsFile,
    RunSettings,
    measure,
    open_results,
    recipe_content,
)
from mil.bench.learn_table import CEILING, difference_table, learn_table
from mil.bench.results_table import BenchmarkTable
from mil.config import Recipe, load_recipe
from mil.errors import ConfigError, unknown_name
from mil.progress import progress

HEADS = (
    "mean",
    "max",
    "abmil",
    "aem",
    "acmil",
    "clam_sb",
    "clam_mb",
    "dsmil",
    "dtfd",
    "graph_select",
    "transmil",
)
# Training of the published codes of CLAM, ACMIL and AEM, for any head; the epoch is
# that of the least validation loss.
PUBLISHED_LOOP = {
    "epochs": 50,
    "batch_bags": 1,
    "accumulate": 1,
    "lr": 1e-4,
    "min_lr": 0.0,
    "warmup_epochs": 0.0,
    "weight_decay": 1e-5,
    "select": "loss",
    "patience": None,
}
PUBLISHED = "published"
OWN = "own"
# Seeds of a cohort's trainings: those of two cohorts differ, so that cohorts are
# independent.
SEEDS_OF_COHORT = 1000


class LearnRun(NamedTuple):
    """Choices of a run.

    Attributes:
        heads: recipes, by name or by file.
        loops: `own`, the recipe's training, and `published`.
        cohorts: number of drawn cohorts.
        tool_seeds: seeds of cohorts with slides of `mil demo composites`.
        seeds: number of trainings of a recipe on a cohort.
        against: reference of the differences: a row, or a loop for the same recipe's
            row with it; empty: none.
    """

    heads: Sequence[str]
    loops: Sequence[str]
    cohorts: int
    tool_seeds: Sequence[int]
    seeds: int
    against: str = ""


class FitTask(NamedTuple):
    """One training, in this process or another."""

    bank: FeatureBank
    cohort: CohortName
    settings: CohortSettings
    row: str
    recipe: Recipe | None  # None: the ceiling
    seed: int


def run(
    tiles: Path,
    choices: LearnRun,
    settings: CohortSettings,
    *,
    encoder: str,
    stains: int,
    max_tiles: int,
    bank: Path,
    device: str,
    threads: int,
    json: Path | None,
) -> list[BenchmarkTable]:
    """Train heads on cohorts of composite slides.

    Args:
        tiles: folder of labelled tiles.
        choices: heads, loops, cohorts and seeds.
        settings: sizes of the cohorts and share of tumour.
        encoder: name of the encoder.
        stains: number of stains under which tiles are encoded.
        max_tiles: largest number of tiles; of more, half of it is drawn of each class.
        bank: folder for encoded tiles.
        device: device of the encoder.
        threads: number of threads of the encoder, then of trainings at the same time.
        json: file of the results, written after each training; results in it are not
            measured again.

    Returns:
        The table of all rows, and with a reference the table of differences.

    Raises:
        ConfigError: there is no recipe, row or cohort of a name.
        DatasetError: the tiles cannot be used, or are too few.
        FormatError: the results file is of something else.
    """
    rows = rows_of(choices)
    references = references_of(choices, list(rows))
    names = [CohortName("drawn", seed) for seed in range(1, choices.cohorts + 1)]
    names += [CohortName("tool", seed) for seed in choices.tool_seeds]
    if not names:
        raise ConfigError("no cohort to train on; set --cohorts to 1 or more, or give --tool-seed")
    feature_bank = open_bank(
        tiles,
        bank,
        encoder=encoder,
        stains=stains,
        max_tiles=max_tiles,
        tool_cohorts=[settings.tool_cohort(seed) for seed in choices.tool_seeds],
        threads=threads,
        device=device,
    )
    results = open_results(
        json, RunSettings(bank=feature_bank.digest, stains=stains, cohorts=settings)
    )
    tasks = [
        FitTask(feature_bank, name, settings, row, recipe, seed)
        for name in names
        for row, recipe in rows.items()
        # The ceiling has no random numbers.
        for seed in range(1, 2 if recipe is None else choices.seeds + 1)
    ]
    # An interrupted run is resumed: its results are in the file.
    _measure([task for task in tasks if _result_of(results, task) is None], results, threads)
    measured = [result for task in tasks if (result := _result_of(results, task)) is not None]
    title = (
        f"mil bench learn, {len(names)} cohorts, {settings.train_slides} training slides, "
        f"{100 * settings.witness:g} % tumour, {choices.seeds} seeds, {encoder}"
    )
    tables = [learn_table(title, list(rows), measured, settings)]
    if references:
        tables.append(difference_table(references, measured))
    return tables


def rows_of(choices: LearnRun) -> dict[str, Recipe | None]:
    """Rows of the table: the ceiling, and each recipe with each loop.

    Raises:
        ConfigError: a recipe cannot be read, a loop is unknown, or two files have one name.
    """
    rows: dict[str, Recipe | None] = {CEILING: None}
    for head in choices.heads:
        recipe = load_recipe(head)
        for loop in choices.loops:
            if loop not in (OWN, PUBLISHED):
                raise ConfigError(f"--loop: {unknown_name('loop', loop, (OWN, PUBLISHED))}")
            name = row_name(Path(head).stem, loop)
            if name in rows:
                raise ConfigError(f"--head {head}: there are two rows {name}; rename a file")
            rows[name] = with_published_loop(recipe) if loop == PUBLISHED else recipe
    return rows


def row_name(recipe: str, loop: str) -> str:
    """Name of a row: that of its recipe, with the loop if it is not the recipe's own."""
    return recipe if loop == OWN else f"{recipe}@{loop}"


def with_published_loop(recipe: Recipe) -> Recipe:
    """A recipe with the training of the published codes; head and losses are its own."""
    train = recipe.train.model_copy(update=PUBLISHED_LOOP)
    return recipe.model_copy(update={"train": train})


def references_of(choices: LearnRun, rows: Sequence[str]) -> dict[str, str]:
    """Reference of each row that has one; no row is its own.

    Raises:
        ConfigError: the reference is no row.
    """
    against = choices.against
    if not against:
        return {}
    recipes = [name for name in rows if name != CEILING]
    if against not in (OWN, PUBLISHED):
        if against not in rows:
            raise ConfigError(f"--against: {unknown_name('row', against, rows)}")
        return {name: against for name in recipes if name != against}
    if against not in choices.loops or len(choices.loops) < 2:
        raise ConfigError(f"--against {against}: needs --loop {OWN} and --loop {PUBLISHED}")
    other = OWN if against == PUBLISHED else PUBLISHED
    stems = [Path(head).stem for head in choices.heads]
    return {row_name(stem, other): row_name(stem, against) for stem in stems}


def run_task(task: FitTask) -> LearnResult:
    """Train one row on one cohort, and measure it on both test sets."""
    # The matrices are small: more threads would only wait for one another.
    torch.set_num_threads(1)
    # Drawn anew for each training, which takes far longer.
    cohort = build_cohort(task.bank, task.cohort, task.settings)
    began = perf_counter()
    if task.recipe is None:
        predictions = probe_and_predict(*cohort)
    else:
        predictions = train_and_predict(
            task.recipe,
            bags_of(cohort.train),
            bags_of(cohort.valid),
            [bags_of(slides) for slides in cohort.tests],
            seed=training_seed(task.cohort, task.seed),
        )
    pairs = zip(predictions, cohort.tests, strict=True)
    return LearnResult(
        cohort=str(task.cohort),
        row=task.row,
        recipe=recipe_content(task.recipe),
        seed=task.seed,
        tests=[measure(of_test, slides) for of_test, slides in pairs],
        seconds=perf_counter() - began,
    )


def training_seed(cohort: CohortName, seed: int) -> int:
    """Random seed of a training, another one on each cohort."""
    number = 2 * cohort.seed + (cohort.kind == "tool")
    return SEEDS_OF_COHORT * number + seed


def _result_of(results: ResultsFile, task: FitTask) -> LearnResult | None:
    return results.find(str(task.cohort), task.row, recipe_content(task.recipe), task.seed)


def _measure(tasks: Sequence[FitTask], results: ResultsFile, threads: int) -> None:
    with progress("learn", len(tasks), "fits") as advance:
        for result in _run_all(tasks, threads):
            results.add(result)
            advance(1, f"cohort {result.cohort}, {result.row}")


def _run_all(tasks: Sequence[FitTask], threads: int) -> Iterator[LearnResult]:
    """Results in the order of the tasks, from this process or from several."""
    if threads == 1 or len(tasks) < 2:
        yield from map(run_task, tasks)
        return
    # Spawned: a forked process would inherit the state of torch's threads.
    with ProcessPoolExecutor(threads, mp_context=get_context("spawn")) as pool:
        yield from pool.map(run_task, tasks)
