"""`mil bench learn`: what heads learn from slide labels, on composites of real tiles."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch

from mil.bench.learn_bank import FeatureBank
from mil.bench.learn_cohorts import CohortName, CohortSettings, bags_of, build_cohort
from mil.bench.learn_encode import open_bank, open_source
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
from mil.bench.learn_rows import LearnRun, references_of, rows_of
from mil.bench.learn_table import difference_table, learn_table
from mil.bench.results_table import BenchmarkTable
from mil.config import Recipe
from mil.config.stages import StainNorm
from mil.config.stain import NO_STAIN_NORM
from mil.progress import progress

# Trainings on two cohorts have different seeds, so that cohorts are independent.
SEEDS_OF_COHORT = 1000


class BankOptions(NamedTuple):
    """Options of the encoded tiles.

    Attributes:
        folder: folder for encoded tiles.
        encoder: name of the encoder.
        stains: number of stains under which tiles are encoded.
        max_tiles: largest number of tiles; of more, half of it is drawn of each class.
        device: device of the encoder: `cpu`, `cuda` or `auto`.
        stain_norm: stain normalisation before the encoder.
    """

    folder: Path
    encoder: str
    stains: int
    max_tiles: int
    device: str
    stain_norm: StainNorm = NO_STAIN_NORM


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
    options: BankOptions,
    *,
    threads: int,
    json: Path | None,
) -> list[BenchmarkTable]:
    """Train heads on cohorts of composite slides.

    Args:
        tiles: folder of labelled tiles.
        choices: heads, loops, cohorts and seeds.
        settings: sizes of the cohorts and share of tumour.
        options: options of the encoded tiles.
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
    # Whatever can be wrong with the choices comes before minutes of encoding.
    rows = rows_of(choices)
    references = references_of(choices, list(rows))
    names = choices.cohort_names
    tool_cohorts = [settings.tool_cohort(seed) for seed in choices.tool_seeds]
    source = open_source(
        tiles,
        encoder=options.encoder,
        max_tiles=options.max_tiles,
        device=options.device,
        stain_norm=options.stain_norm,
    )
    shared = RunSettings(bank=source.digest, stains=options.stains, cohorts=settings)
    results = open_results(json, shared)
    bank = open_bank(
        source,
        options.folder,
        stains=options.stains,
        tool_cohorts=tool_cohorts,
        threads=threads,
        by_stain=settings.stain_shift,
    )
    tasks = [
        FitTask(bank, name, settings, row, recipe, seed)
        for name in names
        for row, recipe in rows.items()
        # The ceiling has no random numbers.
        for seed in range(1, 2 if recipe is None else choices.seeds + 1)
    ]
    # An interrupted run is resumed: its results are in the file.
    _measure([task for task in tasks if _result_of(results, task) is None], results, threads)
    of_tasks = [_result_of(results, task) for task in tasks]
    complete = [result for result in of_tasks if result is not None]
    title = _title(choices, settings, options)
    tables = [learn_table(title, list(rows), complete, settings)]
    if references:
        tables.append(difference_table(references, complete))
    return tables


def _title(choices: LearnRun, settings: CohortSettings, options: BankOptions) -> str:
    stains = "" if options.stain_norm == NO_STAIN_NORM else f", {options.stain_norm}"
    title = (
        f"mil bench learn, {len(choices.cohort_names)} cohorts, {settings.train_slides} training "
        f"slides, {100 * settings.witness:g} % tumour, {choices.seeds} seeds, "
        f"{options.encoder}{stains}"
    )
    if settings.stain_shift:
        title += ", second test set of another stain"
    return title


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
