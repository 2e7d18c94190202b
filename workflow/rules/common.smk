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
from mil.io.tables import locate, locate_annotation, read_dataset
from mil.versions import STAGE_VERSION

try:
    CONFIG = load_config(config)
    DATASET, TABLE = read_dataset(CONFIG.dataset)
except MilError as error:
    raise WorkflowError(str(error)) from None

TABLE_FILE = str(dataset_path(CONFIG.dataset).with_suffix(".csv"))
SLIDES = {row.slide: row for row in TABLE}
SLIDES_DIR = Path(CONFIG.slides_dir or DATASET.slides_dir or f"data/{CONFIG.dataset}")
ENCODERS = load_encoders()
SLIDE_FILES = {name: locate(row, SLIDES_DIR, DATASET) for name, row in SLIDES.items()}
# Files that `fetch` can bring: their URL and checksum by their path under the slides' folder.
FETCHABLE = {row.path: (row.url, row.checksum) for row in TABLE if row.url} | {
    row.annotation: (row.annotation_url, "") for row in TABLE if row.annotation_url
}
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


def annotation_file(row):
    """A slide's annotation as a list; one that the table names must be there or be fetched."""
    file = locate_annotation(row, SLIDES_DIR, DATASET)
    return [str(file)] if file else []


def annotation_input(wildcards):
    """A slide's annotation, if it has one."""
    return annotation_file(SLIDES[wildcards.slide])


def annotations(wildcards):
    """The annotations of all slides that have one."""
    return [file for row in TABLE for file in annotation_file(row)]


def annotation_flag(wildcards, input):
    """The slide's annotation as a flag; nothing when it has none."""
    return "".join(
        f"--annotation {shlex.quote(file)}" for file in annotation_input(wildcards)
    )


def recipe_file(wildcards):
    """The file of a recipe, so that editing it trains its heads anew."""
    return str(recipe_path(wildcards.head))


def trained(wildcards):
    """The weights of all seeds and folds of a head."""
    return expand(
        "results/{dataset}/train/{tiling}/{encoder}/{head}/seed{seed}_fold{fold}of{folds}/head.safetensors",
        dataset=wildcards.dataset,
        tiling=wildcards.tiling,
        encoder=wildcards.encoder,
        head=wildcards.head,
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


def drawn_slides():
    """Slides that get a heatmap."""
    return [
        name
        for name, row in SLIDES.items()
        if CONFIG.heatmap.slides == "all" or row.split == "test"
    ]


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
    """All heatmaps of the run."""
    return [
        file.format(slide=slide)
        for file in of_each_head(
            "results/{dataset}/heatmap/{tiling}/{encoder}/{head}/{{slide}}.png"
        )
        for slide in drawn_slides()
    ]


# Where the states of all slides are, as flags: one pair of folders for each encoder.
STATES = " ".join(
    f"--tiles results/{CONFIG.dataset}/tile/{tiling(encoder)}"
    f" --bags results/{CONFIG.dataset}/features/{tiling(encoder)}/{encoder}"
    for encoder in CONFIG.encoder
)
SUMMARY = f"mil summary --dataset {CONFIG.dataset} {STATES}"
