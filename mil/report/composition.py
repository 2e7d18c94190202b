"""Section of the report: scanners, pixel sizes, quality and sites of the slides by split."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from mil.errors import some
from mil.io.bags.patients import FoldBag
from mil.io.probe import probe
from mil.io.tables.conventions import SPLITS
from mil.io.tiles import FLAG, TilesSummary, read_summary
from mil.report.flow import SPLIT_TITLES, count
from mil.report.page_section import PageSection
from mil.report.study_files import StudyFiles

# A column with more values than this is counted, not listed.
MOST_VALUES = 12
NOT_RECORDED = "not recorded"
EMPTY = "(empty)"
UNASSIGNED = "in no split"
# Share of a slide's tiles from which the table counts the slide as flagged.
FLAGGED_SHARE = 0.1


class Property(NamedTuple):
    """A property of slides: a row for each value, a column for each split."""

    name: str
    rows: list[list[str]]


class Composition(NamedTuple):
    """Slides of each split: the columns of the table, and what is in it.

    Attributes:
        header: Name of each split.
        sizes: Number of its slides, as text.
        properties: Properties of the slides.
        notes: Sentences below the table.
    """

    header: list[str]
    sizes: list[str]
    properties: list[Property]
    notes: list[str]


def section(composition: Composition) -> PageSection:
    """Table of the properties of slides by split."""
    return PageSection("composition", "Slides by split", composition._asdict())


def composition_of(study: StudyFiles, summaries: Mapping[str, TilesSummary]) -> Composition:
    """Properties of the slides of each split.

    With several folds the splits are those of the first; every fold has the same slides.
    """
    splits = split_of_slides(study)
    names = [name for name in (*SPLITS, UNASSIGNED) if name in splits.values()]
    columns = [[slide for slide, split in splits.items() if split == name] for name in names]
    return Composition(
        header=[SPLIT_TITLES.get(name, name) for name in names],
        sizes=[count(len(slides), "slide") for slides in columns],
        properties=_properties(study, summaries, columns),
        notes=_notes(study, splits),
    )


def read_summaries(study: StudyFiles) -> dict[str, TilesSummary]:
    """Scale and flags of each slide, from the tiles files of the first encoder."""
    if not study.tiles_dirs:
        return {}
    paths = {slide.slide: study.tiles_dirs[0] / f"{slide.slide}.h5" for slide in study.slides}
    existing = {name: path for name, path in paths.items() if path.exists()}
    # Together: each probe on its own starts a process.
    probe(list(existing.values()))
    return {name: read_summary(path) for name, path in existing.items()}


def split_of_slides(study: StudyFiles) -> dict[str, str]:
    """Split of each slide that can be used, in the first fold; else by predictions or table."""
    states = {state.slide: state.state for state in study.states}
    splits = {slide: bag.split for slide, bag in _first_fold(study)}
    if not splits:
        splits = {
            row.slide: row.split
            for head in study.heads[:1]
            for row in reversed(head.predictions)
            if head.metrics.fusion == "late"
        }
    return {
        slide.slide: splits.get(slide.slide, slide.split) or UNASSIGNED
        for slide in study.slides
        if states[slide.slide] == "ok"
    }


def _first_fold(study: StudyFiles) -> Iterable[tuple[str, FoldBag]]:
    folds = study.folds[0] if study.folds else []
    first = min((bag.fold for bag in folds), default=0)
    return ((slide, bag) for bag in folds if bag.fold == first for slide in bag.slides)


def _properties(
    study: StudyFiles, summaries: Mapping[str, TilesSummary], columns: Sequence[Sequence[str]]
) -> list[Property]:
    properties = [
        _counted("scanner", lambda slide: _scanner(summaries.get(slide)), columns),
        _counted("pixel size of level 0", _pixel_size(study, summaries), columns),
        _counted("source of the pixel size", lambda slide: _source(summaries.get(slide)), columns),
        *_table_columns(study, columns),
        *_flags(summaries, columns),
    ]
    return [one for one in properties if one is not None]


def _counted(
    name: str, value: Callable[[str], str], columns: Sequence[Sequence[str]]
) -> Property | None:
    """Number of slides with each value; None where no slide has any."""
    counts = [Counter(map(value, slides)) for slides in columns]
    values = sorted(set().union(*counts))
    if not set(values) - {NOT_RECORDED, EMPTY}:
        return None
    if len(values) > MOST_VALUES:
        return Property(name, [["different values", *(str(len(one)) for one in counts)]])
    return Property(name, [[text, *(str(one[text]) for one in counts)] for text in values])


def _scanner(summary: TilesSummary | None) -> str:
    return (summary.facts.scanner if summary else "") or NOT_RECORDED


def _source(summary: TilesSummary | None) -> str:
    return (summary.facts.mpp_source if summary else "") or NOT_RECORDED


def _pixel_size(study: StudyFiles, summaries: Mapping[str, TilesSummary]) -> Callable[[str], str]:
    states = {state.slide: state for state in study.states}

    def value(slide: str) -> str:
        summary = summaries.get(slide)
        tally = states[slide].tally
        mpp = summary.facts.mpp_level0 if summary else tally and tally.header.mpp_level0
        return f"{mpp:.4g} µm" if mpp else NOT_RECORDED

    return value


def _table_columns(study: StudyFiles, columns: Sequence[Sequence[str]]) -> list[Property | None]:
    """Each further column of the slide table, such as site or scanner."""
    cells = {slide.slide: slide.subgroups for slide in study.slides}
    names = list(dict.fromkeys(name for row in cells.values() for name in row))
    properties = []
    for name in names:

        def value(slide: str, name: str = name) -> str:
            return cells[slide].get(name) or EMPTY

        properties.append(_counted(f"column {name}", value, columns))
    return properties


def _flags(
    summaries: Mapping[str, TilesSummary], columns: Sequence[Sequence[str]]
) -> list[Property]:
    """For each flag the share of tiles, and the slides with many such tiles."""
    known = [[summaries[slide] for slide in slides if slide in summaries] for slides in columns]
    rows = [[flag, *(_flag_cell(of_split, flag) for of_split in known)] for flag in FLAG]
    if not any(one.num_tiles for of_split in known for one in of_split):
        return []
    return [Property("tiles flagged (slides with at least 10 % of tiles flagged)", rows)]


def _flag_cell(summaries: Sequence[TilesSummary], flag: str) -> str:
    tiles = sum(one.num_tiles for one in summaries if flag in one.num_flagged)
    if not tiles:
        return "–"
    flagged = sum(one.num_flagged.get(flag, 0) for one in summaries)
    many = [
        one
        for one in summaries
        if one.num_flagged.get(flag, 0) >= FLAGGED_SHARE * one.num_tiles > 0
    ]
    return f"{100 * flagged / tiles:.1f} % ({len(many)})"


def _notes(study: StudyFiles, splits: Mapping[str, str]) -> list[str]:
    """Whether patients, sites and scanners are in training and test."""
    patient_of = {slide.slide: slide.patient for slide in study.slides}
    notes = []
    shared = overlap(splits, patient_of)
    if shared:
        notes.append(f"Patients in training or validation and in test: {some(sorted(shared))}.")
    else:
        notes.append("No patient is in two splits.")
    cells = {slide.slide: slide.subgroups for slide in study.slides}
    for name in dict.fromkeys(name for row in cells.values() for name in row):
        values = {slide: row.get(name, "") for slide, row in cells.items()}
        known = {value for value in values.values() if value}
        if not 1 < len(known) <= MOST_VALUES:
            continue
        both = overlap(splits, values) - {""}
        test = {values[slide] for slide, split in splits.items() if split == "test"} - {""}
        if test:
            notes.append(
                f"Column {name}: {len(both)} of the {count(len(test), 'value')} of the test slides "
                "are in training or validation too."
            )
    if study.folds and len({bag.fold for bag in study.folds[0]}) > 1:
        notes.append("Splits are those of the first fold.")
    return notes


def overlap(splits: Mapping[str, str], values: Mapping[str, str]) -> set[str]:
    """Values that slides of the test have in common with slides of training or validation."""
    test = {values[slide] for slide, split in splits.items() if split == "test"}
    others = {values[slide] for slide, split in splits.items() if split in ("train", "val")}
    return test & others
