"""How predictions and metrics came about."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from mil.errors import DatasetError, FormatError
from mil.io.results import PREDICTIONS, Prediction, read_predictions
from mil.io.scores import read_scores, score_path
from mil.io.tables import read_folds
from mil.trained.record import read_records
from mil.why.answer import SAME, Answer, Input, title
from mil.why.heads import of_scores
from mil.why.results import names_in, run_config
from mil.why.slides import NO_STUDY
from mil.why.study import AGAIN, Study

# Predictions in a table have nine digits.
DIGITS = 1e-8


def of_predictions(path: Path, study: Study | None, slide: str) -> Answer:
    """Answer for predictions.csv, or for the predictions of one slide in it.

    Args:
        path: The table, or another file of the evaluation.
        study: Study of the file.
        slide: Slide, or with early fusion patient; empty: all of them.

    Raises:
        DatasetError: The table has no such slide.
    """
    table = path.with_name(PREDICTIONS)
    rows = [row for row in read_predictions(table) if slide in ("", row.slide)]
    if not rows:
        raise DatasetError(f"{table}: has no slide {slide!r}; give one of its column `slide`")
    names = list(dict.fromkeys(row.slide for row in rows))
    facts = {
        "made by": "mil evaluate",
        "recipe and encoder": f"{rows[0].recipe} on {rows[0].encoder}",
        "slides": slide or str(len(names)),
    }
    if slide:
        facts |= {f"seed {row.seed}, fold {row.fold}": _described(row) for row in rows}
    kind = f"prediction of {slide}" if slide else "predictions"
    if study is None:
        return Answer(title(path, kind), facts, [], notes=[NO_STUDY])
    folder = study.folder("score")
    patients = folder / "patients"
    folder = patients if patients.is_dir() else folder
    inputs = [_score_input(folder, name, rows) for name in names]
    folds = _folds_of_rows(study, rows)
    if len(inputs) > 1:
        inputs = _counted(inputs, folder)
    elif inputs[0].state == SAME:
        inputs += of_scores(Path(inputs[0].name), study).inputs
    inputs.append(folds)
    words = _command(study, rows, folder, folds.name)
    facts["made by"] = f"mil {words[1]}"
    return Answer(title(path, kind), facts, inputs, words, f"{AGAIN}/{path.name}")


def _command(study: Study, rows: Sequence[Prediction], scores: Path, folds: str) -> list[str]:
    """Command that evaluates the scores again: as a head's, or as those of the baseline."""
    bags = str(study.folder("features"))
    config = run_config(study)
    # A baseline has no metrics of where its attention goes.
    if config.get("baseline") != study.head or study.head in names_in(config.get("head")):
        words = ["mil", "evaluate", *study.options(), "--scores", str(scores)]
        words += ["--bags", bags, "--folds", folds]
        return [*words, *study.slides_option(), "--out", AGAIN]
    count = Path(folds).stem.removeprefix("folds")
    # Not those of the study, which the command would write over.
    heads = f"{AGAIN}/heads/seed{{seed}}_fold{{fold}}of{count}"
    words = ["mil", "baseline", *study.options(), "--recipe", study.head]
    for name, values in {
        "seed": {row.seed for row in rows},
        "fold": {row.fold for row in rows},
    }.items():
        words += [word for value in sorted(values) for word in (f"--{name}", str(value))]
    words += ["--heads", heads, "--scores", f"{AGAIN}/scores"]
    return [*words, "--bags", bags, "--folds", folds, "--out", AGAIN]


def _described(row: Prediction) -> str:
    values = ", ".join(f"{name} {value:.6g}" for name, value in row.predictions.items())
    return f"{values}; {row.split} slide, label {row.label}"


def _score_input(folder: Path, name: str, rows: Sequence[Prediction]) -> Input:
    """The score file of a slide, compared by its predictions with the rows of the table."""
    path = score_path(folder, name)
    of_slide = [row for row in rows if row.slide == name]
    stated = _values([list(row.predictions.values()) for row in of_slide])
    try:
        scores = read_scores(path)
        records = read_records([head.record for head in scores.heads], path)
    except (DatasetError, FormatError):
        return Input("score file", str(path), stated, "")
    by_run = {
        (record.seed, record.fold): head.predictions
        # A slide without tiles has no scores.
        for record, head in zip(records, scores.scores, strict=False)
    }
    alike = all(
        _alike(list(row.predictions.values()), by_run.get((row.seed, row.fold))) for row in of_slide
    )
    return Input("score file", str(path), stated, stated if alike else "other predictions")


def _alike(stated: Sequence[float], now: np.ndarray | None) -> bool:
    if now is None or len(stated) != len(now):
        return False
    return np.allclose(stated, now, rtol=DIGITS, atol=DIGITS)


def _values(rows: Sequence[Sequence[float]]) -> str:
    return sha256(repr([list(map(float, row)) for row in rows]).encode()).hexdigest()


def _counted(inputs: Sequence[Input], folder: Path) -> list[Input]:
    """Many score files as one line, and those that differ."""
    same = [part for part in inputs if part.state == SAME]
    digest = sha256("".join(part.stated for part in same).encode()).hexdigest()
    summary = Input("score files", f"{folder} ({len(same)} of {len(inputs)})", digest, digest)
    return [*([summary] if same else []), *(part for part in inputs if part.state != SAME)]


def _folds_of_rows(study: Study, rows: Sequence[Prediction]) -> Input:
    """The division in which the slides have the splits and labels of the table."""
    stated = {(row.fold, row.slide, row.split) for row in rows}
    files = study.folds_files()
    digest = sha256(repr(sorted(stated)).encode()).hexdigest()
    for file in files:
        there = {(int(row["fold"]), row["slide"], row["split"]) for row in read_folds(file)}
        if stated <= there:
            return Input("folds", str(file), digest, digest)
    name = files[0] if files else study.folder("split") / "folds.csv"
    return Input("folds", str(name), digest, "other splits" if files else "")
