"""Section of the report: Kaplan-Meier curves of patients at high and low predicted risk."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from mil.io.results import Prediction
from mil.report.figures.blocks import Block, Figure, Key, Note, Table, section
from mil.report.figures.style import (
    BAND,
    BOTTOM,
    COLOURS,
    PANELS,
    coarse,
    figure,
    name_axes,
    panels,
    shorten,
    styled,
    vertices,
)
from mil.report.page_section import PageSection
from mil.report.study_files import ReportedHead, StudyFiles
from mil.statistics.arrays import Numbers
from mil.statistics.kaplan_meier import (
    Events,
    LogRank,
    SurvivalCurve,
    kaplan_meier,
    log_rank,
    number_at_risk,
)
from mil.statistics.text import probability, with_interval

GROUPS = ("low risk", "high risk")
GROUP_COLOURS = (COLOURS[0], COLOURS[1])
TICKS = 4  # times at which the number at risk stands below a panel
MOST_MARKS = 25  # censored patients of a group that are marked
MARK = 0.025  # half the height of a mark


class RiskGroups(NamedTuple):
    """Test patients of a head with their times, and who is at high risk."""

    name: str
    times: Numbers
    events: Events
    high: np.ndarray  # 1 or 0
    source: str  # split whose median risk divides the groups
    n_mixed: int  # patients left out, whose slides have different times
    head: ReportedHead


class Side(NamedTuple):
    """Patients of one group."""

    times: Numbers
    events: Events
    curve: SurvivalCurve


def build(study: StudyFiles) -> PageSection | None:
    """Survival of the test patients by risk group; None for other tasks."""
    if "time" not in study.task.label_columns:
        return None
    groups = [_risk_groups(study, head) for head in study.heads]
    known = [one for one in groups if one is not None and len(one.times)]
    if not known:
        return None
    blocks: list[Block] = []
    if any(one.events.any() for one in known):
        blocks.append(_figure(known))
        blocks.append(_table(known))
    else:
        text = (
            f"No survival curves: no event was observed among {len(known[0].times)} test patients."
        )
        blocks.append(Note(text))
    blocks += _notes(known)
    return section("survival", "Survival by predicted risk", blocks)


def _risk_groups(study: StudyFiles, head: ReportedHead) -> RiskGroups | None:
    """Patients above the median risk of validation patients, mean over the runs."""
    column = study.task.column_of_interest
    split = next(
        (name for name in ("val", "train", "test") if _has(head.predictions, name)), "test"
    )
    medians = _medians(head.predictions, split, column)
    of_patient: dict[str, list[Prediction]] = {}
    for row in head.predictions:
        if row.split == "test":
            of_patient.setdefault(row.patient, []).append(row)
    if not of_patient:
        return None
    # A patient whose slides have different times is at none of them.
    single = [rows for rows in of_patient.values() if len({row.label for row in rows}) == 1]
    targets = np.array([study.task.target(rows[0].label) for rows in single]).reshape(-1, 2)
    risks = [np.mean([row.predictions[column] for row in rows]) for rows in single]
    cuts = [np.mean([_cut(medians, row) for row in rows]) for rows in single]
    return RiskGroups(
        name=head.metrics.name,
        times=targets[:, 0],
        events=targets[:, 1] > 0,
        high=(np.array(risks) > np.array(cuts)).astype(int),
        source=split,
        n_mixed=len(of_patient) - len(single),
        head=head,
    )


def _has(rows: Sequence[Prediction], split: str) -> bool:
    return any(row.split == split for row in rows)


def _medians(
    rows: Sequence[Prediction], split: str, column: str
) -> Mapping[tuple[int, int], float]:
    """Median risk of the patients of a split, by seed and fold."""
    risks: dict[tuple[int, int], dict[str, list[float]]] = {}
    for row in rows:
        if row.split == split:
            of_run = risks.setdefault((row.seed, row.fold), {})
            of_run.setdefault(row.patient, []).append(row.predictions[column])
    return {
        run: float(np.median([np.mean(of) for of in patients.values()]))
        for run, patients in risks.items()
    }


def _cut(medians: Mapping[tuple[int, int], float], row: Prediction) -> float:
    # A run without slides of the split is cut where the others are.
    mean = float(np.mean(list(medians.values())))
    return medians.get((row.seed, row.fold), mean)


@styled
def _figure(groups: Sequence[RiskGroups]) -> Figure:
    shown = groups[:PANELS]
    canvas, axes = panels(len(shown), bottom=BOTTOM + 0.35)
    last = max(float(one.times.max()) for one in shown)
    for one, group in zip(axes, shown, strict=True):
        # Of each group a line of steps and a band.
        _plot(one, group, last, vertices(12 * len(shown)))
    name_axes(axes, "time", "share without event")
    caption = (
        f"Kaplan-Meier curves of {_patients(groups)} test patients by predicted risk; bands are "
        "95 % intervals (log-log, Greenwood), small bars censored patients, p is of the log-rank "
        "test. Below each panel: patients at risk. Groups are divided at the median risk of "
        f"{_source(groups)}."
    )
    if len(groups) > PANELS:
        caption += f" The first {PANELS} of {len(groups)} heads have a panel."
    keys = [Key(colour, name) for colour, name in zip(GROUP_COLOURS, GROUPS, strict=True)]
    return figure(canvas, caption, keys)


def _patients(groups: Sequence[RiskGroups]) -> str:
    counts = sorted({len(group.times) for group in groups})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _source(groups: Sequence[RiskGroups]) -> str:
    names = {"val": "validation patients", "train": "training patients", "test": "test patients"}
    return " or ".join(dict.fromkeys(names[group.source] for group in groups))


def _plot(axes: Axes, group: RiskGroups, last: float, most: int) -> None:
    axes.set(xlim=(0, last * 1.02 or 1), ylim=(0, 1.03))
    axes.set_yticks((0, 0.25, 0.5, 0.75, 1), ("0", "", "0.5", "", "1"))
    axes.set_title(shorten(group.name))
    axes.text(0.98, 0.93, _p(group), transform=axes.transAxes, ha="right", fontsize=8)
    times = np.linspace(0, last, TICKS)
    for row, (side, colour) in enumerate(zip(_sides(group), GROUP_COLOURS, strict=True)):
        if side is None:
            continue
        _steps(axes, side, colour, most)
        for time, left in zip(times, number_at_risk(side.times, times), strict=True):
            axes.annotate(
                str(left),
                (time, 0),
                xytext=(0, -32 - 10 * row),
                textcoords="offset points",
                xycoords=axes.transData,
                ha="center",
                fontsize=7,
                color=colour,
                annotation_clip=False,
            )


def _steps(axes: Axes, side: Side, colour: str, most: int) -> None:
    curve = side.curve
    end = float(side.times.max())
    x = np.append(curve.times, end)
    low, high, middle = (
        coarse(x, np.append(ends, ends[-1]), most)
        for ends in (curve.low, curve.high, curve.survival)
    )
    axes.fill_between(low[0], low[1], high[1], step="post", color=colour, alpha=BAND, linewidth=0)
    axes.plot(*middle, color=colour, drawstyle="steps-post")
    marked = np.unique(curve.censored)
    marked = marked[:: max(1, -(-len(marked) // min(MOST_MARKS, most // 2)))]
    at = curve.at(marked)
    between = np.full(len(marked), np.nan)
    # One path for all: a tenth of the bytes of a mark for each.
    axes.plot(
        np.stack([marked, marked, between], 1).ravel(),
        np.stack([at - MARK, at + MARK, between], 1).ravel(),
        color=colour,
        linewidth=0.9,
    )


def _sides(group: RiskGroups) -> list[Side | None]:
    """Patients at low and at high risk; None where there are none."""
    sides: list[Side | None] = []
    for number in (0, 1):
        rows = group.high == number
        times = group.times[rows]
        events = group.events[rows]
        sides.append(Side(times, events, kaplan_meier(times, events)) if rows.any() else None)
    return sides


def _test(group: RiskGroups) -> LogRank | None:
    try:
        return log_rank(group.times, group.events, group.high)
    except ValueError:
        return None


def _p(group: RiskGroups) -> str:
    result = _test(group)
    if result is None:
        return ""
    p = probability(result.p)
    return f"p {p}" if p.startswith("<") else f"p = {p}"


def _table(groups: Sequence[RiskGroups]) -> Table:
    rows = []
    for group in groups:
        metric = group.head.metrics.test.metrics.get("c_index")
        cells = []
        for side in _sides(group):
            if side is None:
                cells += ["0", "–", "–"]
                continue
            median = side.curve.median
            cells += [
                str(len(side.times)),
                str(int(side.events.sum())),
                "not reached" if median is None else f"{median:.3g}",
            ]
        result = _test(group)
        rows.append(
            [group.name, with_interval(metric), *cells, probability(result.p if result else None)]
        )
    return Table(
        "C-index with 95 % interval; number of patients, events and median time without event of "
        "both groups; p of the log-rank test.",
        [
            "head · encoder", "C-index",
            *(f"{name}: {what}" for name in GROUPS for what in ("patients", "events", "median")),
            "log-rank p",
        ],
        rows,
    )  # fmt: skip


def _notes(groups: Sequence[RiskGroups]) -> list[Block]:
    notes: list[Block] = []
    if any(group.source == "test" for group in groups):
        text = (
            "Predictions of validation and training patients are not known, so that the median of "
            "the test patients themselves divides the groups, which new patients do not have."
        )
        notes.append(Note(text))
    mixed = max(group.n_mixed for group in groups)
    if mixed:
        notes.append(
            Note(f"{mixed} test patients are left out: their slides have different times.")
        )
    for group in groups:
        try:
            log_rank(group.times, group.events, group.high)
        except ValueError as error:
            notes.append(Note(f"No log-rank test of {group.name}: {error}."))
    return notes
