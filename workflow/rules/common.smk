# Everything the rules share: checked configuration, slide table, helper functions.
import re
import shlex
from pathlib import Path

from snakemake.exceptions import WorkflowError

from mil.config import (
    dataset_path,
    load_config,
    load_encoders,
    recipe_path,
    tiling_name,
)
from mil.dataset.missing import missing_message
from mil.errors import MilError
from mil.io import tables
from mil.versions import STAGE_VERSION

try:
    CONFIG = load_config(config)
    DATASET, TABLE = tables.read_dataset(CONFIG.dataset)
    SLIDES_DIR = Path(
        CONFIG.slides_dir or DATASET.slides_dir or f"data/{CONFIG.dataset}"
    )
    MASKS = tables.locate_masks(TABLE, SLIDES_DIR, DATASET)
except MilError as error:
    raise WorkflowError(str(error)) from None

TABLE_FILE = str(dataset_path(CONFIG.dataset).with_suffix(".csv"))
SLIDES = {row.slide: row for row in TABLE}
ENCODERS = load_encoders()
SLIDE_FILES = {
    name: tables.locate(row, SLIDES_DIR, DATASET) for name, row in SLIDES.items()
}
ANNOTATIONS = {
    name: tables.locate_annotation(row, SLIDES_DIR, DATASET)
    for name, row in SLIDES.items()
}
FETCHABLE = tables.fetchable(TABLE)
MISSING = [
    (name, file)
    for name, file in SLIDE_FILES.items()
    if not SLIDES[name].url and not file.exists()
]
if MISSING and not CONFIG.allow_missing:
    raise WorkflowError(
        missing_message(CONFIG.dataset, DATASET, MISSING, len(SLIDES), SLIDES_DIR)
    )


# Only for `--sdm apptainer`: put an image here in which this package is installed.
container: "docker://python:3.12-slim"


wildcard_constraints:
    dataset=re.escape(CONFIG.dataset),
    tiling=r"[0-9]+px_[0-9.e-]+mpp",
    encoder="|".join(re.escape(name) for name in ENCODERS),
    head=r"[^/]+",
    slide="|".join(re.escape(name) for name in SLIDES),
    seed=r"\d+",
    fold=r"\d+",
    folds=r"\d+",


def tiling(encoder):
    """Folder name of the tiles an encoder gets: what it asks for, unless the config says otherwise."""
    entry = ENCODERS[encoder]
    return tiling_name(
        CONFIG.tile.size_px or entry.tile_px, CONFIG.tile.mpp or entry.mpp
    )


def fetch_url(wildcards):
    """Where a file comes from."""
    return FETCHABLE[wildcards.file][0]


def fetch_checksum(wildcards):
    """What a file's checksum must be; empty when the table does not say."""
    return FETCHABLE[wildcards.file][1]


def encoder_entry(wildcards):
    """An encoder's settings, so that changing them makes its bags anew."""
    return ENCODERS[wildcards.encoder].model_dump_json(exclude={"licence"})


def dataset_columns(wildcards):
    """Which column is what, so that changing it divides the patients anew."""
    return str(DATASET.columns)


def dataset_classes(wildcards):
    """The classes in order and the positive one, so that changing them trains and draws anew."""
    return f"{DATASET.classes} {DATASET.positive_class}"


def dataset_entry(wildcards):
    """The dataset's yaml, which the report quotes."""
    return DATASET.model_dump_json()


def tile_size(wildcards):
    """Side (pixels) and resolution (µm per pixel) of a tile, read from the folder's name."""
    size_px, target_mpp = wildcards.tiling.removesuffix("mpp").split("px_")
    return f"--size-px {size_px} --target-mpp {target_mpp}"


def slide_input(wildcards):
    """The slide's file; nothing when it is missing and the run goes on without it."""
    file = SLIDE_FILES[wildcards.slide]
    return [] if (wildcards.slide, file) in MISSING else str(file)


def slide_file(wildcards):
    """The slide's file, there or not."""
    return str(SLIDE_FILES[wildcards.slide])


def slide_mpp(wildcards):
    """Pixel size from the slide table, as a flag; nothing when the slide must say it itself."""
    mpp = SLIDES[wildcards.slide].mpp
    return "" if mpp is None else f"--mpp {mpp!r}"


def masks(wildcards):
    """The slide's own masks, by kind: `tissue`, `region`, or none."""
    return MASKS.get(wildcards.slide, {})


def mask_flags(wildcards):
    """The slide's own masks as flags, and what their GeoJSON counts from; nothing when it has none."""
    files = MASKS.get(wildcards.slide, {}).items()
    flags = " ".join(f"--{kind} {shlex.quote(str(file))}" for kind, file in files)
    return flags and f"{flags} --geojson-frame {DATASET.geojson_frame}"


def annotation_input(wildcards):
    """A slide's annotation, if it has one; one that the table names must be there or be fetched."""
    return ANNOTATIONS[wildcards.slide] or []


def annotations(wildcards):
    """The annotations of all slides that have one."""
    return [file for file in ANNOTATIONS.values() if file]


def annotation_flag(wildcards, input):
    """The slide's annotation as a flag, and what its GeoJSON counts from; nothing when it has none."""
    file = ANNOTATIONS[wildcards.slide]
    frame = f" --geojson-frame {DATASET.geojson_frame}"
    return f"--annotation {shlex.quote(str(file))}{frame}" if file else ""


def recipe_file(wildcards):
    """The file of a recipe, so that editing it trains its heads anew."""
    return str(recipe_path(wildcards.head))


def trained(wildcards):
    """The weights of all seeds and folds of a head."""
    return expand(
        "results/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}/head.safetensors",
        **wildcards,
        seed=range(1, CONFIG.seeds + 1),
        fold=range(CONFIG.folds),
        folds=CONFIG.folds,
    )


def tiles_dir(wildcards, input):
    """Folder of the tiles files."""
    return str(Path(input.tiles[0]).parent)


def bags_dir(wildcards, input):
    """Folder of the bags."""
    return str(Path(input.bags[0]).parent)


def out_dir(wildcards, output):
    """Folder of what a rule writes."""
    return str(Path(output[0]).parent)


def head_dirs(wildcards, input):
    """The folders of the heads, as flags."""
    return " ".join(
        f"--head-dir {shlex.quote(str(Path(file).parent))}" for file in input.heads
    )


def of_each_head(pattern):
    """A path for each encoder and head of the run."""
    return [
        pattern.format(
            dataset=CONFIG.dataset, tiling=tiling(encoder), encoder=encoder, head=head
        )
        for encoder in CONFIG.encoder
        for head in CONFIG.head
    ]


def heatmaps(wildcards):
    """The heatmaps of the run: of each slide that gets one, by each head."""
    return [
        file.format(slide=name)
        for file in of_each_head(
            "results/{dataset}/heatmap/{tiling}/{encoder}/{head}/{{slide}}.png"
        )
        for name, row in SLIDES.items()
        if CONFIG.heatmap.slides == "all" or row.split == "test"
    ]


# Where the states of all slides are, as flags: one pair of folders for each encoder.
STATES = " ".join(
    f"--tiles results/{CONFIG.dataset}/tile/{tiling(encoder)}"
    f" --bags results/{CONFIG.dataset}/features/{tiling(encoder)}/{encoder}"
    for encoder in CONFIG.encoder
)
SUMMARY = f"mil summary --dataset {CONFIG.dataset} {STATES}"
