"""Names of splits, slides and columns, ours and those of other tools' tables."""

import re
from pathlib import PurePosixPath

from mil.text import clean

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
    # Of survival. A column `censorship` is 1 where no event came: it is not among them.
    "time": ("time", "os_months", "os_time", "os_days", "survival_months", "survival_time"),
    "event": ("event", "os_status", "os_event", "os"),
}

# Columns that may hold the slide where none of `KNOWN` does.
LAST_RESORT = {
    "slide": ("path", "slide_path", "file_path"),
    "label": (),
    "patient": (),
    "time": (),
    "event": (),
}
# Names of columns in other languages: proposed, never used unasked.
FOREIGN = {
    "slide": (
        *("objektträger", "schnitt", "bild", "bildname", "datei", "dateiname", "präparat", "scan"),
        *("lame", "fichier", "nom_du_fichier", "coupe", "lámina", "laminilla"),
        *("archivo", "imagen", "vetrino", "lâmina", "arquivo", "bestand", "bestandsnaam", "name"),
    ),
    "label": (
        *("diagnose", "befund", "klasse", "kategorie", "ergebnis", "zielgröße", "einstufung"),
        *("diagnostic", "étiquette", "classe", "résultat", "diagnóstico", "etiqueta", "clase"),
        *("resultado", "diagnosi", "etichetta", "categoria"),
    ),
    "patient": (
        *("fall", "fallnummer", "fall_nr", "patientennummer", "patienten_id", "patient_nr"),
        *(
            "pat",
            "pat_id",
            "pat_nr",
            "pat_no",
            "patid",
            "pid",
            "cas",
            "numéro_patient",
            "paciente",
            "caso",
            "paziente",
            "patiënt",
        ),
        *("participant", "participant_id", "donor", "donor_id", "mrn", "patient_number"),
    ),
    "time": (
        *("zeit", "überlebenszeit", "temps", "tiempo", "tempo", "tijd", "follow_up", "days"),
        *("months", "dfs_months", "pfs_months", "dss_months", "dfi_time", "pfi_time", "dss_time"),
    ),
    "event": (
        *("ereignis", "événement", "evento", "gebeurtenis", "death", "dead", "vital_status"),
        *("dfs_status", "pfs_status", "dss_status", "dfi", "pfi", "dss"),
    ),
}
# The slide table's own columns beside slide, label and patient.
OWN_COLUMNS = ("split", "mpp", "annotation", "path", "checksum")
# Every name by which a row of a table is known for its header.
HEADER_KEYS = frozenset(
    name
    for names in (*KNOWN.values(), *LAST_RESORT.values(), *FOREIGN.values(), OWN_COLUMNS)
    for name in names
)


def without_suffix(name: PurePosixPath) -> PurePosixPath:
    """A slide's name without its extension; other dots (of TCGA's names, of UIDs) stay."""
    if name.suffix.lower() not in SUFFIXES | FEATURE_SUFFIXES:
        return name
    stem = name.with_suffix("")
    # `a.ome.tif` is the slide `a`.
    return stem.with_suffix("") if stem.suffix.lower() == ".ome" else stem


def column_key(column: str) -> str:
    """A column's name as it is compared: small letters, `_` for blanks, dashes and dots."""
    return re.sub(r"[\s.-]+", "_", clean(column).lower()).strip("_")
