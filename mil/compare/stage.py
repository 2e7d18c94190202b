"""Evaluated heads of one run in; a table of them and their paired tests out, as JSON, CSV, Markdown and LaTeX."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mil.compare.pairs import Tested, compare_pairs
from mil.compare.read import Evaluated, check_alike, few, in_common, read_evaluated
from mil.compare.tables import tables_of
from mil.compare.write import write_csv_table, write_latex, write_markdown
from mil.errors import DatasetError
from mil.io.atomic import write_json
from mil.statistics.text import title

CLASSES = ("balanced_accuracy", "f1_macro", "sensitivity", "specificity", "brier", "ece")
UP_TO_1 = ("auroc", "auroc_macro", "c_index")


def run(evaluated: Sequence[Path], out: Path, *, allow_missing: bool = False) -> dict[str, Any]:
    """Compare heads and encoders.

    Args:
        evaluated: folders of predictions.csv and metrics.json, one for each recipe and
            encoder.
        out: folder for comparison.json, .csv, .md and .tex.
        allow_missing: where heads were tested on different slides, test pairs on those
            they share.

    Returns:
        What comparison.json holds.

    Raises:
        DatasetError: none is given, or they are of different slides or tasks.
        FormatError: a folder is not what `mil evaluate` wrote.
    """
    if not evaluated:
        raise DatasetError("nothing to compare; name at least one folder that `mil evaluate` wrote")
    heads = [read_evaluated(folder) for folder in evaluated]
    heads, left_out = in_common(heads) if allow_missing else (heads, [])
    check_alike(heads)
    tested = compare_pairs(heads)
    first = heads[0]
    found: dict[str, Any] = {
        "dataset": first.metrics["dataset"],
        "task": first.metrics["task"],
        "positive": first.metrics["positive"],
        "n_slides": len(first.labels),
        "n_patients": len(set(first.patients.values())),
        "metrics": _metrics(first),
        "rows": [_row(head) for head in heads],
        "tests": tested._asdict(),
        "notes": [*_notes(heads, tested), *_missing(left_out)],
    }
    found["tables"] = tables_of(found)
    (out / "comparison.json").unlink(missing_ok=True)
    write_csv_table(out / "comparison.csv", found)
    write_markdown(out / "comparison.md", found)
    write_latex(out / "comparison.tex", found)
    write_json(out / "comparison.json", found)  # last: who has it has all
    return found


def _metrics(head: Evaluated) -> list[str]:
    """The columns of the table; the first is what heads are tested by."""
    kind, classes, _ = head.about
    if kind == "classification":
        ranking = ("auroc", "auprc") if len(classes) == 2 else ("auroc_macro", "auprc_macro")
        return [
            *ranking,
            *(
                name
                for name in CLASSES
                if len(classes) == 2 or name not in ("sensitivity", "specificity")
            ),
        ]
    return [
        name
        for name, metric in head.metrics["test"].items()
        if isinstance(metric, dict) and "value" in metric
    ]


def _row(head: Evaluated) -> dict[str, Any]:
    names = _metrics(head)
    metrics = head.metrics
    runs = metrics["runs"]
    return {
        "recipe": metrics["recipe"],
        "encoder": metrics["encoder"],
        "seeds": len({run["seed"] for run in runs}),
        "folds": len({run["fold"] for run in runs}),
        "slides": {name: metrics["test"].get(name) for name in names},
        "patients": {name: metrics["test_patients"].get(name) for name in names},
        "over_runs": {name: metrics["over_runs"].get(name) for name in names},
    }


def _notes(heads: Sequence[Evaluated], tested: Tested) -> list[str]:
    """What a reader must know to read the table, in sentences."""
    slides = len(heads[0].labels)
    patients = len(set(heads[0].patients.values()))
    tested_on = f"{slides} test slides of {patients} patients"
    if any(
        head.metrics.get("fusion") == "early" for head in heads
    ):  # what is called a slide is then a patient
        tested_on = f"{patients} test patients, all slides of each as one bag"
    notes = [
        f"{tested_on}; 95 % intervals. They speak of other patients, not of training again: that "
        "is the standard "
        "deviation over seeds and folds."
    ]
    if heads[0].about[0] == "classification":
        two = len(heads[0].about[1]) == 2
        notes.append(
            "Balanced accuracy and F1 are of the most probable class"
            + (
                "; sensitivity and specificity at the threshold chosen on validation slides."
                if two
                else "."
            )
            + " ECE, which has no interval, with what faultless probabilities would get on as many slides in brackets."
        )
    notes += _on_runs(heads, tested.metric)
    torn = next(
        (
            head.metrics["test_patients"]["note"]
            for head in heads
            if "note" in head.metrics["test_patients"]
        ),
        None,
    )
    if torn:
        notes.append(f"No patient level: {torn}.")
    return [*notes, *_on_tests(tested)] if len(heads) > 1 else notes


def _on_runs(heads: Sequence[Evaluated], metric: str) -> list[str]:
    """What a reader must know of several seeds and folds."""
    seeds, folds = (
        max(len({run[of] for run in head.metrics["runs"]}) for head in heads)
        for of in ("seed", "fold")
    )
    # Where the slide table names the test slides, those are of every fold.
    crossed = any(
        run["n_slides"] < head.metrics["test"]["n_slides"]
        for head in heads
        for run in head.metrics["runs"]
    )
    notes = []
    if crossed:
        notes.append(
            "Cross-validation: each slide's answer is that of the heads that held it out, and "
            f"the answers of {folds} "
            "folds are pooled. Heads of different folds may differ in scale, which spoils a "
            f"pooled {title(metric)} "
            "but not that of runs, and share training slides, which intervals and tests do not "
            "know."
        )
    over = ["seeds"] * (seeds > 1) + ["folds"] * (folds > 1 and not crossed)
    if over:
        notes.append(
            f"A slide's answer is the mean over {' and '.join(over)}, which may be better than "
            "any one of them."
        )
    return notes


def _on_tests(tested: Tested) -> list[str]:
    """What a reader must know of the pairs."""
    if not tested.pairs:
        return [f"Pairs are not tested: {tested.why_not}."]
    shown = [pair["smallest_difference"] for pair in tested.pairs if pair["p"] is not None]
    notes = []
    if shown:
        notes.append(
            f"Pairs: {tested.method} on the slides' answers"
            + (f"; p corrected for {len(shown)} pairs by Holm. " if len(shown) > 1 else ". ")
            + _smallest(shown, tested.metric)
        )
    if len(shown) < len(tested.pairs):
        notes.append(
            "A pair without p is not tested: nothing varies between its heads on these slides, "
            "as where both rank all "
            "of them right. That does not say that they are equally good."
        )
    return notes


def _smallest(shown: Sequence[float], metric: str) -> str:
    if min(shown) >= 1 and metric in UP_TO_1:
        return "With power 0.8 this set is too small to show any difference; there may well be one."
    before = " and before correction" if len(shown) > 1 else ""
    return f"With power 0.8{before} this set shows differences of {_span(shown)}; smaller ones may be there."


def _missing(left_out: Sequence[str]) -> list[str]:
    if not left_out:
        return []
    return [
        "Not every head was tested on all slides: pairs are of those in common, the numbers of a "
        "head of all of its "
        f"own; apart: {few(left_out)}."
    ]


def _span(values: Sequence[float]) -> str:
    low = f"{min(values):.3f}"
    high = f"{max(values):.3f}"
    return f"at least {low}" if low == high else f"at least {low} to {high}, by pair"
