"""Names of splits, slides and columns, ours and those of other tools' tables."""

from pathlib import PurePosixPath

SPLITS = ("train", "val", "test")
# Other words for a split, in small letters.
SPLIT_WORDS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}

OPENSLIDE_SUFFIXES = frozenset(
    (
        ".svs",
        ".tif",
        ".tiff",
        ".ndpi",
        ".mrxs",
        ".scn",
        ".bif",
        ".vms",
        ".vmu",
        ".svslide",
        ".dcm",
        ".czi",
    )
)
# Files named so are slides even though OpenSlide cannot open them: they must end in a
# named state, not vanish.
OTHER_SUFFIXES = frozenset((".vsi", ".isyntax", ".qptiff", ".zvi", ".kfb", ".sdpc"))
SUFFIXES = OPENSLIDE_SUFFIXES | OTHER_SUFFIXES
# Other tools' tables name the file of features in place of the slide.
FEATURE_SUFFIXES = frozenset((".h5", ".pt"))

# Names of columns: ours, CLAM's, TRIDENT's, STAMP's and slideflow's, and others in use;
# small letters, `_` for blanks.
KNOWN = {
    "slide": (
        "slide",
        "slide_id",
        "slide_name",
        "wsi",
        "wsi_id",
        "filename",
        "file_name",
        "file",
        "image",
        "image_id",
    ),
    "label": (
        "label",
        "labels",
        "slide_label",
        "class",
        "diagnosis",
        "target",
        "category",
        "outcome",
        "ground_truth",
    ),
    "patient": ("patient", "patient_id", "case_id", "case", "subject", "subject_id"),
}

# Spreadsheets' words for an empty cell, in small letters.
NO_LABEL = {"", "na", "n/a", "nan", "#n/a"}


def without_suffix(name: PurePosixPath) -> PurePosixPath:
    """A slide's name without its extension; other dots (of TCGA's names, of UIDs) stay."""
    if name.suffix.lower() not in SUFFIXES | FEATURE_SUFFIXES:
        return name
    stem = name.with_suffix("")
    # `a.ome.tif` is the slide `a`.
    return stem.with_suffix("") if stem.suffix.lower() == ".ome" else stem


def column_key(column: str) -> str:
    """A column's name as it is compared: small letters, `_` for blanks and dashes."""
    return column.lower().replace(" ", "_").replace("-", "_")
