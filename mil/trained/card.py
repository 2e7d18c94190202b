"""A model card in each head's folder: data, performance, use and limits of the head."""

from collections.abc import Sequence
from pathlib import Path

from mil.config import DatasetConfig, load_encoders
from mil.config.joined import encoder_terms
from mil.errors import ConfigError, DatasetError
from mil.io.atomic import write_text
from mil.io.results import (
    METRICS,
    PREDICTIONS,
    Metrics,
    Prediction,
    read_metrics,
    read_predictions,
    using_results,
)
from mil.tasks import load_dataset
from mil.trained import Trained, find_heads, load_trained
from mil.trained.card_data import data_section
from mil.trained.card_performance import performance_section
from mil.trained.card_recipe import provenance_section, recipe_section
from mil.trained.card_use import Tissue, licence_section, use_section
from mil.trained.front_matter import Licences, front_matter
from mil.trained.markdown import escaped

NAME = "MODEL_CARD.md"
LIMITS = """\
For research on whole-slide images like those it was trained on. **Not a medical device**: it must
neither decide on nor guide the diagnosis or treatment of a person. Another scanner, laboratory,
stain, tissue or group of patients may give worse results, and nothing in the output shows it;
measure it on slides of your own first. Attention shows which tiles the head used, not what is in
them."""
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
        encoder=encoder_terms(trained.encoder, load_encoders()),
    )
    parts = [
        f"# {escaped(trained.recipe_name)} for {escaped(title)}",
        "Multiple-instance learning on whole-slide images, made with mil. Head: "
        f"{escaped(trained.recipe.name)}. Task: {escaped(trained.task.kind)}"
        f"{_of_classes(trained)}.",
        f"## Intended use and limits\n\n{LIMITS}",
        f"## Data\n\n{data_section(trained, rows, dataset)}",
        f"## Performance\n\n{performance_section(trained, metrics)}",
        f"## How to use it\n\n{use_section(trained, folder, tissue)}",
        f"## Licence\n\n{licence_section(trained, dataset, licence)}",
        f"## Recipe\n\n{recipe_section(trained)}",
        f"## Where it comes from\n\n{provenance_section(trained, folder)}",
    ]
    return front + "\n" + "\n\n".join(parts) + "\n"


def _of_classes(trained: Trained) -> str:
    if not trained.classes:
        return ""
    return (
        f" of {', '.join(map(escaped, trained.classes))}; of interest: {escaped(trained.positive)}"
    )


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
