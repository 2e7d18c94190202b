"""Remedies for the states of slides, in the words of each command that reports them."""

DAMAGED_FILE = "copy it again from its source"

# In a study, after a run: `mil summary`, `mil split`, `mil tile` and the report.
ADVICE = {
    "no_tissue": (
        "look at its QC image in tile/*/grid; if there is tissue, lower tile.min_tissue or correct "
        "the outline; else leave the slide out"
    ),
    "empty_mask": "correct the mask file that the reason names, or remove it",
    "no_mpp": (
        "give its pixel size as the scanner states it, never a guess, in the csv's column `mpp` "
        "(micrometres per pixel at level 0); leave out overviews, and pixels that are not square"
    ),
    "too_coarse": (
        "put the scan itself in place of an overview, or leave it out; correct the csv's column "
        "`mpp` if that is wrong"
    ),
    "too_small": "take an encoder or tile.size_px of smaller tiles, or leave it out",
    "several_images": (
        "write the name or number of the image that is the slide into the csv's column `scene`"
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
    "reading_stopped": "look at the disk or network that holds it, and run again",
    "error": "this is a fault of mil: report it, with the slide's format and the line below",
}

# For single slides without a table: `mil predict`.
ADVICE_WITHOUT_STUDY = {
    "no_mpp": (
        "give its pixel size as the scanner states it, never a guess: --mpp, micrometres per pixel "
        "at level 0"
    ),
    "too_coarse": "give the scan itself instead of an overview; correct --mpp if that is wrong",
    "too_small": "the head's tiles are larger than this slide; give the whole scan",
    "several_images": "name the image that is the slide: --scene, its name or number",
    "no_tissue": (
        "look at its heatmap; lower tile.min_tissue or tile.min_area_mm2 in configs/config.yaml "
        "if there is tissue"
    ),
    "unreadable": ADVICE["unreadable"],
    "corrupt_regions": f"{ADVICE['corrupt_regions']} in configs/config.yaml",
}
