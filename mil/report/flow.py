"""Flow of patients, slides and tiles from the slide table into the splits."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mil.io.bags.patients import FoldBag
from mil.io.bags.status import SlideState
from mil.io.tables.conventions import SPLITS
from mil.report.study_files import StudyFiles

SPLIT_TITLES = {"train": "training", "val": "validation", "test": "test"}
# Largest number of labels that a box lists.
MOST_LABELS = 6


class Group(NamedTuple):
    """Patients, slides and tiles at one point of the flow."""

    patients: int
    slides: int
    tiles: int | None = None  # None: not tiled yet

    @property
    def lines(self) -> list[str]:
        """The counts, one a line."""
        lines = [count(self.patients, "patient"), count(self.slides, "slide")]
        return lines if self.tiles is None else [*lines, count(self.tiles, "tile")]


class Exclusion(NamedTuple):
    """Slides of one state and reason that did not come through."""

    state: str
    reason: str
    slides: list[str]
    patients: int  # of these slides
    patients_lost: int  # of those, patients of whom no slide came through


class SplitGroup(NamedTuple):
    """A split: of one division its counts, of several folds their ranges."""

    name: str
    groups: list[Group]  # by fold
    labels: list[Mapping[str, int]]  # number of slides by label and fold
    union: Group  # over all folds

    @property
    def title(self) -> str:
        """Name of the split in words."""
        return SPLIT_TITLES.get(self.name, self.name)

    @property
    def lines(self) -> list[str]:
        """The counts, one a line."""
        if len(self.groups) == 1:
            return [*self.groups[0].lines, *self._label_lines()]
        columns = zip(*self.groups, strict=True)
        names = ("patient", "slide", "tile")
        ranges = [
            _range([number or 0 for number in column], name)
            for column, name in zip(columns, names, strict=True)
        ]
        return ["in each fold:", *ranges]

    def _label_lines(self) -> list[str]:
        counts = self.labels[0]
        if not 0 < len(counts) <= MOST_LABELS:
            return []
        return [f"{number:,} {label}" for label, number in sorted(counts.items())]


class Flow(NamedTuple):
    """Flow of one encoder's bags.

    Attributes:
        title: Name of the encoder's folder.
        table: Slide table.
        excluded: Slides without a bag that can be used, by state and reason.
        unreadable_tiles: Tiles of usable slides that could not be read.
        usable: Slides with a bag.
        unassigned: Usable slides in no fold.
        splits: Splits; none where no folds.csv is known.
        num_folds: Number of folds.
    """

    title: str
    table: Group
    excluded: list[Exclusion]
    unreadable_tiles: int
    usable: Group
    unassigned: int
    splits: list[SplitGroup]
    num_folds: int

    @property
    def exclusions(self) -> list[str]:
        """Number of excluded slides of each state; reasons stand in the table of lost slides."""
        numbers: Counter[str] = Counter()
        for exclusion in self.excluded:
            numbers[exclusion.state] += len(exclusion.slides)
        return [f"{count(number, 'slide')}: {state}" for state, number in numbers.items()]


def flows_of(study: StudyFiles) -> list[Flow]:
    """Flow of each encoder; encoders with equal counts are shown once, under the first."""
    flows: list[Flow] = []
    for number, states in enumerate(study.states_by_encoder):
        folds = study.folds[number] if study.folds else []
        title = _title(states, study.bags_dirs[number].name)
        flow = _flow(study, states, folds)._replace(title=title)
        if all(flow._replace(title=other.title) != other for other in flows):
            flows.append(flow)
    return flows


def _title(states: Sequence[SlideState], folder: str) -> str:
    header = next((state.tally.header for state in states if state.tally is not None), None)
    return folder if header is None else f"{header.encoder}, {header.tiling}"


def _flow(study: StudyFiles, states: Sequence[SlideState], folds: Sequence[FoldBag]) -> Flow:
    patient_of = {slide.slide: slide.patient for slide in study.slides}
    usable = [state for state in states if state.state == "ok"]
    num_tiles = {
        state.slide: state.tally.num_tiles - state.tally.num_unreadable
        for state in usable
        if state.tally is not None
    }
    unreadable = sum(state.tally.num_unreadable for state in usable if state.tally is not None)
    in_folds = {slide for bag in folds for slide in bag.slides}
    return Flow(
        title="",
        table=Group(len(set(patient_of.values())), len(patient_of)),
        excluded=_excluded(states, patient_of),
        unreadable_tiles=unreadable,
        usable=_group(num_tiles, patient_of, num_tiles),
        unassigned=len(set(num_tiles) - in_folds) if folds else 0,
        splits=_splits(folds, patient_of, num_tiles),
        num_folds=len({bag.fold for bag in folds}),
    )


def _excluded(states: Sequence[SlideState], patient_of: Mapping[str, str]) -> list[Exclusion]:
    usable = {patient_of[state.slide] for state in states if state.state == "ok"}
    alike: dict[tuple[str, str], list[str]] = {}
    for state in states:
        if state.state != "ok":
            alike.setdefault((state.state, state.reason), []).append(state.slide)
    excluded = []
    for (name, reason), slides in sorted(alike.items()):
        patients = {patient_of[slide] for slide in slides}
        excluded.append(Exclusion(name, reason, slides, len(patients), len(patients - usable)))
    return excluded


def _splits(
    folds: Sequence[FoldBag], patient_of: Mapping[str, str], num_tiles: Mapping[str, int]
) -> list[SplitGroup]:
    numbers = sorted({bag.fold for bag in folds})
    splits = []
    for name in SPLITS:
        of_split = [bag for bag in folds if bag.split == name]
        if not of_split:
            continue
        by_fold = [[bag for bag in of_split if bag.fold == number] for number in numbers]
        splits.append(
            SplitGroup(
                name,
                [_group(_slides(bags), patient_of, num_tiles) for bags in by_fold],
                [_labels(bags) for bags in by_fold],
                _group(_slides(of_split), patient_of, num_tiles),
            )
        )
    return splits


def _slides(bags: Iterable[FoldBag]) -> set[str]:
    return {slide for bag in bags for slide in bag.slides}


def _labels(bags: Iterable[FoldBag]) -> dict[str, int]:
    """Number of slides by label."""
    counts: Counter[str] = Counter()
    for bag in bags:
        counts[bag.label] += len(bag.slides)
    return dict(counts)


def _group(
    slides: Iterable[str], patient_of: Mapping[str, str], num_tiles: Mapping[str, int]
) -> Group:
    # A folds.csv may be of an earlier slide table.
    names = [slide for slide in slides if slide in patient_of]
    tiles = sum(num_tiles.get(slide, 0) for slide in names)
    return Group(len({patient_of[slide] for slide in names}), len(names), tiles)


def count(number: int, name: str) -> str:
    """`1 slide`, `12,345 tiles`."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def _range(numbers: Sequence[int], name: str) -> str:
    least, most = min(numbers), max(numbers)
    return count(least, name) if least == most else f"{least:,} to {count(most, name)}"
