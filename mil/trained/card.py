"""A model card in each head's folder: data, performance, use and limits of the head."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from mil.config import DatasetConfig, load_encoders
from mil.config.joined import EncoderTerms, encoder_terms
from mil.errors import ConfigError, DatasetError
from mil.io.atomic import write_text
from mil.io.results import (
    METRICS,
    PREDICTIONS,
    Metrics,
    Prediction,
    RunMetrics,
    SetMetrics,
    read_metrics,
    read_predictions,
    using_results,
)
from mil.statistics.classified import MOST_PROBABLE
from mil.statistics.metric import Metric
from mil.statistics.text import calibration_note
from mil.statistics.text import title as metric_title
from mil.tasks import load_dataset
from mil.trained import Trained, find_heads, load_trained
from mil.trained.front_matter import Licences, front_matter, run_of
from mil.trained.manifest import read_manifest
from mil.trained.markdown import escaped, table

NAME = "MODEL_CARD.md"
LICENCE_OPEN = (
    "The licence of this head is not stated: nobody but its owner may grant one. `mil heads card "
    "--licence` writes it."
)
SPLITS = {"train": "training", "val": "validation", "test": "test"}
LIMITS = """\
For research on whole-slide images like those it was trained on. **Not a medical device**: it must
neither decide on nor guide the diagnosis or treatment of a person. Another scanner, laboratory,
stain, tissue or group of patients may give worse results, and nothing in the output shows it;
measure it on slides of your own first. Attention shows which tiles the head used, not what is in
them."""


class Tissue(NamedTuple):
    """Settings of the section `tile` that a head does not store; None: not known."""

    min_tissue: float | None = None
    min_area_mm2: float | None = None


UNKNOWN = Tissue()


def run(
    folders: Sequence[Path],
    evaluated: Path,
    *,
    dataset: str = "",
    tissue: Tissue = UNKNOWN,
    licence: str = "",
) -> list[Path]:
    """Write the cards of the heads of one evaluation.

    Args:
        folders: Folders of heads, or folders that hold some.
        evaluated: Folder that `mil evaluate` wrote of these heads.
        dataset: Name or yaml of the dataset; empty: the name that the head stores, if
            configs/datasets has it.
        tissue: Settings by which the tiles were cut.
        licence: Licence under which the heads are given away; empty: not stated.

    Returns:
        Paths of the cards.

    Raises:
        FormatError: A head or a file of the evaluation cannot be used.
        DatasetError: A head is not of this evaluation.
        ConfigError: The named dataset does not exist.
    """
    metrics = read_metrics(evaluated / METRICS)
    predictions = read_predictions(evaluated / PREDICTIONS)
    cards: dict[Path, str] = {}
    heads = [folder for parent in folders for folder in find_heads(parent)]
    for folder in heads:
        trained = load_trained(folder)[1]
        rows = [row for row in predictions if (row.seed, row.fold) == (trained.seed, trained.fold)]
        same_head = (metrics.recipe, metrics.encoder) == (trained.recipe_name, trained.encoder)
        if not rows or not same_head:
            raise DatasetError(
                f"{evaluated}: is of {metrics.recipe} on {metrics.encoder} and has no predictions "
                f"by {folder} ({trained.recipe_name} on {trained.encoder}, seed {trained.seed}, "
                f"fold {trained.fold}); evaluate that head, or give the folder where it was "
                "evaluated"
            )
        settings = _dataset(trained, dataset)
        with using_results(evaluated):
            cards[folder / NAME] = card(trained, folder, metrics, rows, settings, tissue, licence)
    # Nothing is written before all heads are known to be of this evaluation.
    for path, text in cards.items():
        write_text(path, text)
    return list(cards)


def card(
    trained: Trained,
    folder: Path,
    metrics: Metrics,
    rows: Sequence[Prediction],
    dataset: DatasetConfig | None,
    tissue: Tissue = UNKNOWN,
    licence: str = "",
) -> str:
    """Text of the card: front matter in YAML, then Markdown.

    Args:
        trained: Settings of the head.
        folder: Folder of the head.
        metrics: Metrics of the head's recipe.
        rows: Predictions by this head.
        dataset: Yaml of the dataset, if it is known.
        tissue: Settings by which the tiles were cut.
        licence: Licence under which the head is given away; empty: not stated.
    """
    title = dataset.title if dataset and dataset.title else trained.dataset
    front = front_matter(
        trained,
        metrics,
        title=title,
        licences=Licences(licence, dataset.licence if dataset else ""),
        encoder=_encoder_terms(trained),
    )
    parts = [
        f"# {escaped(trained.recipe_name)} for {escaped(title)}",
        "Multiple-instance learning on whole-slide images, made with mil. Head: "
        f"{escaped(trained.recipe.name)}. Task: {escaped(trained.task.kind)}"
        f"{_of_classes(trained)}.",
        f"## Intended use and limits\n\n{LIMITS}",
        f"## Data\n\n{_data(trained, rows, dataset)}",
        f"## Performance\n\n{_performance(trained, metrics)}",
        f"## How to use it\n\n{_use(trained, folder, tissue)}",
        f"## Licence\n\n{_licences(trained, dataset, licence)}",
        f"## Recipe\n\n{_recipe(trained)}",
        f"## Where it comes from\n\n{_provenance(trained, folder)}",
    ]
    return front + "\n" + "\n\n".join(parts) + "\n"


def _encoder_terms(trained: Trained) -> EncoderTerms | None:
    return encoder_terms(trained.encoder, load_encoders())


def _of_classes(trained: Trained) -> str:
    if not trained.classes:
        return ""
    return (
        f" of {', '.join(map(escaped, trained.classes))}; of interest: {escaped(trained.positive)}"
    )


def _data(trained: Trained, rows: Sequence[Prediction], dataset: DatasetConfig | None) -> str:
    held_out = next((row.held_out for row in rows if row.held_out), "")
    without = f" (tested on {escaped(held_out)}, trained without it)" if held_out else ""
    sentences = [
        f"Dataset {escaped(trained.dataset)}, fold {trained.fold}{without}; {_overlap(rows)}."
    ]
    if dataset and dataset.licence:
        sentences.append(f"Licence of the data: {escaped(dataset.licence)}.")
    if trained.fusion == "early":
        sentences.append("All slides of a patient were one bag, and count as one.")
    parts = [" ".join(sentences), _counts(trained, rows)]
    if dataset and dataset.notes:
        parts.append(f"> {escaped(dataset.notes)}")
    return "\n\n".join(parts)


def _overlap(rows: Sequence[Prediction]) -> str:
    """Whether splits share patients."""
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row.patient, set()).add(row.split)
    shared = sum(len(of_patient) > 1 for of_patient in splits.values())
    if shared:
        return f"**{shared} patients are in two of its parts**"
    return "no patient is in two of its parts"


def _counts(trained: Trained, rows: Sequence[Prediction]) -> str:
    """Table of slides, patients and labels in each split."""
    header = ["part", "slides", "patients", "labels"]
    lines = []
    for split, name in SPLITS.items():
        members = [row for row in rows if row.split == split]
        patients = {row.patient for row in members}
        labels = [
            f"{sum(row.label == label for row in members)} {label}" for label in trained.classes
        ]
        lines.append([name, len(members), len(patients), ", ".join(labels)])
    left_out = set()
    if trained.fusion == "early":
        left_out.add("slides")
    if not trained.classes:
        left_out.add("labels")
    columns = [place for place, name in enumerate(header) if name not in left_out]
    return table(
        [header[place] for place in columns],
        [[line[place] for place in columns] for line in lines],
    )


def _performance(trained: Trained, metrics: Metrics) -> str:
    test = metrics.test
    early = trained.fusion == "early"
    if not test.metrics:
        return "It was not tested: the dataset has no test slides for this fold."
    # With early fusion all slides of a patient were one bag, and count as one.
    sets: dict[str, SetMetrics] = {"patients": test}
    if not early:
        sets = {"slides": test}
        if any(name in metrics.test_patients.metrics for name in test.metrics):
            sets["patients"] = metrics.test_patients
    run = run_of(trained, metrics)
    header = ["metric", *(f"test {name} (95 % CI)" for name in sets), "this head alone"]
    rows = []
    for name in test.metrics:
        # They follow another decision rule than the head's: metrics.json has them.
        if name.endswith(MOST_PROBABLE):
            continue
        values = [_value(of_set.metrics.get(name)) for of_set in sets.values()]
        alone = run.metrics.get(name) if run else None
        rows.append([metric_title(name), *values, _number(alone)])
    count = f"{test.n_patients} patients"
    if not early:
        count = f"{test.n_slides} slides of {count}"
    predicted_by = "this head, which had not seen them"
    if len(metrics.runs) > 1:
        ensemble = f" ({metrics.predicted_by})" if metrics.predicted_by else ""
        predicted_by = (
            f"the mean of those of the study's {len(metrics.runs)} heads (seeds, folds) that had "
            f"not seen them{ensemble}"
        )
    return (
        f"On {count}, by {predicted_by}; intervals reflect the sampling of patients. A test set "
        f"from the same study says little about slides from elsewhere.{_on_calibration(trained)}"
        f"\n\n{table(header, rows)}{_attention(metrics, run)}"
    )


def _attention(metrics: Metrics, run: RunMetrics | None) -> str:
    """Paragraph on how well attention finds annotated regions; empty where none are known."""
    tiles = metrics.localisation
    if tiles is None:
        return ""
    alone = ""
    if len(metrics.runs) > 1 and run is not None and run.tile_auroc is not None:
        alone = f"; this head alone: tile AUROC {run.tile_auroc:.3f}"
    finding = f" **{escaped(tiles.finding)}**" if tiles.finding else ""
    return f"\n\nAttention against annotated regions: {escaped(tiles.text)}{alone}.{finding}"


def _on_calibration(trained: Trained) -> str:
    """A sentence where the head's probabilities are not calibrated."""
    note = calibration_note([trained.calibration]) if trained.task.one_of_classes else ""
    return f" {note}" if note else ""


def _value(metric: Metric | None) -> str:
    if metric is None:
        return ""
    text = _number(metric.value)
    if metric.ci95 is not None:
        low, high = metric.ci95
        text += f" ({_number(low)} to {_number(high)})"
    return text


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f}"


def _use(trained: Trained, folder: Path, tissue: Tissue) -> str:
    name = folder.name or "HEAD"
    terms = _encoder_terms(trained)
    licence = "its licence is not known here"
    cite = ""
    if terms:
        licence = f"licence: {escaped(terms.licence)}"
        if terms.gated:
            licence += "; its weights are given to those who ask on their page"
        if terms.citation:
            cite = f" Cite: {escaped(terms.citation)}."
    stains = f" after stain normalisation ({escaped(trained.stain_norm)})"
    stains = stains if trained.stain_norm else ""
    commands = f"mil heads verify {name}\nmil predict SLIDE... --head {name} --out predicted"
    return (
        f"````bash\n{commands}\n````\n\n"
        f"It needs the encoder {escaped(trained.encoder)} ({licence}) with weights of SHA-256 "
        f"`{trained.weights_sha256 or 'not known'}`, on tiles of "
        f"{escaped(trained.tiling)}{stains}; what that licence forbids, it forbids for this head "
        f"too.{cite}\n\n{_on_tissue(tissue)}"
    )


def _licences(trained: Trained, dataset: DatasetConfig | None, licence: str) -> str:
    """Which licences bind the user of the head."""
    of_head = f"This head is given away under {escaped(licence)}." if licence else LICENCE_OPEN
    terms = _encoder_terms(trained)
    of_encoder = "The licence of its encoder is not known here."
    if terms:
        gate = ", whose weights are given to those who ask on their page" if terms.gated else ""
        of_encoder = (
            f"The licence of its encoder {escaped(trained.encoder)}{gate} is "
            f"{escaped(terms.licence)}."
        )
    of_data = "That of the data is not known here."
    if dataset and dataset.licence:
        of_data = f"That of the data is {escaped(dataset.licence)}."
    return f"{of_head} {of_encoder} {of_data} What these forbid, they forbid for this head too."


def _on_tissue(tissue: Tissue) -> str:
    """Settings of the tiles, which users of the head must set to the same values."""
    settings = [
        f"`{name}: {setting:g}`"
        for name, setting in tissue._asdict().items()
        if setting is not None
    ]
    section = "section `tile` of `configs/config.yaml`"
    if not settings:
        return (
            "Which settings decided what counts as tissue is not known here; `mil predict` uses "
            f"those in {section}."
        )
    return (
        f"Its tiles were cut with {', '.join(settings)}, which the head does not store; "
        f"`mil predict` uses the settings in {section}."
    )


def _recipe(trained: Trained) -> str:
    text = yaml.safe_dump(
        trained.recipe.model_dump(mode="json", exclude_none=True),
        sort_keys=False,
        allow_unicode=True,
    )
    # A fence longer than any in the text, so that the recipe cannot end its own block.
    longest = max([3, *(len(backticks) for backticks in re.findall("`+", text))])
    fence = "`" * (longest + 1)
    return f"{_planned(trained)}{_start(trained)}{fence}yaml\n{text}{fence}"


def _planned(trained: Trained) -> str:
    """Facts that the recipe was planned from; empty for one that was written as it is."""
    cohort = trained.planned_from
    if cohort is None:
        return ""
    return (
        f"Planned (`train: auto`) for {cohort.num_slides} training and validation slides of "
        f"{cohort.num_patients} patients, {cohort.tiles_median} tiles a slide (median), "
        f"{cohort.dim} features a tile.\n\n"
    )


def _start(trained: Trained) -> str:
    """Head whose weights the training started from; empty for random weights."""
    if trained.started_from is None:
        return ""
    return f"Started from {escaped(trained.started_from.described())}.\n\n"


def _provenance(trained: Trained, folder: Path) -> str:
    files = [[name, digest] for name, digest in read_manifest(folder).sha256.items()]
    return (
        f"Trained with mil {escaped(_tool_version(folder))}, seed {trained.seed}, fold "
        f"{trained.fold}, {_kept(trained)}{_calibrated(trained)}.\n\n"
        f"{table(['file', 'SHA-256'], files)}"
    )


def _kept(trained: Trained) -> str:
    """Epoch that was kept, or the members whose average the head is."""
    if len(trained.members) < 2:
        return f"epoch {trained.epoch} kept"
    epochs = ", ".join(str(member.epoch) for member in trained.members)
    return f"the average of {len(trained.members)} trainings, epochs {epochs} kept"


def _calibrated(trained: Trained) -> str:
    calibration = trained.calibration
    if calibration is None:
        return ", predictions not calibrated"
    text = f"; predictions not calibrated: {calibration.reason}"
    if not calibration.reason:
        count = "" if calibration.n is None else f"{calibration.n} "
        values = [f"temperature {calibration.temperature:.4g}"]
        if calibration.intercepts:
            intercepts = (f"{intercept:.4g}" for intercept in calibration.intercepts)
            values.append(f"intercepts {' and '.join(intercepts)}")
        text = f"; predictions calibrated on the {count}validation slides ({', '.join(values)})"
    if calibration.threshold is not None:
        text += f", {escaped(trained.positive)} predicted from {calibration.threshold:.4g} up"
    return text


def _tool_version(folder: Path) -> str:
    recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    return str(recipe.get("tool_version", "?"))


def _dataset(trained: Trained, named: str) -> DatasetConfig | None:
    """Yaml of the dataset; None where it is unknown and was not named.

    Raises:
        ConfigError: The named dataset does not exist.
    """
    try:
        return load_dataset(named or trained.dataset)
    except ConfigError:
        if named:
            raise
        return None
