"""Front matter of a model card: the facts that Hugging Face's hub reads, as YAML.

https://huggingface.co/docs/hub/model-cards. Names of strangers are data here as in the
card: they are written by a YAML library, on one line each.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

from mil.config.joined import EncoderTerms
from mil.io.results import Metrics, RunMetrics
from mil.statistics.classified import MOST_PROBABLE
from mil.statistics.text import title as metric_title
from mil.trained.record import Trained
from mil.versions import TOOL_VERSION

# Names of the hub for the same quantity; a metric without one keeps its own.
HUB_METRICS = {
    "auroc": "roc_auc",
    "accuracy": "accuracy",
    "f1_macro": "f1",
    "sensitivity": "recall",
    "ppv": "precision",
    "brier": "brier_score",
    "mae": "mae",
    "rmse": "rmse",
    "r2": "r_squared",
    "kappa_quadratic": "cohen_kappa",
}
# What the hub calls classification of images; it has no name for the other tasks.
IMAGE_CLASSIFICATION = "image-classification"
OF_CLASSES = ("classification", "multilabel", "ordinal")
TAGS = ("multiple-instance-learning", "whole-slide-image", "histopathology")
# Licences that the hub knows are lower case without blanks, such as `cc-by-nc-4.0`.
LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
NOT_STATED = "not-stated"
# Sign of an id that the hub accepts for a dataset.
DATASET_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


class Licences(NamedTuple):
    """Licences that bind who uses a head; empty: not known."""

    # Of the head's weights: who gives it away decides.
    head: str = ""
    # Of the data that it was trained on.
    data: str = ""


def front_matter(
    trained: Trained,
    metrics: Metrics,
    *,
    title: str,
    licences: Licences,
    encoder: EncoderTerms | None,
) -> str:
    """Front matter of a head's card, with both its marks, and a line break at the end.

    Args:
        trained: Record of the head.
        metrics: Metrics of the head's recipe.
        title: Title of the dataset.
        licences: Licences of the head and of its data.
        encoder: Terms of the encoder, if they are known.
    """
    results = _results(trained, metrics)
    facts: dict[str, Any] = {
        **_licence(licences.head),
        "library_name": "mil",
        "tags": [*TAGS, trained.recipe.name, trained.encoder, trained.task.kind],
    }
    if DATASET_ID.fullmatch(trained.dataset):
        facts["datasets"] = [trained.dataset]
    if results:
        facts["metrics"] = list(dict.fromkeys(metric["type"] for metric in results))
    facts["mil"] = _facts_of_mil(trained, licences, encoder)
    facts["model-index"] = [
        {
            "name": f"{trained.recipe_name} on {trained.encoder} for {title}",
            "results": [_result(trained, title, results)] if results else [],
        }
    ]
    text = yaml.safe_dump(_on_one_line(facts), sort_keys=False, allow_unicode=True, width=10**6)
    return f"---\n{text}---\n"


def _licence(head: str) -> dict[str, str]:
    """The licence as the hub states it: one that it knows, or another by its name."""
    if not head:
        return {"license": "other", "license_name": NOT_STATED}
    lower = head.lower()
    if LICENCE.fullmatch(lower):
        return {"license": lower}
    return {"license": "other", "license_name": head}


def _facts_of_mil(
    trained: Trained, licences: Licences, encoder: EncoderTerms | None
) -> dict[str, Any]:
    """Facts that the hub has no key for."""
    facts = {
        "version": TOOL_VERSION,
        "encoder": trained.encoder,
        "encoder_weights_sha256": trained.weights_sha256,
        "encoder_licence": "" if encoder is None else encoder.licence,
        "encoder_gated": None if encoder is None else encoder.gated,
        "data_licence": licences.data,
        "tiling": trained.tiling,
        "stain_norm": trained.stain_norm,
        "task": trained.task.kind,
        "classes": list(trained.classes),
        "seed": trained.seed,
        "fold": trained.fold,
    }
    return {name: value for name, value in facts.items() if value not in ("", None, [])}


def _results(trained: Trained, metrics: Metrics) -> list[dict[str, Any]]:
    """Metrics of this head on the test slides that it had not seen; none if not measured."""
    run = run_of(trained, metrics)
    if run is None or not run.n_slides:
        return []
    # Intervals are of the mean of all runs, which is this head where it is alone.
    alone = len(metrics.runs) == 1
    results = []
    for name, value in run.metrics.items():
        # Another decision rule than the head's.
        if value is None or name.endswith(MOST_PROBABLE):
            continue
        metric: dict[str, Any] = {
            "type": HUB_METRICS.get(name, name),
            "value": round(value, 6),
            "name": metric_title(name),
        }
        whole = metrics.test.metrics.get(name) if alone else None
        args = _args(name, run, None if whole is None else whole.ci95)
        results.append({**metric, "args": args})
    return results


def run_of(trained: Trained, metrics: Metrics) -> RunMetrics | None:
    """Metrics of a head alone; None where it was not evaluated."""
    runs = [run for run in metrics.runs if (run.seed, run.fold) == (trained.seed, trained.fold)]
    return runs[0] if runs else None


def _args(name: str, run: RunMetrics, ci95: tuple[float, float] | None) -> dict[str, Any]:
    args: dict[str, Any] = {"metric": name, "test_slides": run.n_slides}
    if ci95 is not None:
        args["ci95"] = [round(end, 6) for end in ci95]
    return args


def _result(trained: Trained, title: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    kind = trained.task.kind
    return {
        "task": {
            "type": IMAGE_CLASSIFICATION if kind in OF_CLASSES else kind.replace("_", "-"),
            "name": f"{kind.replace('_', ' ')} of whole-slide images",
        },
        "dataset": {"type": trained.dataset, "name": title, "split": "test"},
        "metrics": results,
    }


def _on_one_line(value: Any) -> Any:
    """A value with each of its texts on one line: no line of theirs can end the block."""
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, Mapping):
        return {name: _on_one_line(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_on_one_line(part) for part in value]
    return value
