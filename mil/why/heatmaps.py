"""How a heatmap came about."""

from pathlib import Path
from typing import Any

from mil.io.provenance import Provenance, file_digest, made_from, read_provenance
from mil.io.scores import score_path
from mil.io.tables import read_folds
from mil.io.tables.paths import locate_annotation
from mil.why.answer import Answer, Input, title
from mil.why.slides import NO_STUDY, OLDER, made_facts, version_input
from mil.why.study import AGAIN, Study


def of_heatmap(path: Path, study: Study | None) -> Answer:
    """Answer for the picture of a slide; what lies beside it is made with it."""
    slide = _slide(path, study)
    provenance = _provenance(path, path.with_name(f"{slide}.png"))
    settings = provenance.facts
    facts = {
        **made_facts(provenance, "heatmap"),
        "scale": str(settings.get("scale", "")),
        "frame of GeoJSON annotations": str(settings.get("frame", "")),
    }
    kind = f"heatmap of slide {slide}"
    if study is None:
        return Answer(title(path, kind), facts, [], notes=[NO_STUDY])
    score = score_path(study.folder("score"), slide)
    bag = study.folder("features") / f"{slide}.h5"
    tiles = study.folder("tile") / f"{slide}.h5"
    of_canvas = settings.get("tiles") or []
    of_canvas = of_canvas if isinstance(of_canvas, list) else [of_canvas]
    stated_tiles, stated_outline = [*map(str, of_canvas), "", ""][:2]
    folds, splits = _folds(settings.get("splits"), study, slide)
    inputs = [
        version_input(provenance, "heatmap"),
        Input("scores", str(score), str(settings.get("score", "")), made_from(score)),
        Input("bag", str(bag), str(settings.get("bag", "")), file_digest(bag)),
    ]
    if stated_tiles or tiles.is_file():
        outline = tiles.with_suffix(".geojson")
        inputs += [
            Input("tiles", str(tiles), stated_tiles, made_from(tiles)),
            Input("outline", str(outline), stated_outline, file_digest(outline, None)),
        ]
    if splits is not None:
        inputs.append(splits)
    inputs += _annotation(str(settings.get("annotation", "")), study, slide)
    words = ["mil", "heatmap", *study.options(slide), *study.slides_option()]
    words += ["--scores", str(study.folder("score")), "--bags", str(study.folder("features"))]
    if stated_tiles or tiles.is_file():
        words += ["--tiles", str(study.folder("tile"))]
    words += [] if folds is None else ["--folds", str(folds)]
    words += ["--slides", "all", *_options(settings), "--out-dir", AGAIN]
    return Answer(
        title(path, kind),
        facts,
        inputs,
        words if settings else [],
        f"{AGAIN}/{path.name}",
        [] if settings else [OLDER],
    )


def _options(settings: dict[str, Any]) -> list[str]:
    """Settings of a picture as options; those that it does not state have their defaults."""
    words = []
    if "scale" in settings:
        words += ["--scale", str(settings["scale"])]
    kinds = settings.get("kinds")
    if isinstance(kinds, list):
        words += [word for kind in kinds for word in ("--kind", str(kind))]
    if settings.get("branches") is True:
        words.append("--branches")
    if "sheet" in settings:
        words += ["--sheet", str(settings["sheet"])]
    return words


def _provenance(path: Path, picture: Path) -> Provenance:
    """What a file states, or else the picture of the slide beside it."""
    if path.suffix == ".png":
        provenance = read_provenance(path)
        if provenance.digest or not picture.is_file():
            return provenance
    return read_provenance(picture)


def _slide(path: Path, study: Study | None) -> str:
    """Slide of a file: its name without an ending, or without several (`SLIDE.effect.png`).

    Ids may hold dots: the longest name that is in the slide table counts.
    """
    name = path.stem
    while study is not None and name:
        if study.row(name) is not None:
            return name
        name = name.rpartition(".")[0]
    return path.stem


def _folds(stated: object, study: Study, slide: str) -> tuple[Path | None, Input | None]:
    """The file of folds in which the slide has the splits that the picture states."""
    files = study.folds_files()
    if not stated:
        return None, None
    for file in files:
        now = [[row["fold"], row["split"]] for row in read_folds(file) if row["slide"] == slide]
        if now == stated:
            return file, Input("splits of the slide in", str(file), _spoken(stated), _spoken(now))
    name = files[0] if files else study.folder("split") / "folds.csv"
    return name, Input(
        "splits of the slide in", str(name), _spoken(stated), "others" if files else ""
    )


def _spoken(splits: object) -> str:
    """Splits of a slide, such as `fold 0 test`; text of any kind in a stranger's file."""
    if not isinstance(splits, list):
        return str(splits)
    pairs = [pair for pair in splits if isinstance(pair, list) and len(pair) == 2]
    return ", ".join(f"fold {fold} {split}" for fold, split in pairs)


def _annotation(stated: str, study: Study, slide: str) -> list[Input]:
    """The annotation that was outlined, or that is there now."""
    row = study.row(slide)
    folder = study.slides_dir
    if row is None or folder is None or study.table is None:
        return [Input("annotation", slide, stated, "")] if stated else []
    file = locate_annotation(row, folder, study.table[0])
    now = file_digest(file, None)
    if not stated and not now:
        return []
    return [Input("annotation", str(file), stated or "none", now or ("" if stated else "none"))]
