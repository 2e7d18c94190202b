"""A comparison as people read it: cells of text, without any markup."""

from collections.abc import Sequence

from mil.io.results import ComparedHead, Pair, PairedTests, Table
from mil.statistics.metric import Metric
from mil.statistics.text import probability, single_runs, title, value, with_interval

# Metrics of single runs that stand beside the localisation by the ensemble.
ATTENTION_METRICS = ("tile_auroc", "hottest_tile_rate")


def tables_of(
    metrics: Sequence[str],
    rows: Sequence[ComparedHead],
    tests: PairedTests,
    *,
    several_slides: bool,
) -> dict[str, Table]:
    """Table `heads`, `attention` where slides are annotated, and `pairs` where any were tested.

    Args:
        metrics: Names of the metrics to show, the main one first.
        rows: Heads to show.
        tests: Paired tests of the heads.
        several_slides: Whether some patient has several slides.
    """
    tables = {"heads": heads_table(metrics, rows, several_slides=several_slides)}
    if any(row.localisation for row in rows):
        tables["attention"] = attention_table(rows)
    if tests.pairs:
        tables["pairs"] = pairs_table(tests.metric, tests.pairs)
    return tables


def heads_table(
    metrics: Sequence[str], rows: Sequence[ComparedHead], *, several_slides: bool
) -> Table:
    """Table of the heads; with columns for patients and runs only where they add something."""
    main = metrics[0]
    # With one slide for each patient the column would repeat that of the slides.
    patients = several_slides and any(row.patients.get(main) for row in rows)
    runs = any(row.seeds * row.folds > 1 for row in rows)
    header = ["encoder", "recipe", title(main)]
    if patients:
        header.append(f"{title(main)}, patients")
    if runs:
        header.append(f"{title(main)} of single runs")
    # Patients and runs of the other metrics are in comparison.csv alone: the table has
    # to fit a page.
    header += [title(name) for name in metrics[1:]]
    cells = []
    for row in rows:
        line = [row.encoder, row.recipe, _cell(row.slides[main])]
        if patients:
            line.append(_cell(row.patients[main]))
        if runs:
            line.append(_single_runs(row, main))
        line += [_cell(row.slides[name]) for name in metrics[1:]]
        cells.append(line)
    return Table(header=header, rows=cells)


def attention_table(rows: Sequence[ComparedHead]) -> Table:
    """Table of where attention goes, each figure beside what chance gives."""
    runs = any(row.seeds * row.folds > 1 for row in rows)
    header = ["encoder", "recipe", "tile AUROC (0.5 is chance)"]
    if runs:
        header.append("tile AUROC of single runs")
    header.append("hottest tile annotated")
    cells = []
    for row in rows:
        tiles = row.localisation
        line = [row.encoder, row.recipe, _cell(tiles.tile_auroc if tiles else None)]
        if runs:
            line.append(_single_runs(row, ATTENTION_METRICS[0]))
        if tiles and tiles.hottest_tile:
            line.append(f"{tiles.number_of_hits}/{tiles.n_slides} ({tiles.about_hits})")
        else:
            line.append("–")
        cells.append(line)
    return Table(header=header, rows=cells)


def _single_runs(row: ComparedHead, metric: str) -> str:
    return single_runs(row.over_runs.get(metric), row.range_over_runs.get(metric))


def pairs_table(metric: str, pairs: Sequence[Pair]) -> Table:
    """Table of the paired tests."""
    header = ["one", "other", f"difference of {title(metric)}", "p", "p, Holm"]
    rows = [
        [pair.one, pair.other, _difference(pair), probability(pair.p), probability(pair.p_holm)]
        for pair in pairs
    ]
    return Table(header=header, rows=rows)


def _difference(pair: Pair) -> str:
    between = " ({:+.2f} to {:+.2f})".format(*pair.ci95) if pair.ci95 else ""
    # A true minus: LaTeX would print the hyphen as a hyphen, and `write.latex` makes
    # mathematics of `−`.
    return f"{pair.difference:+.3f}{between}".replace("-", "−")


def _cell(metric: Metric | None) -> str:
    """`0.931 (0.81 to 1.00)`; in brackets what perfect calibration would give."""
    # ECE has no interval. Its estimate cannot be below 0 and is biased upward;
    # resampling would add the bias once more.
    if metric is not None and metric.if_calibrated is not None:
        return value(metric) + " [{:.2f} to {:.2f}]".format(*metric.if_calibrated)
    return with_interval(metric)
