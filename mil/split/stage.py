"""Slide table and states of the slides in, folds.csv out."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mil.config import Fusion, SplitConfig, dataset_path
from mil.errors import DatasetError
from mil.io.atomic import check_not_inputs
from mil.io.bags.patients import BAG, HELD_OUT
from mil.io.bags.status import gather, summary
from mil.io.tables import Slide, read_dataset, write_csv
from mil.io.tables.checks import check_folds, check_labels, of_table, warnings_of
from mil.io.tables.predefined import from_file, groups_of, number_of_folds
from mil.split.duplicates import check_duplicates, find_duplicates
from mil.split.folds import leave_one_out, make_folds, with_val
from mil.split.strata import stratified
from mil.tasks import Task, task_of

COLUMNS = ("fold", "slide", "patient", "label", "split")


class Division(NamedTuple):
    """Splits of all slides.

    Attributes:
        splits: For each fold the split of each slide: `train`, `val`, `test` or empty.
        held_out: For each fold the value of the column that it holds out; empty unless
            `split.by` divides.
        notes: Sentences that the user should read.
    """

    splits: list[list[str]]
    held_out: list[str]
    notes: list[str]


def run(
    dataset: str,
    tiles_dir: Path | None,
    bags_dir: Path,
    out: Path,
    *,
    folds: int,
    allow_missing: bool,
    config: SplitConfig,
    fusion: Fusion = "late",
) -> str:
    """Divide the patients whose slides can be used.

    Args:
        dataset: Name of the dataset, or path of its yaml.
        tiles_dir: Folder of the tiles files; None for precomputed bags.
        bags_dir: Folder of the bags, which hold states found while tiles were read.
        out: File to write, folds.csv: one row for each slide and fold.
        folds: Number of folds; 1 where `split.file` or `split.by` define it.
        allow_missing: Continue without slides that are not `ok`.
        config: Section `split` of the configuration.
        fusion: Use of several slides of a patient; `early`: they are one bag, named in
            the column `bag`.

    Returns:
        Count of slides in and out with the reasons, then notes about the folds.

    Raises:
        ConfigError: `folds` differs from the number of folds of the file or the column.
        DatasetError: A slide is not `ok` and `allow_missing` is false, the patients cannot
            be divided, or a patient is in two splits.
    """
    yaml = dataset_path(dataset)
    file = None if config.file is None else Path(config.file)
    check_not_inputs([out], [yaml, yaml.with_suffix(".csv"), file])
    settings, slides = read_dataset(dataset)
    task = task_of(settings)
    with of_table(yaml.with_suffix(".csv")):
        check_labels(slides, early=fusion == "early")
    folds = number_of_folds(config, folds, slides, allow_missing=allow_missing)
    tiles_dirs = [] if tiles_dir is None else [tiles_dir]
    states = gather([slide.slide for slide in slides], tiles_dirs, [bags_dir])
    usable = [slide for slide, state in zip(slides, states, strict=True) if state.state == "ok"]
    num_lost = len(slides) - len(usable)
    if num_lost and not allow_missing:
        raise DatasetError(
            f"{num_lost} of {len(slides)} slides cannot be used; mend or remove them, or "
            "continue without them by --config allow_missing=true, or by --allow-missing of mil "
            f"split\n{summary(states)}"
        )
    if not usable:
        raise DatasetError(f"no slide can be used\n{summary(states)}")
    # All slides are divided, usable or not: a slide that is mended later, or another
    # encoder, must not move a patient to another split.
    division = _divide(slides, task, folds, config, allow_missing=allow_missing)
    usable_ids = {slide.slide for slide in usable}
    rows = _rows(slides, division, usable_ids, early=fusion == "early")
    # Predefined splits may have a patient in two splits, and slides that cannot be used
    # may have been all of a class.
    check_folds(rows)
    ids = [slide.slide for slide in slides]
    splits_by_slide = [dict(zip(ids, fold, strict=True)) for fold in division.splits]
    notes = [
        *division.notes,
        *check_duplicates(find_duplicates(usable, bags_dir), splits_by_slide),
        *warnings_of(rows, task.content),
    ]
    write_csv(out, rows, list(rows[0]))
    return "\n".join([summary(states), *(f"note: {note}" for note in notes)])


def _divide(
    slides: Sequence[Slide], task: Task, folds: int, config: SplitConfig, *, allow_missing: bool
) -> Division:
    # Strata replace the labels for the division only; folds.csv has the labels of the
    # table.
    slides = stratified(slides, task)
    if config.file is not None:
        return _predefined(slides, config, config.file, allow_missing=allow_missing)
    if config.by is not None:
        return _by_column(slides, config, config.by)
    splits = make_folds(
        slides,
        folds,
        val_share=config.val_share,
        test_share=config.test_share,
        seed=config.seed,
        every_label=task.every_label,
    )
    return Division(splits, [], [])


def _predefined(
    slides: Sequence[Slide], config: SplitConfig, file: str, *, allow_missing: bool
) -> Division:
    """Splits of a file; where it has no validation, it is drawn from training."""
    predefined, notes = from_file(Path(file), slides, allow_missing=allow_missing)
    complete = [
        with_val(slides, fold, val_share=config.val_share, seed=config.seed) for fold in predefined
    ]
    if complete != predefined:
        notes.append(
            f"{file} names no val: {config.val_share:g} of the training patients are drawn for it"
        )
    return Division(complete, [], notes)


def _by_column(slides: Sequence[Slide], config: SplitConfig, column: str) -> Division:
    """Each value of a column is the test of one fold."""
    groups = groups_of(slides, column)
    splits_by_group = leave_one_out(slides, groups, val_share=config.val_share, seed=config.seed)
    notes = []
    if any(slide.split for slide in slides):
        notes.append(f"the table's column `split` is not used: split.by={column} sets the splits")
    return Division(list(splits_by_group.values()), list(splits_by_group), notes)


def _rows(
    slides: Sequence[Slide], division: Division, usable: set[str], *, early: bool
) -> list[dict[str, object]]:
    """Rows of folds.csv: of each fold the usable slides that are in a split."""
    rows: list[dict[str, object]] = []
    for fold, splits in enumerate(division.splits):
        for slide, split in zip(slides, splits, strict=True):
            if not split or slide.slide not in usable:
                continue
            cells = (fold, slide.slide, slide.patient, slide.label, split)
            row: dict[str, object] = dict(zip(COLUMNS, cells, strict=True))
            if division.held_out:
                row[HELD_OUT] = division.held_out[fold]
            if early:
                row[BAG] = slide.patient
            rows.append(row)
    return rows
