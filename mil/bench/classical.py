"""`mil bench classical`: cross-validated accuracy of the heads on the classical MIL data sets."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from mil.bench.classical_data import chosen, fingerprint
from mil.bench.classical_fit import Protocol, Repetition, Task, repetition
from mil.bench.classical_results import Book, Measured, Settings, counts, opened
from mil.bench.results_table import Outcome, Row
from mil.config import Recipe, load_recipe
from mil.config.recipes import recipe_files
from mil.progress import progress

# Accuracy and standard error: Ilse et al. 2018, https://arxiv.org/abs/1802.04712, table
# 1.
PUBLISHED = {
    "abmil": {"musk1": (0.900, 0.050), "musk2": (0.863, 0.042), "tiger": (0.845, 0.018)},
    "abmil_plain": {"musk1": (0.892, 0.040), "musk2": (0.858, 0.048), "tiger": (0.839, 0.022)},
}
NOTE = (
    "Share of the test bags found right, mean over folds; mean ± standard deviation over "
    "repetitions (standard error "
    "over the folds of one repetition). One setting for all, the last epoch counts, features are "
    "standardised by the "
    "training bags' tiles alone and cut off at 3 deviations. Published: Ilse et al. 2018, ± as "
    "there."
)


PROTOCOL = Protocol()


class _Cell(NamedTuple):
    dataset: str
    place: Path
    data: str  # fingerprint
    name: str
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
) -> Outcome:
    """Cross-validate heads.

    Args:
        folder: of the data sets.
        datasets: which; none: all that are there.
        heads: recipes, by name or by file; none: all that do not repeat a publication's
            settings.
        repeats: of the cross-validation.
        folds: of each.
        threads: how many repetitions run side by side.
        json: results go there after every head; those that stand there are not measured
            again.
    """
    recipes = {Path(name).stem: load_recipe(name) for name in heads} if heads else ours()
    places = chosen(folder, datasets)
    cells = [
        _Cell(dataset, place, fingerprint(place), name, recipe)
        for dataset, place in places.items()
        for name, recipe in recipes.items()
    ]
    book = opened(json, Settings(protocol=PROTOCOL, repeats=repeats, folds=folds))
    _measure([cell for cell in cells if not _known(book, cell)], book, threads)
    title = f"mil bench classical, {repeats} x {folds}-fold cross-validation"
    return Outcome(title, _table(book, cells), NOTE)


def ours() -> dict[str, Recipe]:
    """The recipes that do not repeat a publication's settings, by name."""
    every = {name: load_recipe(name) for name in recipe_files()}
    return {name: recipe for name, recipe in every.items() if not recipe.source}


def _known(book: Book, cell: _Cell) -> Measured | None:
    return book.find(cell.dataset, cell.data, cell.name, cell.recipe)


def _measure(cells: Sequence[_Cell], book: Book, threads: int) -> None:
    repeats = book.settings.repeats
    folds = book.settings.folds
    protocol = book.settings.protocol
    tasks = [
        Task(cell.dataset, cell.place, cell.recipe, protocol, number, repeats, folds)
        for cell in cells
        for number in range(repeats)
    ]
    with progress("classical", len(tasks) * folds, "fits") as advance:
        results = _spread(tasks, threads)
        for cell in cells:
            found = [_counted(one, advance) for one in islice(results, repeats)]
            book.add(_measured(cell, found))


def _counted(one: Repetition, advance: Callable[[int], None]) -> Repetition:
    advance(len(one.accuracy))
    return one


def _measured(cell: _Cell, found: Sequence[Repetition]) -> Measured:
    accuracy = [one.accuracy for one in found]
    return Measured(
        dataset=cell.dataset,
        data=cell.data,
        recipe=cell.name,
        what=counts(cell.recipe),
        accuracy=accuracy,
        seconds=sum(one.seconds for one in found) / sum(map(len, accuracy)),
    )


def _spread(tasks: Sequence[Task], threads: int) -> Iterator[Repetition]:
    """Results in the order of the tasks, from this process or from several."""
    if threads == 1:
        yield from map(repetition, tasks)
        return
    with ProcessPoolExecutor(threads, mp_context=get_context("spawn")) as pool:
        yield from pool.map(repetition, tasks)


def _table(book: Book, cells: Sequence[_Cell]) -> list[Row]:
    """A row for each recipe and for what is published of it, a column for each data set."""
    datasets = list(dict.fromkeys(cell.dataset for cell in cells))
    texts: dict[str, Row] = {}
    seconds: dict[str, float] = {}
    for cell in cells:
        row = _known(book, cell)
        assert row is not None  # just measured
        mean, deviation, error = row.summary()
        texts.setdefault(cell.name, {})[cell.dataset] = (
            f"{mean:.3f} ± {deviation:.3f} ({error:.3f})"
        )
        seconds[cell.name] = seconds.get(cell.name, 0.0) + row.seconds / len(datasets)
    rows: list[Row] = []
    for name, text in texts.items():
        rows.append({"recipe": name, **text, "s_a_fit": seconds[name]})
        if name in PUBLISHED:
            known = {
                key: f"{mean:.3f} ± {error:.3f}" for key, (mean, error) in PUBLISHED[name].items()
            }
            rows.append(
                {
                    "recipe": "  published",
                    **{key: known.get(key, "") for key in datasets},
                    "s_a_fit": "",
                }
            )
    return rows
