"""Remedies for the states of slides, in the words of each command that reports them.

A remedy must be true for the cause, which the reason of a state names: `remedy` and its kin
choose by both. The table of docs/how-to/doctor.md lists them.
"""

import re
import shlex

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
        "`mpp` if that is wrong; for scans at low power set tile.mpp to their µm/px, which holds "
        "for all slides"
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
    "not reached": "run again; the run had not come that far",
}

# Before a run: states that only `mil doctor` knows.
ADVICE_BEFORE_RUN = {
    "missing": (
        "put its file there, or correct its path in the csv; if all slides are elsewhere, give "
        "--slides-dir DIR (for a run: `--config slides_dir=DIR`)"
    ),
    "not_fetched": (
        "fetch them first, no GPU is needed: "
        "`snakemake --cores all --until fetch --config dataset={dataset} slides_dir={slides_dir}`"
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
    "empty_mask": ADVICE["empty_mask"],
    "too_coarse": (
        "give the scan itself instead of an overview; correct --mpp if that is wrong; a scan at "
        "low power needs a head that was trained at its µm/px"
    ),
    "too_small": "the head's tiles are larger than this slide; give the whole scan",
    "several_images": "name the image that is the slide: --scene, its name or number",
    "no_tissue": (
        "look at its heatmap; lower tile.min_tissue or tile.min_area_mm2 in configs/config.yaml "
        "if there is tissue"
    ),
    "unreadable": ADVICE["unreadable"],
    "corrupt_regions": f"{ADVICE['corrupt_regions']} in configs/config.yaml",
}

# States of bags that were imported or come from another run: no slide is tiled here.
ADVICE_OF_BAGS = "make its features again from the slide, or take its row out of the slide table"

LOOK_AT_PATH = "correct its path, or put its file there"
GIVE_FILE = "give the file of the slide itself"
CONVERT = "convert it as the reason says"
MASK_OF_GREY = "give a mask of its tissue; leave it out if it is no stained section in colour"
# Causes that the advice of a state would be false for: state, pattern of the reason, advice.
CAUSES = (
    ("unreadable", r"no such file", LOOK_AT_PATH),
    ("unreadable", r"a folder, not a slide|neither a file nor a folder", GIVE_FILE),
    ("unreadable", r"not a slide but ", GIVE_FILE),
    ("unreadable", r"cannot be read: ", "look at its permissions and its disk, then run again"),
    ("unreadable", r"an empty file|a TIFF that is cut short", DAMAGED_FILE),
    ("unreadable", r".*; write it again |.*only 8-bit RGB is read", CONVERT),
    # libtiff, of samples, colours and compressions that it has no decoder for.
    ("unreadable", r".*: Sorry, ", CONVERT),
    ("no_tissue", r".*pixels are grey", MASK_OF_GREY),
    ("unreadable", r"needs more memory", "give the job more memory, or run fewer at a time"),
    # No setting allows these.
    ("corrupt_regions", r".* of its area cannot be decoded at any level", DAMAGED_FILE),
    ("corrupt_regions", r"(\d+) of \1 tiles ", DAMAGED_FILE),
)


def remedy(state: str, reason: str, *, precomputed: bool = False) -> str:
    """Remedy for a slide's state in a study.

    Args:
        state: Name of the state, not `ok`.
        reason: Reason of the state.
        precomputed: Whether the state is that of a precomputed bag.
    """
    if precomputed and state != "no_bag":
        return ADVICE_OF_BAGS
    return _of_cause(state, reason) or ADVICE[state]


def remedy_before_run(state: str, reason: str, *, dataset: str, slides_dir: str) -> str:
    """Remedy for a slide's state that `mil doctor` expects; empty for `ok`.

    Args:
        state: Name of the state.
        reason: Reason of the state.
        dataset: Name of the dataset, for commands in the text.
        slides_dir: Folder of the slides, for commands in the text.
    """
    text = _of_cause(state, reason) or {**ADVICE, **ADVICE_BEFORE_RUN}.get(state, "")
    # There is no image before the run.
    text = text.replace("look at its QC image", "run `--until tile` and look at its QC image")
    names = {"{dataset}": dataset, "{slides_dir}": shlex.quote(slides_dir)}
    for pattern, name in names.items():
        text = text.replace(pattern, name)
    return text


def remedy_of_one(state: str, reason: str) -> str:
    """Remedy for the state of a single slide without a study; empty: none is known."""
    text = _of_cause(state, reason) or ADVICE_WITHOUT_STUDY.get(state, "")
    if state == "no_mpp":
        text += " (it holds for all slides of a command: predict this one by itself)"
    return text


def _of_cause(state: str, reason: str) -> str:
    for cause_state, pattern, advice in CAUSES:
        if state == cause_state and re.match(pattern, reason):
            return advice
    return ""
