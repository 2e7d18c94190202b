# Whole-slide images to trained MIL heads and attention heatmaps.
#   (fetch ->) tile -> features -> split -> train -> score -> evaluate -> compare -> heatmap -> report
from pathlib import Path

from snakemake.utils import min_version

from mil.config import config_path, read_yaml
from mil.plan.exits import exit_on_error

# Its first releases leave the log file empty.
min_version("9.2")

# By the reader of all other settings first: Snakemake takes the last of two equal keys.
with exit_on_error():
    for file in [config_path("config.yaml"), *workflow.overwrite_configfiles]:
        read_yaml(Path(file))


configfile: str(config_path("config.yaml"))


include: "workflow/rules/common.smk"


# A run on precomputed bags has no rule that could fetch, tile or embed a slide.
if not PLAN.precomputed_dir:

    include: "workflow/rules/fetch.smk"

    # Slides that are removed once they are embedded are tiled and embedded by one job.
    if PLAN.streaming:

        include: "workflow/rules/stream.smk"

    else:

        include: "workflow/rules/tile.smk"
        include: "workflow/rules/features.smk"
        include: "workflow/rules/features_shared.smk"

    # Encoders that are joined: only where there are some.
    if PLAN.joined:

        include: "workflow/rules/join.smk"


include: "workflow/rules/bags.smk"
include: "workflow/rules/split.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/heatmap.smk"


# Finer maps need encoder and slides again: only where they are asked for.
if CONFIG.heatmap.cells_per_tile > 1:

    include: "workflow/rules/refine.smk"


# One vector of each slide: only where slide encoders are named.
if CONFIG.slide_encoder:

    include: "workflow/rules/embed.smk"

    # Few slides of each class need classes.
    if DATASET.task == "classification":

        include: "workflow/rules/fewshot.smk"


# A probe beside the heads, unless it is one of them.
if CONFIG.baseline and CONFIG.baseline not in CONFIG.head:

    include: "workflow/rules/baseline.smk"


include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        expand(REPORT, dataset=CONFIG.dataset),
        expand(COMPARISON_LATEX, dataset=CONFIG.dataset),
        PLAN.for_each_head(METRICS),
        get_heatmaps,
        get_refined,
        get_vectors,
        get_model_cards,
        get_incomplete,


onstart:
    check_arrays()
    keep_empty_folders()
    announce_downloads()
    announce_gpu()
    locks.record_run()
    log_slides()


onsuccess:
    locks.forget_run()
    log_ending(report=REPORT.format(dataset=CONFIG.dataset))


onerror:
    locks.forget_run()
    log_ending()
