"""Files of a slide in the results of a study, by its name and the recipe of the heads."""

from glob import escape
from pathlib import Path
from typing import NamedTuple

from mil.errors import DatasetError, FormatError, some, unknown_name
from mil.io.tables import read_dataset
from mil.io.tables.ids import id_of, valid_id
from mil.io.tables.paths import locate

RESULTS = Path("results")


class SlideFiles(NamedTuple):
    """Files that tiles are chosen and read from.

    Attributes:
        slide: Slide file.
        tiles: Tiles file, or None: the bag was imported.
        bag: Bag, or None: no scores are used.
        score: Score file, or None: no scores are used.
        folds: File of the folds, or None: all heads take part.
    """

    slide: Path
    tiles: Path | None = None
    bag: Path | None = None
    score: Path | None = None
    folds: Path | None = None


def find_results(results: Path | None) -> Path:
    """Folder of a study's results: the named one, or the only one below `results/`.

    Raises:
        DatasetError: There is none, or there are several.
    """
    if results is not None:
        if not results.is_dir():
            raise DatasetError(f"{results}: no such folder; --results is that of a study")
        return results
    studies = sorted(path for path in RESULTS.glob("*") if path.is_dir())
    if len(studies) != 1:
        several = f"there are {some([path.name for path in studies])}" if studies else "none yet"
        raise DatasetError(
            f"{RESULTS}/: holds the results of no single study ({several}); name one with "
            "--results, or the slide's files with --tiles, --bag and --score"
        )
    return studies[0]


def find_slide(name: str, results: Path, slides_dir: Path | None) -> Path:
    """Slide file of a name in a study's slide table.

    Raises:
        DatasetError: The table has no such slide, or its file is not on this disk.
    """
    config, table = read_dataset(results.name)
    rows = {row.slide: row for row in table}
    if name not in rows:
        raise DatasetError(f"{results.name}: {unknown_name('slide', name, rows)}")
    path = locate(rows[name], slides_dir or config.folder(results.name), config)
    if not path.is_file():
        raise DatasetError(
            f"{path}: the slide is not on this disk; its tiles cannot be read without it"
        )
    return path


def find_scored(name: str, results: Path, head: str, encoder: str) -> dict[str, SlideFiles]:
    """Files of a slide below the results of a study, for each set of scores of it.

    Args:
        name: Slide.
        results: Folder of the results.
        head: Recipe of the heads; empty: all.
        encoder: Encoder; empty: all.

    Returns:
        Files by `TILING/ENCODER/HEAD`; the slide file is left to the caller.
    """
    pattern = f"score/*/{escape(encoder) or '*'}/{escape(head) or '*'}/{escape(name)}.h5"
    choices = {}
    for score in sorted(results.glob(pattern)):
        folder = score.parent.relative_to(results / "score")
        tiling, of_encoder, _ = folder.parts
        tiles = results / "tile" / tiling / score.name
        choices[str(folder)] = SlideFiles(
            Path(),
            tiles if tiles.is_file() else None,
            results / "features" / tiling / of_encoder / score.name,
            score,
            _folds(results / "split" / tiling / of_encoder),
        )
    return choices


def find_tiled(name: str, results: Path) -> dict[str, SlideFiles]:
    """Tiles files of a slide below the results of a study, by `TILING`."""
    tiled = sorted(results.glob(f"tile/*/{escape(name)}.h5"))
    return {path.parent.name: SlideFiles(Path(), path) for path in tiled}


def _folds(folder: Path) -> Path | None:
    """File of the folds; None where there is none, or a study was divided several times."""
    files = sorted(folder.glob("folds*.csv"))
    return files[0] if len(files) == 1 else None


def name_of(slide: str) -> str:
    """Name of a slide that is given by its name or by its file."""
    file = Path(slide)
    return id_of(file) if file.is_file() else slide


def files_of_study(
    slide: str,
    results: Path | None,
    *,
    head: str,
    encoder: str,
    slides_dir: Path | None,
    needs_scores: bool,
) -> SlideFiles:
    """Files of one slide in a study.

    Args:
        slide: Name of the slide, or its file.
        results: Folder of the results, or None; see `find_results`.
        head: Recipe of the heads; empty: the only one.
        encoder: Encoder; empty: the only one.
        slides_dir: Folder of the slides; None: that of the dataset.
        needs_scores: Whether tiles are chosen by their scores; else a tiles file is enough.

    Raises:
        DatasetError: The slide, or the choice of a recipe, is not clear.
        FormatError: The study has no such files.
    """
    study = find_results(results)
    file = Path(slide)
    name = name_of(slide)
    if not valid_id(name):
        raise DatasetError(f"{name!r}: cannot be the name of a slide")
    if needs_scores or head:
        choices = find_scored(name, study, head, encoder)
        kind = f"scores by {head}" if head else "scores"
    else:
        choices = find_tiled(name, study)
        kind = "tiles"
    files = _only(name, study, choices, kind)
    if files.bag is not None and not files.bag.is_file():
        raise FormatError(
            f"{files.bag}: no bag of slide {name} in this study, whose bags lie elsewhere; give "
            "--bag and --score"
        )
    path = file if file.is_file() else find_slide(name, study, slides_dir)
    return files._replace(slide=path)


def _only(name: str, study: Path, choices: dict[str, SlideFiles], kind: str) -> SlideFiles:
    if not choices:
        raise FormatError(
            f"{study}: holds no {kind} of slide {name}; see the folders below it, or name the "
            "slide's files with --tiles, --bag and --score"
        )
    if len(choices) > 1:
        raise DatasetError(
            f"{study}: slide {name} has {len(choices)} sets of {kind} "
            f"({some(list(choices), most=6)}); choose one with --head and --encoder, or name the "
            "slide's files with --tiles, --bag and --score"
        )
    return next(iter(choices.values()))
