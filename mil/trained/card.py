"""A model card in each head's folder: what it is, what it was trained on, how good it was, what it is not for."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mil.config import DatasetConfig, load_dataset, load_encoders
from mil.errors import ConfigError, DatasetError, FormatError
from mil.io.atomic import write_text
from mil.io.bags.patients import HELD_OUT
from mil.io.tables import read_csv
from mil.statistics.text import title as metric_title
from mil.trained import Trained, find_heads, load_trained
from mil.trained.markdown import md, table
from mil.trained.seal import read_seal

NAME = "MODEL_CARD.md"
COLUMNS = ("patient", "split", "label", "seed", "fold")  # of predictions.csv
SPLITS = {"train": "training", "val": "validation", "test": "test"}
LIMITS = """\
For research on whole-slide images like those it was trained on. **Not a medical device**: it must neither decide on nor
guide the diagnosis or treatment of a person. Another scanner, laboratory, stain, tissue or group of patients may give
worse results, and nothing in the output shows it; measure it on slides of your own first. Attention says where the head
looked, not what is there."""


class Tissue(NamedTuple):
    """Settings of the section `tile` that a head does not store; None: not known."""

    min_tissue: float | None = None
    min_area_mm2: float | None = None


UNKNOWN = Tissue()


def run(
    folders: Sequence[Path], evaluated: Path, *, dataset: str = "", tissue: Tissue = UNKNOWN
) -> list[Path]:
    """Write the cards of heads of one evaluation.

    Args:
        folders: of heads, or folders that hold some.
        evaluated: folder of predictions.csv and metrics.json.
        dataset: name or yaml; empty: as the head calls it, if that is in
            configs/datasets.
        tissue: what its tiles were cut with.

    Returns:
        The cards.

    Raises:
        FormatError: a head or a file of the evaluation cannot be used.
        DatasetError: a head is not of this evaluation.
        ConfigError: the dataset that was named is not there.
    """
    metrics = _metrics(evaluated / "metrics.json")
    rows = read_csv(evaluated / "predictions.csv")
    lacking = [name for name in COLUMNS if rows and name not in rows[0]]
    if lacking:
        raise FormatError(
            f"{evaluated / 'predictions.csv'}: no column {lacking[0]!r}; run `mil evaluate` again"
        )
    cards: dict[Path, str] = {}
    for folder in [each for given in folders for each in find_heads(given)]:
        trained = load_trained(folder)[1]
        mine = [
            row
            for row in rows
            if (row.get("seed"), row.get("fold")) == (str(trained.seed), str(trained.fold))
        ]
        if not mine or (metrics.get("recipe"), metrics.get("encoder")) != (
            trained.recipe_name,
            trained.encoder,
        ):
            raise DatasetError(
                f"{evaluated}: is of {metrics.get('recipe')} on {metrics.get('encoder')} and has "
                "no predictions by "
                f"{folder} ({trained.recipe_name} on {trained.encoder}, seed {trained.seed}, "
                f"fold {trained.fold}); "
                "evaluate that head, or give the folder where it was evaluated"
            )
        cards[folder / NAME] = card(
            trained, folder, metrics, mine, _dataset(trained, dataset), tissue
        )
    for path, text in cards.items():
        write_text(path, text)
    return list(cards)


def card(
    trained: Trained,
    folder: Path,
    metrics: Mapping[str, Any],
    rows: Sequence[Mapping[str, str]],
    dataset: DatasetConfig | None,
    tissue: Tissue = UNKNOWN,
) -> str:
    """The card, Markdown.

    Args:
        trained: the head.
        folder: its folder.
        metrics: what metrics.json holds.
        rows: this head's rows of predictions.csv.
        dataset: what the dataset's yaml says, if it is there.
        tissue: what its tiles were cut with.
    """
    title = dataset.title if dataset and dataset.title else trained.dataset
    parts = [
        f"# {md(trained.recipe_name)} for {md(title)}",
        "Multiple-instance learning on whole-slide images, made with mil. Head: "
        f"{md(trained.recipe.name)}. Task: "
        f"{md(trained.task.kind)}{_of_classes(trained)}.",
        f"## Intended use and limits\n\n{LIMITS}",
        f"## Data\n\n{_data(trained, rows, dataset)}",
        f"## How good it was\n\n{_results(trained, metrics)}",
        f"## How to use it\n\n{_use(trained, folder, tissue)}",
        f"## Recipe\n\n{_recipe(trained)}",
        f"## Where it comes from\n\n{_provenance(trained, folder)}",
    ]
    return "\n\n".join(parts) + "\n"


def _of_classes(trained: Trained) -> str:
    if not trained.classes:
        return ""
    return f" of {', '.join(map(md, trained.classes))}; of interest: {md(trained.positive)}"


def _data(
    trained: Trained, rows: Sequence[Mapping[str, str]], dataset: DatasetConfig | None
) -> str:
    counts = []
    for split, words in SPLITS.items():
        mine = [row for row in rows if row["split"] == split]
        labels = [f"{sum(row['label'] == name for row in mine)} {name}" for name in trained.classes]
        counts.append([words, len(mine), len({row["patient"] for row in mine}), ", ".join(labels)])
    parts: dict[str, set[str]] = {}
    for row in rows:
        parts.setdefault(row["patient"], set()).add(row["split"])
    twice = sum(len(found) > 1 for found in parts.values())
    apart = (
        f"**{twice} patients are in two of its parts**"
        if twice
        else "no patient is in two of its parts"
    )
    held_out = next((row[HELD_OUT] for row in rows if row.get(HELD_OUT)), "")
    without = f" (tested on {md(held_out)}, trained without it)" if held_out else ""
    said = [f"Dataset {md(trained.dataset)}, fold {trained.fold}{without}; {apart}."]
    if dataset and dataset.licence:
        said.append(f"Licence of the data: {md(dataset.licence)}.")
    columns = dict(
        zip(("part", "slides", "patients", "labels"), zip(*counts, strict=True), strict=True)
    )
    if trained.fusion == "early":
        said.append("All slides of a patient were one bag, and count as one.")
        del columns["slides"]
    if not trained.classes:
        del columns["labels"]
    notes = [f"> {md(dataset.notes)}"] if dataset and dataset.notes else []
    return "\n\n".join(
        [" ".join(said), table(list(columns), list(zip(*columns.values(), strict=True))), *notes]
    )


def _results(trained: Trained, metrics: Mapping[str, Any]) -> str:
    tested: Mapping[str, Any] = metrics.get("test") or {}
    early = trained.fusion == "early"
    names = [
        name for name, value in tested.items() if isinstance(value, Mapping) and "value" in value
    ]
    sets = (
        {"patients": tested}
        if early
        else {"slides": tested, "patients": metrics.get("test_patients") or {}}
    )
    sets = {what: found for what, found in sets.items() if any(name in found for name in names)}
    mine: Mapping[str, Any] = next(
        (
            r
            for r in metrics.get("runs", [])
            if (r.get("seed"), r.get("fold")) == (trained.seed, trained.fold)
        ),
        {},
    )
    if not names:
        return "It was not tested: the dataset has no test slides for this fold."
    header = ["metric", *(f"test {what} (95 % CI)" for what in sets), "this head alone"]
    rows = [
        [
            metric_title(name),
            *(_value(found.get(name)) for found in sets.values()),
            _number(mine.get(name)),
        ]
        for name in names
    ]
    runs = len(metrics.get("runs", []))
    count = f"{tested.get('n_patients', 0)} patients"
    count = count if early else f"{tested.get('n_slides', 0)} slides of {count}"
    whose = (
        "this head"
        if runs == 1
        else f"the mean of those of the study's {runs} heads (seeds, folds)"
    )
    return (
        f"On {count}, by {whose} that had not seen them; intervals are over patients. A test set "
        "from the same "
        f" study says little about slides from elsewhere.\n\n{table(header, rows)}"
    )


def _value(found: Any) -> str:
    if not isinstance(found, Mapping):
        return ""
    interval = found.get("ci95")
    return _number(found.get("value")) + (
        f" ({_number(interval[0])} to {_number(interval[1])})" if interval else ""
    )


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "not known"


def _use(trained: Trained, folder: Path, tissue: Tissue) -> str:
    entry = load_encoders().get(trained.encoder)
    name = folder.name or "HEAD"
    licence = f"licence: {md(entry.licence)}" if entry else "its licence is not known here"
    gated = (
        "; its weights are given to those who ask on their page" if entry and entry.gated else ""
    )
    cite = f" Cite: {md(entry.citation)}." if entry and entry.citation else ""
    return (
        f"````bash\nmil heads verify {name}\nmil predict SLIDE... --head {name} --out "
        "predicted\n````\n\n"
        f"It needs the encoder {md(trained.encoder)} ({licence}{gated}) with weights of SHA-256 "
        f"`{trained.weights_sha256 or 'not known'}`, on tiles of {md(trained.tiling)}; what that "
        "licence forbids, it "
        f"forbids for this head too.{cite}\n\n{_on_tissue(tissue)}"
    )


def _on_tissue(tissue: Tissue) -> str:
    """Settings that whoever uses the head must set as they were."""
    known = ", ".join(
        f"`{name}: {setting:g}`"
        for name, setting in tissue._asdict().items()
        if setting is not None
    )
    where = "in section `tile` of `configs/config.yaml`"
    if not known:
        return f"What counted as tissue is not known here; `mil predict` takes what stands {where}."
    return f"Its tiles were cut with {known}, which the head does not store; `mil predict` takes what stands {where}."


def _recipe(trained: Trained) -> str:
    text = yaml.safe_dump(
        trained.recipe.model_dump(mode="json", exclude_none=True),
        sort_keys=False,
        allow_unicode=True,
    )
    fence = "`" * (max([3, *(len(run) for run in re.findall("`+", text))]) + 1)
    return f"{fence}yaml\n{text}{fence}"


def _provenance(trained: Trained, folder: Path) -> str:
    sealed = read_seal(folder)
    files = [[name, digest] for name, digest in sealed.sha256.items()]
    return (
        f"Trained with mil {md(_tool_version(folder))}, seed {trained.seed}, fold "
        f"{trained.fold}, epoch "
        f"{trained.epoch} kept{_calibrated(trained)}.\n\n{table(['file', 'SHA-256'], files)}"
    )


def _calibrated(trained: Trained) -> str:
    if trained.calibration is None:
        return ", answers not calibrated"
    threshold = trained.calibration.threshold
    called = "" if threshold is None else f", {md(trained.positive)} called from {threshold:.4g} up"
    return f"; answers calibrated on the validation slides (temperature {trained.calibration.temperature:.4g}){called}"


def _tool_version(folder: Path) -> str:
    return str(
        json.loads((folder / "recipe.json").read_text(encoding="utf-8")).get("tool_version", "?")
    )


def _metrics(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: cannot be read ({error}); run `mil evaluate`") from None
    if not isinstance(found, dict):
        raise FormatError(f"{path}: no metrics of `mil evaluate`; run it again")
    return found


def _dataset(trained: Trained, named: str) -> DatasetConfig | None:
    """The dataset's yaml: that which was named must be there."""
    try:
        return load_dataset(named or trained.dataset)
    except ConfigError:
        if named:
            raise
        return None
