"""States, predictions, metrics and heatmaps in; one page out."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jinja2

from mil.config import DatasetConfig
from mil.config.labels import column_of_interest, is_positive, spoken
from mil.errors import ConfigError, FormatError
from mil.io.atomic import write_text
from mil.io.bags.folder import describe_bags
from mil.io.bags.status import ADVICE, SlideState, gather, summary
from mil.io.tables import Slide, read_csv, read_dataset
from mil.report.plots import roc_svg
from mil.report.text import HEADLINES, headline
from mil.statistics.text import interval, mean_sd, value
from mil.versions import TOOL_VERSION


def run(
    dataset: str,
    tiles_dirs: Sequence[Path],
    bags_dirs: Sequence[Path],
    evaluated: Sequence[Path],
    heatmaps: Sequence[Path],
    out: Path,
    drawn: Literal["all", "test"] = "all",
    comparison: Path | None = None,
) -> None:
    """Write the report.

    Args:
        dataset: name or yaml of the dataset.
        tiles_dirs: a folder of tiles files for each encoder, for the states; none where
            the bags are ready.
        bags_dirs: a folder of bags for each encoder, for the states.
        evaluated: folders of predictions.csv and metrics.json, one for each encoder and
            head.
        heatmaps: folders of heatmaps in the same order.
        out: the page; pictures are linked relative to it.
        drawn: `test`: show only heatmaps of slides the table calls test; others may be
            of earlier heads.
        comparison: what `mil compare` wrote of the same heads.
    """
    if len(evaluated) != len(heatmaps):
        raise ConfigError(
            f"{len(evaluated)} folders of metrics, but {len(heatmaps)} of heatmaps; give one for "
            "each"
        )
    settings, slides = read_dataset(dataset)
    names = [slide.slide for slide in slides]
    states = gather(names, tiles_dirs, bags_dirs)
    # A slide without a bag may have a picture of another run, which is not this head's.
    shown = {
        slide.slide
        for slide, state in zip(slides, states, strict=True)
        if (drawn == "all" or slide.split == "test") and state.state != "no_bag"
    }
    recipes = [
        _recipe(folder, pictures, out, shown)
        for folder, pictures in zip(evaluated, heatmaps, strict=True)
    ]
    sheets = _sheets(names, tiles_dirs, out)
    page = _template().render(
        title=settings.title or dataset,
        ready=[describe_bags(folder, names) for folder in ([] if tiles_dirs else bags_dirs)],
        notes=settings.notes,
        licence=settings.licence,
        version=TOOL_VERSION,
        summary=summary(states).splitlines()[0],
        lost=[
            (state, ADVICE[state.state], sheets.get(state.slide))
            for state in states
            if state.state != "ok"
        ],
        positive=settings.positive_class,
        answer=spoken(column_of_interest(settings.task, settings.positive_class)),
        headlines=HEADLINES[settings.task],
        recipes=recipes,
        compared=None if comparison is None else _compared(comparison),
        roc=_roc(recipes, settings),
        slides=[
            _slide(slide, state, recipes, settings)
            for slide, state in zip(slides, states, strict=True)
        ],
        sheets=sheets,
    )
    write_text(out, page)


def _template() -> jinja2.Template:
    # Names, labels and reasons come from strangers' files: everything is escaped, what
    # is ours is marked `safe`.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mil.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(value=value, ci=interval, mean_sd=mean_sd, headline=headline)
    return environment.get_template("page.html.j2")


def _recipe(folder: Path, pictures: Path, out: Path, shown: set[str]) -> dict[str, Any]:
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        rows = read_csv(folder / "predictions.csv")
    except (OSError, ValueError) as error:
        raise FormatError(
            f"{folder}: no predictions.csv and metrics.json of `mil evaluate`: {error}"
        ) from None
    return {
        "name": f"{metrics['recipe']} · {metrics['encoder']}",
        "metrics": metrics,
        "rows": rows,
        "pictures": {
            p.stem: _link(p, out) for p in sorted(pictures.glob("*.png")) if p.stem in shown
        },
    }


def _compared(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {"tables": found["tables"], "notes": found["notes"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path}: no comparison.json of `mil compare`: {error}") from None


def _link(picture: Path, out: Path) -> str:
    return Path(os.path.relpath(picture, out.parent)).as_posix()


def _sheets(slides: Sequence[str], tiles_dirs: Sequence[Path], out: Path) -> dict[str, str]:
    """Where each slide's picture with tissue and tiles is; of the first encoder that has one."""
    found = {slide: [folder / "grid" / f"{slide}.jpg" for folder in tiles_dirs] for slide in slides}
    there = {
        slide: next((path for path in paths if path.exists()), None)
        for slide, paths in found.items()
    }
    return {slide: _link(path, out) for slide, path in there.items() if path is not None}


def _unseen_mean(
    rows: Sequence[dict[str, str]], slide: str, column: str
) -> tuple[float, str] | None:
    """Mean answer for a slide over the heads that did not train on it (over all, if all did), and its split."""
    mine = [row for row in rows if row["slide"] == slide]
    chosen = [row for row in mine if row["split"] == "test"] or mine
    return (
        (sum(float(row[column]) for row in chosen) / len(chosen), chosen[0]["split"])
        if chosen
        else None
    )


def _roc(recipes: Sequence[dict[str, Any]], settings: DatasetConfig) -> str:
    """Of classification and of one class of several; other answers have no such curve."""
    if settings.task not in ("classification", "multilabel"):
        return ""
    column = column_of_interest(settings.task, settings.positive_class)
    positive = settings.positive_class
    scores = {}
    for recipe in recipes:
        test = [row for row in recipe["rows"] if row["split"] == "test"]
        label = {
            row["slide"]: int(is_positive(settings.task, positive, row["label"])) for row in test
        }
        means = {slide: _unseen_mean(test, slide, column) for slide in label}
        if len(set(label.values())) == 2:
            scores[recipe["name"]] = (
                [label[s] for s in label],
                [m[0] for m in means.values() if m],
            )
    return roc_svg(scores, positive) if scores else ""


def _slide(
    slide: Slide, state: SlideState, recipes: Sequence[dict[str, Any]], settings: DatasetConfig
) -> dict[str, Any]:
    column = column_of_interest(settings.task, settings.positive_class)
    # With early fusion the answers are of patients, and each slide shows its patient's.
    names = [
        slide.patient if recipe["metrics"].get("fusion") == "early" else slide.slide
        for recipe in recipes
    ]
    found = [
        _unseen_mean(recipe["rows"], name, column)
        for recipe, name in zip(recipes, names, strict=True)
    ]
    return {
        "slide": slide.slide,
        "patient": slide.patient,
        "label": slide.label,
        "state": state.state,
        "split": next((p[1] for p in found if p), slide.split),
        "values": [
            {"p": p[0] if p else None, "picture": recipe["pictures"].get(slide.slide)}
            for p, recipe in zip(found, recipes, strict=True)
        ],
    }
