"""`mil bench classical`: cross-validated accuracy of the heads on the classical MIL data sets."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from mil.bench.classical_data import fingerprint, select_data_sets
from mil.bench.classical_fit import (
    ClassicalProtocol,
    RepetitionResult,
    RepetitionTask,
    run_repetition,
)
from mil.bench.classical_results import (
    ClassicalResult,
    ResultsFile,
    RunSettings,
    counted_recipe,
    open_results,
)
from mil.bench.results_table import BenchmarkTable, Row
from mil.config import Recipe, load_recipe
from mil.config.recipes import recipe_files
from mil.progress import progress


class PublishedAccuracy(NamedTuple):
    """Accuracy of a publication, and its standard error."""

    mean: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.standard_error:.3f}"


# Ilse et al. 2018, https://arxiv.org/abs/1802.04712, table 1.
PUBLISHED = {
    "abmil": {
        "musk1": PublishedAccuracy(0.900, 0.050),
        "musk2": PublishedAccuracy(0.863, 0.042),
        "fox": PublishedAccuracy(0.603, 0.029),
        "tiger": PublishedAccuracy(0.845, 0.018),
    },
    "abmil_plain": {
        "musk1": PublishedAccuracy(0.892, 0.040),
        "musk2": PublishedAccuracy(0.858, 0.048),
        "fox": PublishedAccuracy(0.615, 0.043),
        "tiger": PublishedAccuracy(0.839, 0.022),
    },
}
NOTE = (
    "Accuracy on the test bags, mean over folds; mean ± standard deviation over repetitions "
    "(standard error over the folds of one repetition); one repetition has no ±. One setting for "
    "all heads; the last epoch counts; features are standardised by the training bags' tiles "
    "alone and clipped at 3 standard deviations. Published: Ilse et al. 2018, ± as there."
)
PROTOCOL = ClassicalProtocol()


class _Cell(NamedTuple):
    """Cell of the table: one recipe on one data set."""

    dataset: str
    path: Path
    data_digest: str
    recipe_name: str
    recipe: Recipe


def run(
    folder: Path,
    *,
    datasets: Sequence[str],
    heads: Sequence[str],
    repeats: int,
    folds: int,
    threads: int,
    json: Path | None,
) -> BenchmarkTable:
    """Cross-validate heads.

    Args:
        folder: folder of the data sets.
        datasets: names of data sets; none: all in the folder.
        heads: recipes, by name or by file; none: all that do not repeat a publication's
            settings.
        repeats: number of repetitions of the cross-validation.
        folds: number of folds of each.
        threads: number of repetitions that run at the same time.
        json: file of the results, written after every head; results in it are not
            measured again.
    """
    recipes = {Path(name).stem: load_recipe(name) for name in heads} or own_recipes()
    # One recipe after another on the same data, which a process reads once.
    cells = []
    for dataset, path in select_data_sets(folder, datasets).items():
        digest = fingerprint(path)
        cells += [_Cell(dataset, path, digest, name, recipe) for name, recipe in recipes.items()]
    results = open_results(json, RunSettings(protocol=PROTOCOL, repeats=repeats, folds=folds))
    # An interrupted run is resumed: its results are in the file.
    missing = [cell for cell in cells if _result_of(results, cell) is None]
    _measure(missing, results, threads)
    title = f"mil bench classical, {repeats} x {folds}-fold cross-validation"
    return BenchmarkTable(title, _table(results, cells), NOTE)


def own_recipes() -> dict[str, Recipe]:
    """The recipes that do not repeat a publication's settings, by name."""
    recipes = {name: load_recipe(name) for name in recipe_files()}
    return {name: recipe for name, recipe in recipes.items() if not recipe.source}


def _result_of(results: ResultsFile, cell: _Cell) -> ClassicalResult | None:
    return results.find(cell.dataset, cell.data_digest, cell.recipe_name, cell.recipe)


def _measure(cells: Sequence[_Cell], results: ResultsFile, threads: int) -> None:
    """Run all repetitions of some cells, and add each cell's result when it is complete."""
    settings = results.settings
    tasks = [
        RepetitionTask(
            cell.dataset,
            cell.path,
            cell.recipe,
            settings.protocol,
            repetition,
            settings.repeats,
            settings.folds,
        )
        for cell in cells
        for repetition in range(settings.repeats)
    ]
    with progress("classical", len(tasks) * settings.folds, "fits") as advance:
        repetitions = _run_all(tasks, threads)
        # Results come in the order of the tasks, so each cell takes the next ones.
        for cell in cells:
            of_cell = islice(repetitions, settings.repeats)
            results.add(_summarised(cell, [_counted(result, advance) for result in of_cell]))


def _counted(result: RepetitionResult, advance: Callable[[int], None]) -> RepetitionResult:
    advance(len(result.accuracy))
    return result


def _summarised(cell: _Cell, repetitions: Sequence[RepetitionResult]) -> ClassicalResult:
    accuracy = [repetition.accuracy for repetition in repetitions]
    # Each fold is one fit and one test.
    fits = sum(map(len, accuracy))
    return ClassicalResult(
        dataset=cell.dataset,
        data=cell.data_digest,
        recipe=cell.recipe_name,
        what=counted_recipe(cell.recipe),
        accuracy=accuracy,
        seconds=sum(repetition.seconds for repetition in repetitions) / fits,
    )


def _run_all(tasks: Sequence[RepetitionTask], threads: int) -> Iterator[RepetitionResult]:
    """Results in the order of the tasks, from this process or from several."""
    if threads == 1:
        yield from map(run_repetition, tasks)
        return
    # Spawned: a forked process would inherit the state of torch's threads.
    with ProcessPoolExecutor(threads, mp_context=get_context("spawn")) as pool:
        yield from pool.map(run_repetition, tasks)


def _table(results: ResultsFile, cells: Sequence[_Cell]) -> list[Row]:
    """A row for each recipe and one for its publication, a column for each data set."""
    datasets = list(dict.fromkeys(cell.dataset for cell in cells))
    rows_by_recipe: dict[str, Row] = {}
    seconds: dict[str, float] = {}
    for cell in cells:
        result = _result_of(results, cell)
        # Just measured, or in the file before.
        assert result is not None
        row = rows_by_recipe.setdefault(cell.recipe_name, {"recipe": cell.recipe_name})
        row[cell.dataset] = str(result.summary())
        # A column of the table, so the mean over its data sets.
        mean_of_data_sets = result.seconds / len(datasets)
        seconds[cell.recipe_name] = seconds.get(cell.recipe_name, 0.0) + mean_of_data_sets
    rows: list[Row] = []
    for name, row in rows_by_recipe.items():
        rows.append({**row, "s_a_fit": seconds[name]})
        if name in PUBLISHED:
            rows.append(_published_row(name, datasets))
    return rows


def _published_row(recipe: str, datasets: Sequence[str]) -> Row:
    published = PUBLISHED[recipe]
    cells = {name: str(published[name]) if name in published else "" for name in datasets}
    return {"recipe": "  published", **cells, "s_a_fit": ""}
