# Whole-slide images to trained MIL heads and attention heatmaps.
#   (fetch ->) tile -> features -> split -> train -> score -> evaluate -> compare -> heatmap -> report
from snakemake.utils import min_version

from mil.config import config_path

min_version("9.0")


configfile: str(config_path("config.yaml"))


include: "workflow/rules/common.smk"


if not PLAN.ready:  # ready bags: no slide is fetched, tiled or embedded

    include: "workflow/rules/fetch.smk"
    include: "workflow/rules/tile.smk"
    include: "workflow/rules/features.smk"


include: "workflow/rules/split.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/heatmap.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        expand("results/{dataset}/report.html", dataset=CONFIG.dataset),
        expand("results/{dataset}/compare/comparison.tex", dataset=CONFIG.dataset),
        PLAN.of_each_head(
            "results/{dataset}/evaluate/{tiling}/{encoder}/{head}/metrics.json"
        ),
        heatmaps,
        cards,


onsuccess:
    shell("{SUMMARY}")


onerror:
    shell("{SUMMARY}")
