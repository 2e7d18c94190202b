"""Slide table and states in, folds.csv out."""

from pathlib import Path

from mil.config import SplitConfig
from mil.errors import DatasetError
from mil.io.tables import read_dataset, write_csv
from mil.split.folds import check_folds, make_folds
from mil.states import gather, summary

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
) -> str:
    """Divide the patients whose slides came through.

    Args:
        dataset: name or yaml of the dataset.
        tiles_dir: folder of the tiles files; None where the bags are ready.
        bags_dir: folder of the bags; states found while reading tiles stand there.
        out: folds.csv, one row for each slide and fold.
        folds: how many.
        allow_missing: go on without slides that are not `ok`.
        config: section `split`.

    Returns:
        `N in, N out`, and why.

    Raises:
        DatasetError: a slide is not `ok` and that is not allowed, or the patients cannot be divided.
    """
    _, slides = read_dataset(dataset)
    states = gather([slide.slide for slide in slides], [] if tiles_dir is None else [tiles_dir], [bags_dir])
    lost = [state for state in states if state.state != "ok"]
    if lost and not allow_missing:
        raise DatasetError(
            f"{len(lost)} of {len(slides)} slides cannot be used; mend or remove them, or go on without them by "
            f"--config allow_missing=true\n{summary(states)}"
        )
    usable = [slide for slide, state in zip(slides, states, strict=True) if state.state == "ok"]
    if not usable:
        raise DatasetError(f"no slide can be used\n{summary(states)}")
    # Everyone is divided, usable or not: a slide that is mended later, or another encoder, moves nobody.
    splits = make_folds(slides, folds, val_share=config.val_share, test_share=config.test_share, seed=config.seed)
    names = {slide.slide for slide in usable}
    rows = [
        {"fold": fold, "slide": slide.slide, "patient": slide.patient, "label": slide.label, "split": split}
        for fold, parts in enumerate(splits)
        for slide, split in zip(slides, parts, strict=True)
        if slide.slide in names
    ]
    check_folds(rows)
    write_csv(out, rows, COLUMNS)
    return summary(states)
