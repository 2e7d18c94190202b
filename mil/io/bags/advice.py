"""Remedies for the states of slides, in the words of each command that reports them."""

DAMAGED_FILE = "copy it again from its source"

# In a study, after a run: `mil summary`, `mil split`, `mil tile` and the report.
ADVICE = {
    "no_tissue": (
        "look at its QC image in tile/*/grid; lower tile.min_tissue, or give a mask of the tissue "
        "of your own, or a larger one"
    ),
    "empty_mask": "correct the mask file that the reason names, or remove it",
    "no_mpp": (
        "give its pixel size in the csv's column `mpp` (micrometres per pixel at level 0), "
        "or leave it out"
    ),
    "unreadable": f"{DAMAGED_FILE}, or convert it; then check its checksum",
    "corrupt_regions": f"{DAMAGED_FILE}, or raise features.max_corrupt",
    "no_bag": (
        "import its bag into the folder of precomputed bags, or take its row out of the slide table"
    ),
    "not reached": "run again; the run stopped before this slide",
}

# Before a run: states that only `mil doctor` knows. `{}` is the name of the dataset.
ADVICE_BEFORE_RUN = {
    "missing": (
        "if the slides are elsewhere, give --slides-dir DIR (for a run: `--config slides_dir=DIR`)"
    ),
    "not_fetched": (
        "fetch them first, no GPU is needed: "
        "`snakemake --cores all --until fetch --config dataset={}`"
    ),
    "bad_mask": "correct the mask file, or remove it",
    "error": "this is a fault of mil: report it, with the slide's format and the line below",
}

# For single slides without a table: `mil predict`.
ADVICE_WITHOUT_STUDY = {
    "no_mpp": "give its pixel size: --mpp, micrometres per pixel at level 0",
    "no_tissue": (
        "look at its heatmap; lower tile.min_tissue or tile.min_area_mm2 in configs/config.yaml "
        "if there is tissue"
    ),
    "unreadable": ADVICE["unreadable"],
    "corrupt_regions": f"{ADVICE['corrupt_regions']} in configs/config.yaml",
}
