"""Splits that are not drawn: from a file, or by a column whose values are left out in turn."""

from collections.abc import Sequence
from pathlib import Path

from mil.config import SplitConfig
from mil.errors import ConfigError, DatasetError, some, unknown_name
from mil.io.tables import Slide
from mil.io.tables.splits import Splits, read_split_file, splits_of


def number_of_folds(
    config: SplitConfig, folds: int, slides: Sequence[Slide], *, allow_missing: bool
) -> int:
    """Number of folds of a run; faults that show without bags are raised before anything runs.

    Args:
        config: section `split`.
        folds: number of folds in the configuration; 1 where a file or a column decides.
        slides: all slides of the table.
        allow_missing: whether slides and names without each other are left out.

    Raises:
        DatasetError: the file does not fit the table, or the column cannot be used.
        ConfigError: `folds` is another number.
    """
    if config.file is not None:
        by_fold, _ = from_file(Path(config.file), slides, allow_missing=allow_missing)
        number = len(by_fold)
        source = config.file
    elif config.by is not None:
        number = len(set(groups_of(slides, config.by)))
        source = f"column {config.by!r}"
    else:
        return folds
    # 1 is the default, so that it may stand there unset.
    if folds not in (1, number):
        raise ConfigError(
            f"folds: {folds}, but {source} gives {number}; leave folds out, or say folds={number}"
        )
    return number


def from_file(
    path: Path, slides: Sequence[Slide], *, allow_missing: bool
) -> tuple[list[list[str]], list[str]]:
    """The folds of a file of splits.

    Args:
        path: a file, or a folder of files with a fold each; see `mil.io.tables.splits`.
        slides: all slides of the table.
        allow_missing: whether slides and names without each other are left out.

    Returns:
        For each fold `train`, `val`, `test` or nothing for each slide; and notes for
        the user.

    Raises:
        DatasetError: the file cannot be read, a slide or a patient is in two splits, or
            slides and names do not fit.
    """
    file = read_split_file(path)
    by_fold = [splits_of(file, fold, slides) for fold in file.folds]
    unmatched = _unmatched(by_fold, "patient" if file.by_patient else "slide")
    # Slides that fall out silently would change the study.
    if unmatched and not allow_missing:
        raise DatasetError(
            f"{path}: {'; '.join(unmatched)}. Mend the file or the table, or go on without them by "
            "--config allow_missing=true, or by --allow-missing of mil split"
        )
    notes = [f"{path}: {line}, left out" for line in unmatched]
    if any(slide.split for slide in slides):
        notes.append(f"the table's column `split` is not used: {path} says the splits")
    return [[splits.of.get(slide.slide, "") for slide in slides] for splits in by_fold], notes


def _unmatched(by_fold: Sequence[Splits], kind: str) -> list[str]:
    """A line on slides without a split, and one on names without a slide."""
    slides = dict.fromkeys(name for splits in by_fold for name in splits.without_split)
    names = dict.fromkeys(name for splits in by_fold for name in splits.without_slide)
    lines = []
    if slides:
        lines.append(f"{len(slides)} slides of the table are in no split ({some(list(slides))})")
    if names:
        lines.append(f"{len(names)} names are no {kind} of the table ({some(list(names))})")
    return lines


def groups_of(slides: Sequence[Slide], column: str) -> list[str]:
    """Value of a column of the table for each slide.

    Raises:
        DatasetError: there is no such column, a cell is empty, all cells are alike, or
            a patient has two values.
    """
    columns = list(slides[0].subgroups)
    if column == "patient":
        raise DatasetError(
            "split.by: not by patient, each of whom would be a test set; set folds to the number "
            "of folds into which patients are divided"
        )
    if column not in columns:
        message = unknown_name("column", column, columns)
        if not columns:
            message += "; the table has no columns beyond those with a meaning of their own"
        raise DatasetError(f"split.by: {message}")
    empty = [slide.slide for slide in slides if not slide.subgroups[column]]
    if empty:
        raise DatasetError(
            f"split.by: {len(empty)} slides have no {column} ({some(empty)}); fill in their cells"
        )
    _check_one_value(slides, column)
    groups = [slide.subgroups[column] for slide in slides]
    if len(set(groups)) < 2:
        raise DatasetError(
            f"split.by: all slides have the {column} {groups[0]!r}; leaving it out leaves nothing"
        )
    return groups


def _check_one_value(slides: Sequence[Slide], column: str) -> None:
    """Refuse a patient with two values of a column."""
    first_slides: dict[str, Slide] = {}
    for slide in slides:
        first = first_slides.setdefault(slide.patient, slide)
        value = slide.subgroups[column]
        first_value = first.subgroups[column]
        if value != first_value:
            raise DatasetError(
                f"split.by: patient {slide.patient} has two values of {column}: {first_value} "
                f"(slide {first.slide}) and {value} (slide {slide.slide}); no fold could keep "
                "them together"
            )
