# The params of the rules: settings as flags, folders, and what Snakemake records so that a change recomputes.
import hashlib
import shlex
from pathlib import Path

from mil.plan import flags

# Flags. Functions, for Snakemake would take braces in a string for wildcards.


def size_flags(wildcards):
    """Side and resolution of a tile."""
    return flags.size_flags(wildcards.tiling)


def tissue_flags(wildcards):
    """Thresholds of tissue; empty for precomputed bags."""
    return "" if PLAN.precomputed_dir else flags.tissue_flags(CONFIG.tile)


def heatmap_flags(wildcards):
    """Kinds of map and scale of the colours."""
    return flags.heatmap_flags(CONFIG.heatmap)


def feature_flags(wildcards):
    """Settings that features depend on."""
    return flags.feature_flags(CONFIG.features)


def tiles_flag(wildcards):
    """Folder of the tiles files; empty for precomputed bags."""
    if PLAN.precomputed_dir:
        return ""
    return f"--tiles {flags.quoted(TILES_DIR.format(**wildcards))}"


def target_flags(wildcards, output):
    """Encoders with their bags and tables, and settings that change no bag, only how fast it is computed."""
    # Snakemake does not record params that ask for `output`: else a bag would depend on those computed with it.
    folders = [Path(file).parents[1] for file in output]
    targets = [
        f"--encoder {folder.name} --bags {flags.quoted(folder)} --table {flags.quoted(file)}"
        for folder, file in zip(folders, output)
    ]
    return " ".join(
        [*targets, *flags.speed_flags(CONFIG.features), *flags.device_flags(CONFIG)]
    )


def require_flag(stage):
    """Function for the flag that a slide which vanishes during the run is an error; see `Plan.missing`."""

    def flag(wildcards, output):
        # Not recorded, as in `target_flags`.
        members = list_members(stage, wildcards.part)
        return "" if PLAN.missing.keys() & set(members) else "--require-slides"

    return flag


def fetch_flags(wildcards, output):
    """Settings of downloads: no output depends on them."""
    return flags.fetch_flags(CONFIG)


def stream_flags(wildcards, output):
    """Encoders with sizes of tiles, folders of tiles and bags, and tables."""
    # Not recorded, as in `target_flags`.
    targets = [
        f"--encoder {encoder} {flags.size_flags(tiling)}"
        f" --tiles {flags.quoted(TILES_DIR.format(tiling=tiling, **wildcards))}"
        f" --bags {flags.quoted(Path(file).parents[1])} --table {flags.quoted(file)}"
        for (encoder, tiling), file in zip(PLAN.extracted, output)
    ]
    return " ".join(
        [*targets, *flags.speed_flags(CONFIG.features), *flags.device_flags(CONFIG)]
    )


def state_flags(wildcards):
    """Folders that hold the states of all slides."""
    return flags.state_flags(PLAN)


def split_flags(wildcards):
    """How the patients are divided."""
    return flags.split_flags(PLAN)


def run_flags(wildcards, output):
    """Seeds, folds and folders of the heads that a job trains."""
    # Snakemake does not record params that ask for `output`: fewer seeds train nothing again.
    seeds = [f"--seed {seed}" for seed in range(1, CONFIG.seeds + 1)]
    folds = [f"--fold {fold}" for fold in range(CONFIG.folds)]
    name = f"seed{{seed}}_fold{{fold}}of{CONFIG.folds}"
    folder = Path(output[0]).parents[1] / name
    out = f"--out {flags.quoted(folder)}"
    return " ".join([*seeds, *folds, out, *flags.device_flags(CONFIG)])


def baseline_flags(wildcards):
    """Seeds and folds of the baseline, and the folders of its heads and scores."""
    paths = dict(wildcards.items(), head=CONFIG.baseline)
    folder = (
        Path(TRAINED_DIR.format(**paths)) / f"seed{{seed}}_fold{{fold}}of{CONFIG.folds}"
    )
    seeds = [f"--seed {seed}" for seed in range(1, CONFIG.seeds + 1)]
    folds = [f"--fold {fold}" for fold in range(CONFIG.folds)]
    scores = SCORES_OF_ALL.format(**paths)
    places = f"--heads {flags.quoted(folder)} --scores {flags.quoted(scores)}"
    return " ".join([*seeds, *folds, places])


def vectors_flags(wildcards):
    """Folders of the vectors by all slide encoders that take the features of one encoder."""
    folders = [
        VECTORS_DIR.format(slide_encoder=name, **dict(wildcards.items()))
        for name in PLAN.slide_encoders_of(wildcards.encoder)
    ]
    return " ".join(f"--vectors {flags.quoted(folder)}" for folder in folders)


def fewshot_flags(wildcards, input):
    """Tables of few-shot curves, each after its flag."""
    return " ".join(f"--fewshot {flags.quoted(file)}" for file in input.fewshot)


def head_flags(wildcards, input):
    """Folders of the heads, each after its `--head-dir`."""
    return " ".join(
        f"--head-dir {flags.quoted(Path(file).parent)}" for file in input.heads
    )


def embed_flags(wildcards, input):
    """Folders of the heads; device of a published slide encoder."""
    # Not recorded, as in `target_flags`.
    device = flags.device_flags(CONFIG, default="cpu") if input.entry else []
    return " ".join([head_flags(wildcards, input), *device])


def refine_flags(wildcards, input):
    """Folders of the heads, and the device."""
    # Not recorded, as in `target_flags`.
    return " ".join([head_flags(wildcards, input), *flags.device_flags(CONFIG)])


# Folders and other arguments.


def list_head_dirs(wildcards, input):
    """Folders of the heads, as arguments."""
    return " ".join(flags.quoted(Path(file).parent) for file in input.heads)


def get_bags_dir(wildcards):
    """Folder of the bags."""
    return str(PLAN.precomputed_dir or BAGS_DIR.format(**wildcards))


def list_joined_dirs(wildcards):
    """Folders of the bags to join, as arguments."""
    folders = [
        BAGS_DIR.format(dataset=CONFIG.dataset, **kind._asdict())
        for kind in PLAN.joined[wildcards.encoder]
    ]
    return " ".join(flags.quoted(folder) for folder in folders)


def get_scores_dir(wildcards):
    """Folder of the scores of all bags: of slides, or with early fusion of patients."""
    pattern = SCORES_OF_PATIENTS if CONFIG.fusion == "early" else SCORES_DIR
    return pattern.format(**wildcards)


def get_drawn_scores_dir(wildcards):
    """Folder of the scores of slides, which heatmaps are drawn from."""
    return SCORES_DIR.format(**wildcards)


def get_evaluate_dir(wildcards, input):
    """Folder of predictions and metrics."""
    return str(Path(input.metrics).parent)


def get_out_dir(wildcards, output):
    """Folder of the files that a rule writes."""
    return str(Path(output[0]).parent)


def get_script(wildcards):
    """QuPath script of a study, which each of its jobs writes."""
    return QUPATH_SCRIPT.format(**wildcards)


def get_part_dir(wildcards, output):
    """Folder of a part's outputs, one a slide; its table is in a folder below."""
    return str(Path(output[0]).parents[1])


def get_url(wildcards):
    """URL of a file to fetch."""
    return FETCHABLE[wildcards.file][0]


def get_checksum(wildcards):
    """Checksum of a file to fetch; empty where the slide table has none."""
    return FETCHABLE[wildcards.file][1]


def get_config(wildcards, output):
    """Settings of the run as JSON, which the report lists."""
    # Not recorded, as in `target_flags`: a setting of speed alone writes no report again.
    return CONFIG.model_dump_json(indent=2)


# Records: no command reads them, but a change of one of them runs its rule again.


def record_rows(wildcards):
    """Slides of a part, with what the slide table says of their tiling: a change tiles again."""
    return describe_rows(list_members("tile", wildcards.part))


def record_rows_to_read(wildcards):
    """The same, of a part of `stream`."""
    return describe_rows(list_members("features", wildcards.part))


def describe_rows(members):
    """What the slide table says of the tiling of slides."""
    return [
        f"{name} {SLIDES[name].mpp} {SLIDES[name].scene} {DATASET.geojson_frame}"
        for name in members
    ]


def record_members(wildcards):
    """Slides of a part of `heatmap`."""
    return list_members("heatmap", wildcards.part)


def record_columns(wildcards):
    """Names of the slide table's columns: another patient column divides again."""
    return str(DATASET.columns)


def record_classes(wildcards):
    """Task, classes in order, class of interest and intervals: a change trains and draws again."""
    intervals = DATASET.ends or DATASET.intervals
    return f"{DATASET.task} {DATASET.classes} {DATASET.positive_class} {intervals}"


def record_subgroups(wildcards):
    """Digest of the slide table's further columns: a change evaluates again."""
    columns = sorted(
        (name, sorted(row.subgroups.items())) for name, row in SLIDES.items()
    )
    return hashlib.sha256(repr(columns).encode()).hexdigest()[:16]


def record_dataset(wildcards):
    """Contents of the dataset's yaml, which the report quotes."""
    return DATASET.model_dump_json()
