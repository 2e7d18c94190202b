"""Slide table and states in, folds.csv out."""

from collections.abc import Sequence
from pathlib import Path

from mil.config import Fusion, SplitConfig
from mil.errors import DatasetError
from mil.io.bags.patients import BAG, HELD_OUT
from mil.io.bags.status import gather, summary
from mil.io.tables import Slide, read_dataset, write_csv
from mil.io.tables.checks import check_folds, check_labels, doubts
from mil.io.tables.predefined import from_file, groups_of, number_of_folds
from mil.split.duplicates import check_twins, find_twins
from mil.split.folds import leave_one_out, make_folds, with_val
from mil.split.strata import stratified
from mil.tasks import Task, task_of

COLUMNS = ("fold", "slide", "patient", "label", "split")


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
    """Divide the patients whose slides came through.

    Args:
        dataset: name or yaml of the dataset.
        tiles_dir: folder of the tiles files; None where the bags are ready.
        bags_dir: folder of the bags; states found while reading tiles stand there.
        out: folds.csv, one row for each slide and fold.
        folds: how many; 1 where `split.file` or `split.by` say how many.
        allow_missing: go on without slides that are not `ok`.
        config: section `split`.
        fusion: `early`: the slides of a patient become one bag, which folds.csv says.

    Returns:
        `N in, N out`, and why; then what should be known of the folds.

    Raises:
        ConfigError: `folds` is not the number of folds of the file or the column.
        DatasetError: a slide is not `ok` and that is not allowed, the patients cannot
            be divided, or the folds leak.
    """
    settings, slides = read_dataset(dataset)
    check_labels(slides, early=fusion == "early")
    folds = number_of_folds(config, folds, slides, allow_missing=allow_missing)
    states = gather(
        [slide.slide for slide in slides], [] if tiles_dir is None else [tiles_dir], [bags_dir]
    )
    lost = [state for state in states if state.state != "ok"]
    if lost and not allow_missing:
        raise DatasetError(
            f"{len(lost)} of {len(slides)} slides cannot be used; mend or remove them, or go on "
            "without them by "
            f"--config allow_missing=true\n{summary(states)}"
        )
    usable = [slide for slide, state in zip(slides, states, strict=True) if state.state == "ok"]
    if not usable:
        raise DatasetError(f"no slide can be used\n{summary(states)}")
    # Everyone is divided, usable or not: a slide that is mended later, or another
    # encoder, moves nobody.
    divided, held_out, notes = _divide(
        slides, task_of(settings), folds, config, allow_missing=allow_missing
    )
    rows = _rows(
        slides, divided, held_out, {slide.slide for slide in usable}, early=fusion == "early"
    )
    check_folds(rows)
    splits = [
        {slide.slide: split for slide, split in zip(slides, fold, strict=True)} for fold in divided
    ]
    notes += check_twins(find_twins(usable, bags_dir), splits) + doubts(
        rows, task_of(settings).content
    )
    write_csv(out, rows, list(rows[0]))
    return "\n".join([summary(states), *(f"note: {note}" for note in notes)])


def _divide(
    slides: Sequence[Slide],
    task: Task,
    folds: int,
    config: SplitConfig,
    *,
    allow_missing: bool,
) -> tuple[list[list[str]], list[str], list[str]]:
    """For each fold the split of each slide; the value that it holds out, if there is one; and what to tell."""
    slides = stratified(slides, task)
    if config.file is not None:
        given, notes = from_file(Path(config.file), slides, allow_missing=allow_missing)
        drawn = [
            with_val(slides, names, val_share=config.val_share, seed=config.seed) for names in given
        ]
        if drawn != given:
            notes.append(
                f"{config.file} names no val: {config.val_share:g} of the training patients are"
            )
        return drawn, [], notes
    if config.by is not None:
        groups = groups_of(slides, config.by)
        left_out = leave_one_out(slides, groups, val_share=config.val_share, seed=config.seed)
        named = any(slide.split for slide in slides)
        notes = (
            [f"the table's column `split` is not used: split.by={config.by} says the splits"]
            if named
            else []
        )
        return list(left_out.values()), list(left_out), notes
    drawn = make_folds(
        slides,
        folds,
        val_share=config.val_share,
        test_share=config.test_share,
        seed=config.seed,
        every_label=task.every_label,
    )
    return drawn, [], []


def _rows(
    slides: Sequence[Slide],
    divided: Sequence[Sequence[str]],
    held_out: Sequence[str],
    usable: set[str],
    *,
    early: bool,
) -> list[dict[str, object]]:
    """Rows of folds.csv: of each fold the usable slides that are in a split."""
    return [
        {
            **dict(
                zip(COLUMNS, (fold, slide.slide, slide.patient, slide.label, split), strict=True)
            ),
            **({HELD_OUT: held_out[fold]} if held_out else {}),
            **({BAG: slide.patient} if early else {}),
        }
        for fold, splits in enumerate(divided)
        for slide, split in zip(slides, splits, strict=True)
        if split and slide.slide in usable
    ]
