"""Made-up studies of every task in memory, for tests of the report's figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mil.config import DatasetConfig
from mil.io.results import Comparison, Metrics, Prediction
from mil.io.tables import Slide
from mil.report.study_files import ReportedHead, StudyFiles
from mil.tasks import unfitted_task

METRIC = {"value": 0.75, "ci95": [0.5, 1.0]}
MEASURED = ("auroc", "auprc", "brier", "ece", "c_index", "mae", "r2", "spearman")
CLASSES = ("normal", "tumour")


def row(
    slide: str,
    label: str,
    predictions: Mapping[str, float],
    *,
    split: str = "test",
    patient: str = "",
    recipe: str = "abmil",
    seed: int = 1,
    threshold: float | None = None,
) -> Prediction:
    """A row of predictions.csv; a patient of its own unless named."""
    return Prediction(
        slide=slide,
        patient=patient or f"p-{slide}",
        split=split,
        label=label,
        predictions=predictions,
        recipe=recipe,
        encoder="tiny",
        seed=seed,
        fold=0,
        threshold=threshold,
    )


def head(
    kind: str,
    rows: Sequence[Prediction],
    classes: Sequence[str] = (),
    trained: Sequence[Path] = (),
    **more: object,
) -> ReportedHead:
    """A head with these predictions; its metrics are placeholders."""
    slides = {row.slide for row in rows if row.split == "test"}
    patients = {row.patient for row in rows if row.split == "test"}
    test = {name: METRIC for name in MEASURED}
    test |= {"n_slides": len(slides), "n_patients": len(patients)}
    content = {
        "recipe": rows[0].recipe,
        "encoder": rows[0].encoder,
        "dataset": "d",
        "task": kind,
        "classes": list(classes),
        "positive": classes[-1] if classes else "",
        "test": test,
        "test_patients": test,
        "runs": [],
        "over_runs": {},
        **more,
    }
    return ReportedHead(Metrics.model_validate(content), list(rows), {}, {}, (), list(trained))


def study(
    kind: str,
    heads: Sequence[ReportedHead],
    classes: Sequence[str] = (),
    slides: Sequence[Slide] = (),
    comparison: Comparison | None = None,
) -> StudyFiles:
    """A study of these heads, without any files."""
    return StudyFiles(
        dataset="d",
        settings=DatasetConfig(classes=list(classes) or ["a", "b"]),
        task=unfitted_task(kind, classes),
        slides=list(slides),
        states=[],
        states_by_encoder=[],
        tiles_dirs=[],
        bags_dirs=[],
        heads=list(heads),
        folds=[],
        comparison=comparison,
        config={},
        out=Path("report.html"),
    )


def drawn_study(
    kind: str, classes: Sequence[str] = (), *, heads: int = 1, slides: int = 24
) -> StudyFiles:
    """A study whose predictions follow the labels with noise; half of the slides are test."""
    rng = np.random.default_rng(1)
    made = []
    labels = [_label(kind, classes, number, rng) for number in range(slides)]
    for number in range(heads):
        rows = [
            row(
                f"s{place}",
                label,
                _prediction(kind, classes, label, rng),
                split=("val", "test")[place % 2],
                recipe=f"recipe{number}",
            )
            for place, label in enumerate(labels)
        ]
        made.append(head(kind, rows, classes))
    return study(kind, made, classes)


def _label(kind: str, classes: Sequence[str], number: int, rng: np.random.Generator) -> str:
    if kind == "multilabel":
        return ";".join(name for name in classes if rng.random() < 0.5)
    if classes:
        return classes[number // 2 % len(classes)]
    time = f"{rng.exponential(10):.3f}"
    return time + ("+" if kind.startswith("survival") and rng.random() < 0.3 else "")


def _prediction(
    kind: str, classes: Sequence[str], label: str, rng: np.random.Generator
) -> dict[str, float]:
    noise = rng.normal(size=max(1, len(classes)))
    if classes:
        has = np.array([name in label.split(";") for name in classes])
        odds = np.exp(1.5 * has + noise)
        shares = odds / (1 + odds) if kind == "multilabel" else odds / odds.sum()
        return {f"p_{name}": float(share) for name, share in zip(classes, shares, strict=True)}
    number = float(label.rstrip("+"))
    if kind == "regression":
        return {"predicted": number + float(noise[0])}
    column = "log_risk" if kind == "survival_cox" else "risk"
    return {column: float(-np.log(number + 0.1) + noise[0])}
