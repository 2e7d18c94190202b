"""How the division of the patients and the report of a study came about."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from mil.io.fewshot import TABLE
from mil.io.provenance import file_digest
from mil.io.tables import Slide, read_folds
from mil.why.answer import Answer, Input, title
from mil.why.slides import NO_STUDY
from mil.why.study import AGAIN, Study

# Settings of the last run into the results, which its report lists.
RUN_CONFIG = "config.json"
LATEST_RUN = (
    "settings are those of config.json, which the last run into these results wrote; the file "
    "states none"
)
IN_PLACE = (
    "the command writes over the report, its pages and report.json: links are relative to "
    "their folder"
)
NO_CONFIG = "config.json, which the workflow writes beside the report, is not here or damaged"


def of_folds(path: Path, study: Study | None) -> Answer:
    """Answer for a file of folds."""
    rows = read_folds(path)
    slides = {row["slide"] for row in rows}
    facts = {
        "made by": "mil split",
        "folds": str(len({row["fold"] for row in rows})),
        "slides": str(len(slides)),
    }
    kind = "division of the patients"
    if study is None:
        return Answer(title(path, kind), facts, [], notes=[NO_STUDY])
    config = run_config(study)
    split = config.get("split")
    settings = split if isinstance(split, dict) else {}
    facts["settings"] = ", ".join(f"{name} {value}" for name, value in settings.items())
    inputs = [_table(rows, study), _settings(study)]
    if settings.get("file"):
        file = Path(str(settings["file"]))
        inputs.append(Input("predefined splits", str(file), "", file_digest(file, None)))
    words = ["mil", "split", *study.options()]
    words += _tiles_option(study, config)
    number = path.stem.removeprefix("folds") or str(config.get("folds", 1))
    words += ["--bags", str(_bags(study, config)), "--folds", number]
    for name in ("seed", "val_share", "test_share", "file", "by"):
        if settings.get(name) is not None:
            words += [f"--{name.replace('_', '-')}", str(settings[name])]
    words += ["--fusion", str(config.get("fusion", "late"))]
    words += ["--allow-missing"] if config.get("allow_missing") is True else []
    words += ["--out", f"{AGAIN}/{path.name}"]
    return Answer(
        title(path, kind),
        facts,
        inputs,
        words if config else (),
        f"{AGAIN}/{path.name}",
        [LATEST_RUN] if config else [NO_CONFIG],
    )


def of_report(path: Path, dataset: str = "", slides: Path | None = None) -> Answer:
    """Answer for the report of a study.

    Args:
        path: report.html, in the folder of the results.
        dataset: Dataset; empty: the name of the folder.
        slides: Folder of the slides; None: that of the dataset.
    """
    root = path.parent
    study = Study(root, "", "", "", dataset or root.absolute().name, slides)
    config = run_config(study)
    places = list(_places(study, config))
    facts = {
        "made by": "mil report",
        "encoders": ", ".join(dict.fromkeys(place.encoder for place in places)),
        "heads": ", ".join(dict.fromkeys(place.head for place in places)),
    }
    words = ["mil", "report", *study.options()]
    inputs = [_settings(study)]
    encoders = list({place.encoder: place for place in places}.values())
    for place in encoders:
        words += [*_tiles_option(place, config), "--bags", str(_bags(place, config))]
        folds = place.folder("split") / f"folds{config.get('folds', 1)}.csv"
        words += ["--folds", str(folds)]
        inputs.append(Input("folds", str(folds), "", file_digest(folds, None)))
    early = config.get("fusion") == "early"
    for place in places:
        scores = place.folder("score")
        words += ["--evaluated", str(place.folder("evaluate"))]
        words += ["--heatmaps", str(place.folder("heatmap"))]
        words += ["--scores", str(scores / "patients" if early else scores)]
        words += ["--trained", str(place.folder("train"))]
        metrics = place.folder("evaluate") / "metrics.json"
        inputs.append(Input("metrics", str(metrics), "", file_digest(metrics, None)))
    comparison = study.root / "compare" / "comparison.json"
    inputs.append(Input("comparison", str(comparison), "", file_digest(comparison, None)))
    for curves in _fewshot(study, encoders, config):
        words += ["--fewshot", str(curves)]
        inputs.append(Input("few-shot curves", str(curves), "", file_digest(curves, None)))
    words += ["--config", str(study.root / RUN_CONFIG), "--comparison", str(comparison)]
    heatmap = config.get("heatmap")
    drawn = heatmap.get("slides", "all") if isinstance(heatmap, dict) else "all"
    words += ["--drawn", str(drawn), "--out", str(path)]
    return Answer(
        title(path, "report of a study"),
        facts,
        inputs,
        words if places else (),
        str(path),
        [IN_PLACE] if places else [NO_CONFIG],
    )


def _fewshot(study: Study, encoders: Sequence[Study], config: dict[str, Any]) -> list[Path]:
    """Tables of few-shot curves that a run with slide encoders has, one for each encoder."""
    if not config.get("slide_encoder"):
        return []
    folders = [study.root / "fewshot" / place.tiling / place.encoder for place in encoders]
    return [folder / TABLE for folder in folders if (folder / TABLE).is_file()]


def run_config(study: Study) -> dict[str, Any]:
    """Settings of the last run; empty where its record is not here, or is damaged."""
    try:
        config = json.loads((study.root / RUN_CONFIG).read_text(encoding="utf-8"))
    # RecursionError: JSON that is nested deeper than Python reads.
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _settings(study: Study) -> Input:
    file = study.root / RUN_CONFIG
    return Input("settings", str(file), "", file_digest(file, None))


def _places(study: Study, config: dict[str, Any]) -> Iterator[Study]:
    """Folders of each encoder and head, in the order of the run."""
    folders = list((study.root / "evaluate").glob("*/*"))
    # Of precomputed bags, the encoder is that of the bags, whatever the settings name.
    encoders = sorted({folder.name for folder in folders})
    if not config.get("bags"):
        encoders = [name for name in names_in(config.get("encoder")) if name in encoders]
    for encoder in encoders:
        # Tiles of another size, of an earlier run, may lie beside them.
        same = [folder for folder in folders if folder.name == encoder]
        newest = max(same, key=lambda folder: folder.stat().st_mtime)
        for head in names_in(config.get("head")):
            yield replace(study, tiling=newest.parent.name, encoder=encoder, head=_plain(head))


def names_in(value: object) -> Sequence[str]:
    """Names of a setting that is a list; none of anything else."""
    return [str(name) for name in value] if isinstance(value, list) else []


def _plain(name: str) -> str:
    """A name of a stranger's file as the name of one folder."""
    return Path(name).name or "-"


def _bags(study: Study, config: dict[str, Any]) -> Path:
    """Folder of the bags: precomputed ones, or those of the study."""
    precomputed = config.get("bags")
    return Path(precomputed) if isinstance(precomputed, str) else study.folder("features")


def _tiles_option(study: Study, config: dict[str, Any]) -> list[str]:
    return [] if config.get("bags") else ["--tiles", str(study.folder("tile"))]


def _table(rows: Sequence[dict[str, str]], study: Study) -> Input:
    """The slide table, by patients and labels of the slides that were divided."""
    stated = {(row["slide"], row.get("patient", ""), row.get("label", "")) for row in rows}
    table = study.table
    if table is None:
        return Input("slide table of dataset", study.dataset, _digest(stated), "")
    of_slides = {row.slide: row for row in table[1]}
    now = {_cells(of_slides[slide]) for slide, _, _ in stated if slide in of_slides}
    return Input("slide table of dataset", study.dataset, _digest(stated), _digest(now))


def _cells(row: Slide) -> tuple[str, str, str]:
    return row.slide, row.patient, row.label


def _digest(rows: set[tuple[str, str, str]]) -> str:
    return sha256(repr(sorted(rows)).encode()).hexdigest()
