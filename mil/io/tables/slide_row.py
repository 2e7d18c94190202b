"""A row of the slide table: its cells, checked, as a slide."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

from mil.config import DatasetConfig
from mil.errors import unknown_name
from mil.io.tables.conventions import SPLIT_WORDS, SPLITS
from mil.io.tables.faults import Faults
from mil.io.tables.ids import id_fault, valid_id
from mil.text import is_empty, number_in

COLUMNS = (
    "slide",
    "patient",
    "path",
    "url",
    "label",
    "split",
    "mpp",
    "annotation",
    "annotation_url",
    "tissue",
    "region",
    "checksum",
    "scene",
)
# Columns of paths below the slides' folder.
IN_FOLDER = ("path", "annotation", "tissue", "region")
# Columns of URLs: the column of the path that each is saved to, else the key of the dataset's
# yaml whose first pattern it is saved to.
SAVED_TO = {"url": ("path", "slide_paths"), "annotation_url": ("annotation", "annotation_paths")}
# Micrometres per pixel; a larger number is another unit.
LARGEST_MPP = 1000


class LabelGrammar(NamedTuple):
    """What a task says about labels; its functions raise ValueError."""

    columns: tuple[str, ...]  # may stand for `label`; empty: none
    join: Callable[..., str]  # cells of these columns -> label
    check: Callable[[str], str]  # label as written -> canonical label


@dataclass(frozen=True)
class Slide:
    """One row of the slide table; an empty field: not given.

    Attributes:
        slide: the slide's id.
        patient: the patient's id; the slide's, where the table names none.
        label: label in the grammar of the dataset's task.
        path: file below the slides' folder.
        url: address that the file can be fetched from.
        split: train, val or test.
        mpp: micrometres per pixel of level 0.
        annotation: file of annotated regions below the slides' folder.
        annotation_url: address that the annotation can be fetched from.
        tissue: the user's tissue mask below the slides' folder.
        region: the user's mask of the region that tiles may come from.
        checksum: checksum of the slide's file.
        scene: name or number of the image that is the slide, in a file of several.
        subgroups: values of all other columns, by column.
    """

    slide: str
    patient: str
    label: str
    path: str = ""
    url: str = ""
    split: str = ""
    mpp: float | None = None
    annotation: str = ""
    annotation_url: str = ""
    tissue: str = ""
    region: str = ""
    checksum: str = ""
    scene: str = ""
    subgroups: dict[str, str] = field(default_factory=dict)


def slide_of_row(
    row: dict[str, str],
    column_names: dict[str, str],
    line: str,
    grammar: LabelGrammar,
    dataset: DatasetConfig,
    faults: Faults,
) -> Slide | None:
    """Slide of a row; None where it has a fault."""
    values = {column: row.get(name, "") for column, name in column_names.items()}
    slide = values["slide"]
    if not valid_id(slide):
        faults.add(f": slide id {slide!r} {id_fault(slide)}", line)
        return None
    # Each fault of the row is told, not only its first.
    problems: list[str] = []
    values["label"] = _label(values, grammar, problems)
    # Spreadsheets capitalise the first letter of a cell.
    split = values["split"].lower()
    values["split"] = SPLIT_WORDS.get(split, split)
    if values["split"] and values["split"] not in SPLITS:
        problems.append(f": {unknown_name('split', values['split'], SPLITS)}")
    problems += _path_problems(values, dataset)
    mpp = _mpp(values.pop("mpp"), problems)
    for problem in problems:
        faults.add(problem, f"{line}: slide {slide}")
    if problems:
        return None
    patient = values.pop("patient") or slide
    ours = set(column_names.values())
    subgroups = {name: value for name, value in row.items() if name not in ours}
    return Slide(**values, patient=patient, mpp=mpp, subgroups=subgroups)


def _label(values: dict[str, str], grammar: LabelGrammar, problems: list[str]) -> str:
    """The label, in the grammar of the dataset's task."""
    label = values.get("label", "")
    cells = [values.pop(column) for column in grammar.columns if column in values]
    try:
        if cells:
            label = grammar.join(*cells)
        return grammar.check(label)
    except ValueError as error:
        problem = f": label {label!r}"
        if is_empty(label):
            problem = f" has no label ({label!r})" if label else " has no label"
        problems.append(f"{problem}; {error}")
        return label


def _path_problems(values: dict[str, str], dataset: DatasetConfig) -> Iterator[str]:
    """Paths that leave the slides' folder, and URLs without a path in it."""
    for column in IN_FOLDER:
        if ".." in PurePosixPath(values[column].replace("\\", "/")).parts:
            yield f": {column} {values[column]!r} leaves the slides' folder by '..'"
    for url, (column, key) in SAVED_TO.items():
        path = values[column] or _first_with_ending(getattr(dataset, key))
        if values[url] and not _is_below(path):
            yield f": {url} needs a {column} inside the slides' folder to save to"


def _first_with_ending(patterns: Sequence[str]) -> str:
    """The first pattern, if it names files with an ending, which readers choose by."""
    first = next(iter(patterns), "")
    return first if PurePosixPath(first).suffix else ""


def _is_below(path: str) -> bool:
    """Whether a path stays below the folder that it is relative to."""
    pure = PurePosixPath(path.replace("\\", "/"))
    return bool(path) and not pure.is_absolute() and ".." not in pure.parts


def _mpp(text: str, problems: list[str]) -> float | None:
    if not text:
        return None
    # None is out of range, as an impossible number is.
    mpp = number_in(text)
    if mpp is None or not 0 < mpp < LARGEST_MPP:
        problems.append(f": mpp {text!r} is not a number of micrometres per pixel, such as 0.25")
    return mpp
