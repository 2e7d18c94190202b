"""Section of the report: data, encoder, recipes, settings and versions of the run."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from mil.config import dataset_path
from mil.errors import some
from mil.io.bags import BagHeader
from mil.io.bags.joined import joined_parts
from mil.report.flow import count
from mil.report.page_section import PageSection
from mil.report.study_files import ReportedHead, StudyFiles
from mil.trained.record import Trained
from mil.versions import STAGE_VERSION, TOOL_VERSION

# Packages whose versions can change a result.
PACKAGES = (
    "torch",
    "timm",
    "numpy",
    "scipy",
    "h5py",
    "openslide-python",
    "openslide-bin",
    "torchstain",
)
# Sections of a recipe whose settings differ between heads.
RECIPE_SECTIONS = ("options", "losses", "train")


class SettingsTable(NamedTuple):
    """A table of names and values, or of more columns."""

    title: str
    header: list[str]
    rows: list[list[str]]


def section(study: StudyFiles) -> PageSection:
    """What was run: the data, the encoder, the recipes, the settings, the versions."""
    return PageSection(
        "setup",
        "What was run",
        {
            "facts": _facts(study),
            "encoders": encoder_statements(study),
            "recipes": _recipes(study.heads),
            "config": _config(study.config),
            "versions": versions(),
        },
    )


def _facts(study: StudyFiles) -> list[tuple[str, str]]:
    """Rows of the first table."""
    settings = study.settings
    yaml = dataset_path(study.dataset)
    files = {path.name: _file_sha256(path) for path in (yaml, yaml.with_suffix(".csv"))}
    digests = [f"{name} {digest}" for name, digest in files.items() if digest]
    classes = ", ".join(study.task.classes)
    interest = f"; of interest: {study.task.positive}" if study.task.positive else ""
    facts = [
        ("dataset", settings.title or study.dataset),
        ("licence of the slides", settings.licence),
        ("files of the dataset, SHA-256", "\n".join(digests)),
        ("task", f"{study.task.kind}{f' of {classes}' if classes else ''}{interest}"),
        ("heads", ", ".join(head.metrics.name for head in study.heads)),
        ("seeds and folds", _runs(study.heads)),
        ("slides of a patient", _fusion(study.heads)),
        ("written", _times(study)),
    ]
    return [(name, text) for name, text in facts if text]


def _file_sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _runs(heads: Sequence[ReportedHead]) -> str:
    runs = [run for head in heads for run in head.metrics.runs]
    seeds = sorted({run.seed for run in runs})
    folds = sorted({run.fold for run in runs})
    if not runs:
        return ""
    held_out = sorted({run.held_out for run in runs if run.held_out})
    left_out = f", each the test of one of {some(held_out)}" if held_out else ""
    kind = "one division" if len(folds) == 1 else f"{len(folds)} folds"
    return f"{count(len(seeds), 'seed')} ({', '.join(map(str, seeds))}), {kind}{left_out}"


def _fusion(heads: Sequence[ReportedHead]) -> str:
    if not heads:
        return ""
    early = heads[0].metrics.fusion == "early"
    return "one bag (early fusion)" if early else "predicted one by one (late fusion)"


def _times(study: StudyFiles) -> str:
    """Times of the first and the last file that the report is written from."""
    files = [
        folder / f"{slide.slide}.h5"
        for folder in (*study.tiles_dirs, *study.bags_dirs)
        for slide in study.slides
    ]
    files += [folder / "recipe.json" for head in study.heads for folder in head.trained]
    times = [path.stat().st_mtime for path in files if path.exists()]
    if not times:
        return ""
    ends = (min(times), max(times))
    first, last = (f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M}" for time in ends)
    return f"{first} to {last} UTC, the times of the tiles files, bags and heads"


def encoder_statements(study: StudyFiles) -> list[str]:
    """A sentence about each encoder: name, weights, input and preprocessing."""
    statements = []
    for states in study.states_by_encoder:
        headers = [state.tally.header for state in states if state.tally and state.state == "ok"]
        if headers:
            statements.append(_statement(headers))
    return list(dict.fromkeys(statements))


def _statement(headers: Sequence[BagHeader]) -> str:
    first = headers[0]
    parts = [f"Features are of the encoder {first.encoder}"]
    if first.encoder_revision:
        parts.append(f"revision {first.encoder_revision}")
    digests = sorted({header.weights_sha256 for header in headers})
    if digests != [""]:
        parts.append(f"weights of SHA-256 {' and '.join(filter(None, digests))}")
    else:
        parts.append("whose bags state no digest of the weights")
    further = [(part.tile_px, part.target_mpp) for part in joined_parts(first)[1:]]
    sizes = [(first.tile_px, first.target_mpp), *further]
    scales = [_scale(*size) for size in dict.fromkeys(sizes)]
    if all(scales):
        around = f", each with the features of the tile around it of {' and '.join(scales[1:])}"
        parts.append(f"tiles of {scales[0]}{around if scales[1:] else ''}")
    if first.transform:
        parts.append(f"preprocessing: {first.transform}")
    methods = sorted({header.stain_norm for header in headers if header.stain_norm})
    if methods:
        parts.append(f"stains normalised by {' and '.join(methods)}")
        unchanged = [header.slide for header in headers if _keeps_stains(header)]
        if unchanged:
            counts = f"{len(unchanged)} of {len(headers)}"
            parts.append(f"but not of {counts} slides ({some(unchanged)})")
    precisions = sorted({header.precision for header in headers if header.precision})
    if precisions:
        parts.append(f"computed in {' and '.join(precisions)}")
    sources = sorted({header.source for header in headers} - {"slide"})
    if sources:
        parts.append(f"bags imported from {' and '.join(sources)}")
    return f"{', '.join(parts)}."


def _keeps_stains(header: BagHeader) -> bool:
    """Whether tiles of a slide were not normalised; of a joined bag those of any of its bags."""
    stains = [header.stain, *(part.stain for part in joined_parts(header))]
    return any('"unchanged"' in stain for stain in stains)


def _scale(tile_px: int | None, mpp: float | None) -> str:
    """Side and resolution of a tile, as far as they are known."""
    known = [f"{tile_px} × {tile_px} px"] if tile_px else []
    known += [f"{mpp:g} µm per pixel"] if mpp else []
    return " at ".join(known)


def _recipes(heads: Sequence[ReportedHead]) -> SettingsTable | None:
    """Settings of each recipe as they were used, a column each."""
    known = [(head, head.records[0]) for head in heads if head.records]
    if not known:
        return None
    settings = [_settings(record) for _, record in known]
    names = list(dict.fromkeys(name for one in settings for name in one))
    rows = [[name, *(one.get(name, "–") for one in settings)] for name in names]
    origins = [planned(head.records) for head, _ in known]
    rows.insert(0, ["origin of the settings", *origins])
    return SettingsTable("", ["setting", *(head.metrics.name for head, _ in known)], rows)


def _settings(record: Trained) -> dict[str, str]:
    content = record.recipe.model_dump(mode="json")
    settings = {"head": record.recipe.name}
    for name in RECIPE_SECTIONS:
        settings |= flat(content.get(name) or {}, f"{name}.")
    return settings


def planned(records: Sequence[Trained]) -> str:
    """Whether `train: auto` planned a recipe, and from how many slides."""
    facts = [record.planned_from for record in records if record.planned_from is not None]
    if not facts:
        return "written in the recipe"
    first = facts[0]
    slides = (
        f"planned by train: auto for {first.num_slides} slides of {first.num_patients} patients"
    )
    if len(records) == 1:
        return slides
    return f"{slides}; shown: seed {records[0].seed}, fold {records[0].fold}"


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Settings of nested sections as `section.name`: text."""
    rows: dict[str, str] = {}
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            rows |= flat(value, f"{prefix}{name}.")
        else:
            rows[f"{prefix}{name}"] = text_of(value)
    return rows


def text_of(value: object) -> str:
    """A setting as text."""
    if value is None or value == {}:
        return "not set"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(map(text_of, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _config(config: Mapping[str, object]) -> list[tuple[str, str]]:
    return list(flat(config).items())


def versions() -> list[tuple[str, str]]:
    """Versions of mil, its stages, Python and packages, where the report is written."""
    stages = ", ".join(f"{stage} {number}" for stage, number in STAGE_VERSION.items())
    rows = [("mil", TOOL_VERSION), ("stages", stages), ("Python", platform.python_version())]
    for name in PACKAGES:
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return rows
