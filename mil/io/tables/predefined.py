"""Divisions that are not drawn: a file of splits, or a column of the table whose values are left out in turn."""

from collections.abc import Sequence
from pathlib import Path

from mil.config import SplitConfig
from mil.errors import ConfigError, DatasetError, some, unknown_name
from mil.io.tables import Slide
from mil.io.tables.splits import Splits, read_split_file, splits_of


def number_of_folds(
    config: SplitConfig, folds: int, slides: Sequence[Slide], *, allow_missing: bool
) -> int:
    """How many folds a run has; what can be said without reading bags is said here, before anything runs.

    Args:
        config: section `split`.
        folds: what the user set; 1 where a file or a column says how many.
        slides: all slides of the table.
        allow_missing: whether slides and names without each other are left out.

    Raises:
        DatasetError: the file does not fit the table, or the column cannot be used.
        ConfigError: `folds` says another number.
    """
    if config.file is not None:
        found = len(from_file(Path(config.file), slides, allow_missing=allow_missing)[0])
        what = config.file
    elif config.by is not None:
        found = len(set(groups_of(slides, config.by)))
        what = f"column {config.by!r}"
    else:
        return folds
    if folds not in (1, found):
        raise ConfigError(
            f"folds: {folds}, but {what} gives {found}; leave folds out, or say folds={found}"
        )
    return found


def from_file(
    path: Path, slides: Sequence[Slide], *, allow_missing: bool
) -> tuple[list[list[str]], list[str]]:
    """The folds of a file of splits, as they are.

    Args:
        path: a file, or a folder of files with a fold each; see `mil.io.tables.splits`.
        slides: all slides of the table.
        allow_missing: whether slides and names without each other are left out.

    Returns:
        For each fold `train`, `val`, `test` or nothing for each slide; and what to
        tell.

    Raises:
        DatasetError: it cannot be read, a slide or a patient is in two splits, or
            slides and names do not fit.
    """
    file = read_split_file(path)
    found = [splits_of(file, fold, slides) for fold in file.folds]
    told = _left_over(found, "patient" if file.by_patient else "slide")
    if told and not allow_missing:
        raise DatasetError(
            f"{path}: {'; '.join(told)}. Mend the file or the table, or go on without them by "
            "--config allow_missing=true"
        )
    notes = [f"{path}: {line}, left out" for line in told]
    if any(slide.split for slide in slides):
        notes.append(f"the table's column `split` is not used: {path} says the splits")
    return [[fold.of.get(slide.slide, "") for slide in slides] for fold in found], notes


def _left_over(found: Sequence[Splits], what: str) -> list[str]:
    slides = list(dict.fromkeys(name for fold in found for name in fold.without_split))
    names = list(dict.fromkeys(name for fold in found for name in fold.without_slide))
    lines = (
        [f"{len(slides)} slides of the table are in no split ({some(slides)})"] if slides else []
    )
    return lines + (
        [f"{len(names)} names are no {what} of the table ({some(names)})"] if names else []
    )


def groups_of(slides: Sequence[Slide], column: str) -> list[str]:
    """What a column of the table says of each slide.

    Raises:
        DatasetError: there is no such column, a cell is empty, all cells are alike, or
            a patient has two values.
    """
    columns = list(slides[0].subgroups)
    if column not in columns:
        known = (
            "" if columns else "; the table has no columns beyond those with a meaning of their own"
        )
        raise DatasetError(f"split.by: {unknown_name('column', column, columns)}{known}")
    empty = [slide.slide for slide in slides if not slide.subgroups[column]]
    if empty:
        raise DatasetError(
            f"split.by: {len(empty)} slides have no {column} ({some(empty)}); fill in their cells"
        )
    first: dict[str, Slide] = {}
    for slide in slides:
        other = first.setdefault(slide.patient, slide)
        if other.subgroups[column] != slide.subgroups[column]:
            raise DatasetError(
                f"split.by: patient {slide.patient} has two values of {column}: "
                f"{other.subgroups[column]} (slide "
                f"{other.slide}) and {slide.subgroups[column]} (slide {slide.slide}); no fold "
                "could keep them together"
            )
    groups = [slide.subgroups[column] for slide in slides]
    if len(set(groups)) < 2:
        raise DatasetError(
            f"split.by: all slides have the {column} {groups[0]!r}; leaving it out leaves nothing"
        )
    return groups
