"""Evaluated heads in; a table of them and their paired tests out, as JSON, CSV, Markdown, LaTeX."""

from collections.abc import Sequence
from pathlib import Path

from mil.compare.baseline import against_baseline, check_baseline, statements
from mil.compare.pairs import compare_pairs
from mil.compare.read import (
    SLIDES_SHOWN,
    EvaluatedHead,
    check_comparable,
    on_shared_slides,
    read_evaluated,
)
from mil.compare.tables import ATTENTION_METRICS, tables_of
from mil.compare.write import write_csv_table, write_latex, write_markdown
from mil.errors import DatasetError, some
from mil.io.results import (
    COMPARISON,
    ComparedHead,
    Comparison,
    PairedTests,
    using_results,
    write_comparison,
)
from mil.statistics.text import title


def run(
    evaluated: Sequence[Path], out: Path, *, baseline: str = "", allow_missing: bool = False
) -> Comparison:
    """Compare heads and encoders.

    Args:
        evaluated: Folders that `mil evaluate` wrote, one for each recipe and encoder.
        out: Folder for comparison.json, .csv, .md and .tex.
        baseline: Recipe of one of them that the best head is held against; empty: none.
        allow_missing: Whether heads that were tested on different slides are compared
            on those they share.

    Returns:
        Content of comparison.json.

    Raises:
        DatasetError: No folder is given, they are of different slides or tasks, or none is
            of the baseline.
        FormatError: A folder is not what `mil evaluate` wrote.
    """
    if not evaluated:
        raise DatasetError("nothing to compare; name at least one folder that `mil evaluate` wrote")
    with using_results(*evaluated):
        heads = [read_evaluated(folder) for folder in evaluated]
        left_out: list[str] = []
        if allow_missing:
            heads, left_out = on_shared_slides(heads)
        check_comparable(heads)
        check_baseline(heads, baseline)
        tests = compare_pairs(heads)
        comparison = _comparison(heads, tests, left_out, baseline)
    # A run that is interrupted below must not leave an old comparison that looks whole.
    (out / COMPARISON).unlink(missing_ok=True)
    write_csv_table(out / "comparison.csv", comparison)
    write_markdown(out / "comparison.md", comparison)
    write_latex(out / "comparison.tex", comparison)
    # Last, so that a folder with comparison.json is complete.
    write_comparison(out / COMPARISON, comparison)
    return comparison


def _comparison(
    heads: Sequence[EvaluatedHead],
    tests: PairedTests,
    left_out: Sequence[str],
    baseline: str,
) -> Comparison:
    first = heads[0]
    metrics = first.task.comparison_metrics(list(first.metrics.test.metrics))
    localised = any(head.metrics.localisation for head in heads)
    rows = [_row(head, ATTENTION_METRICS if localised else ()) for head in heads]
    n_slides = len(first.labels)
    n_patients = len(set(first.patients.values()))
    against = against_baseline(
        rows, tests, baseline, smaller_is_better=first.task.smaller_is_better
    )
    return Comparison(
        dataset=first.metrics.dataset,
        task=first.metrics.task,
        positive=first.metrics.positive,
        n_slides=n_slides,
        n_patients=n_patients,
        metrics=metrics,
        rows=rows,
        tests=tests,
        notes=[*_notes(heads, tests), *_missing(left_out)],
        tables=tables_of(metrics, rows, tests, several_slides=n_patients < n_slides),
        baseline=baseline,
        against=against,
        statements=statements(rows, tests, baseline, against),
    )


def _row(head: EvaluatedHead, attention: Sequence[str]) -> ComparedHead:
    metrics = head.metrics
    names = head.task.comparison_metrics(list(metrics.test.metrics))
    of_runs = [*names, *attention]
    return ComparedHead(
        recipe=metrics.recipe,
        encoder=metrics.encoder,
        seeds=len({run.seed for run in metrics.runs}),
        folds=len({run.fold for run in metrics.runs}),
        slides={name: metrics.test.metrics.get(name) for name in names},
        patients={name: metrics.test_patients.metrics.get(name) for name in names},
        over_runs={name: metrics.over_runs.get(name) for name in of_runs},
        range_over_runs={name: metrics.range_over_runs(name) for name in of_runs},
        predicted_by=metrics.predicted_by,
        localisation=metrics.localisation,
    )


def _notes(heads: Sequence[EvaluatedHead], tests: PairedTests) -> list[str]:
    """Sentences that a reader of the table needs."""
    first = heads[0]
    slides = len(first.labels)
    patients = len(set(first.patients.values()))
    tested_on = f"{slides} test slides of {patients} patients"
    # With early fusion, what the files call a slide is a patient.
    if any(head.metrics.fusion == "early" for head in heads):
        tested_on = f"{patients} test patients, all slides of each as one bag"
    notes = [
        f"{tested_on}. The 95 % confidence intervals reflect which patients were tested, not "
        "retraining; the spread of training runs is the standard deviation over seeds and folds."
    ]
    if first.task.comparison_note:
        notes.append(first.task.comparison_note)
    notes += _on_runs(heads, tests.metric)
    notes += _on_attention(heads)
    mixed = [head.metrics.test_patients.note for head in heads if head.metrics.test_patients.note]
    if mixed:
        notes.append(f"No metrics of patients: {mixed[0]}.")
    if len(heads) > 1:
        notes += _on_tests(tests, first.task.largest_difference)
    return notes


def _on_runs(heads: Sequence[EvaluatedHead], metric: str) -> list[str]:
    """Sentences about several seeds and folds."""
    seeds = max(len({run.seed for run in head.metrics.runs}) for head in heads)
    folds = max(len({run.fold for run in head.metrics.runs}) for head in heads)
    notes = []
    cross_validated = any(head.metrics.cross_validated for head in heads)
    if cross_validated:
        notes.append(
            "Cross-validation: each test slide is predicted by the heads of the fold that did not "
            f"see it, and the predictions of {folds} folds are pooled. Heads of different folds "
            f"may differ in scale, which distorts a pooled {title(metric)} but not that of single "
            "runs. They also share training slides, which intervals and tests do not take into "
            "account."
        )
    averaged_over = []
    if seeds > 1:
        averaged_over.append("seeds")
    if folds > 1 and not cross_validated:
        averaged_over.append("folds")
    if averaged_over:
        notes.append(
            f"Figures and paired tests are of {_ensembles(heads)}: a slide's prediction is the "
            f"mean over {' and '.join(averaged_over)}, which may be better than that of any single "
            "run. Single runs stand beside it with mean ± standard deviation and range."
        )
    return notes


def _ensembles(heads: Sequence[EvaluatedHead]) -> str:
    """`ensembles of 5 heads`, or of each compared head its own."""
    names = {head.name: head.metrics.predicted_by for head in heads}
    # Files of before do not have the name.
    if not all(names.values()):
        return "ensembles"
    if len(set(names.values())) == 1:
        return f"the {next(iter(names.values()))}"
    return "ensembles (" + "; ".join(f"{name}: {by}" for name, by in names.items()) + ")"


def _on_attention(heads: Sequence[EvaluatedHead]) -> list[str]:
    """Sentences about localisation, where slides are annotated."""
    if not any(head.metrics.localisation for head in heads):
        return []
    notes = [
        "Tile AUROC and hottest tile are of the mean attention of a slide's heads, on annotated "
        "test slides. For tile AUROC 0.5 is chance; the hottest tile stands beside the rate of "
        "tiles drawn at random. Neither is tested for differences between heads."
    ]
    findings = [head.metrics.named_finding for head in heads]
    return notes + [finding for finding in findings if finding]


def _on_tests(tests: PairedTests, largest_difference: float | None) -> list[str]:
    """Sentences about the paired tests."""
    if not tests.pairs:
        return [f"Pairs are not tested: {tests.why_not}."]
    shown = [
        pair.smallest_difference for pair in tests.pairs if pair.smallest_difference is not None
    ]
    notes = []
    if shown:
        corrected = ""
        if len(shown) > 1:
            corrected = f"; p values are corrected for {len(shown)} pairs by Holm"
        notes.append(
            f"Pairs: {tests.method} on the slides' predictions{corrected}. "
            + _smallest(shown, largest_difference)
        )
    if len(shown) < len(tests.pairs):
        notes.append(
            "A pair without p is not tested: nothing varies between its heads on these slides, "
            "as where both rank all of them correctly. That does not show that they are equally "
            "good."
        )
    return notes


def _smallest(shown: Sequence[float], largest_difference: float | None) -> str:
    if largest_difference is not None and min(shown) >= largest_difference:
        return (
            "With power 0.8 this test set is too small to show any difference; one may exist "
            "all the same."
        )
    # The smallest difference is that of a single test at alpha 0.05; Holm's correction
    # for several pairs asks for more.
    before = " and before correction" if len(shown) > 1 else ""
    return (
        f"With power 0.8{before} this test set can show differences of {_span(shown)}; smaller "
        "ones may exist."
    )


def _missing(left_out: Sequence[str]) -> list[str]:
    if not left_out:
        return []
    return [
        "Not every head was tested on all slides: paired tests use the slides that all heads "
        "share, while the metrics of a head are of all its own test slides. Slides left out of "
        f"the tests: {some(left_out, SLIDES_SHOWN)}."
    ]


def _span(values: Sequence[float]) -> str:
    low = f"{min(values):.3f}"
    high = f"{max(values):.3f}"
    return f"at least {low}" if low == high else f"at least {low} to {high}, depending on the pair"
