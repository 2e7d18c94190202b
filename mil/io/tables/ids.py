"""Ids of slides: the one rule by which a file's name becomes an id, and which ids may be used.

An id becomes the name of files on every system: no separators, no wildcards of the workflow,
nothing hidden, and short enough for all files that are called by it.
"""

import re
from pathlib import PurePath, PurePosixPath

from mil.io.atomic import LONGEST_NAME, LONGEST_SCRATCH
from mil.io.tables.conventions import without_suffix
from mil.text import clean

# The longest ending of a file called by a slide's id, of outlines and heatmaps.
LONGEST_ENDING = len(".branches.png")
# Bytes, as file systems count: letters of other alphabets take two to four. While a file
# is written, its name has the scratch prefix too.
MAX_ID_BYTES = LONGEST_NAME - LONGEST_SCRATCH - LONGEST_ENDING
# Bytes of an id that come from a file's name: a number may follow, where two are alike.
MAX_STEM_BYTES = MAX_ID_BYTES - 10
# The last range is of file names that are not UTF-8.
_NEVER = r"/\\{}*?\"'<>|:\x00-\x1f\x7f\ud800-\udfff"
SLIDE_ID = re.compile(rf"[^\s.\-{_NEVER}][^{_NEVER}]*")
# Snakemake takes a name that ends in so many repeats for a rule that feeds itself.
REPEATS = 20
PERIODIC = re.compile(rf"(.+?)\1{{{REPEATS - 1},}}$")
# Characters to replace, and `..`, which would leave a folder.
UNUSABLE = re.compile(rf"[{_NEVER}]|\.\.+")


def valid_id(name: str) -> bool:
    """Whether a slide id can be part of a file name everywhere; at most `MAX_ID_BYTES`."""
    if not SLIDE_ID.fullmatch(name) or ".." in name or _is_periodic(name):
        return False
    return len(name.encode()) <= MAX_ID_BYTES


def _is_periodic(name: str) -> bool:
    # The count first, since the search is slow.
    return name.count(name[-1:]) >= REPEATS and PERIODIC.search(name) is not None


def id_of(file: PurePath) -> str:
    """Id of the slide that a file holds: its name without the ending, cleaned.

    `A.ome.tif` is `A`; other dots, as of TCGA's names and of UIDs, stay.
    """
    return clean_id(without_suffix(PurePosixPath(file.name)).name)


def clean_id(text: str) -> str:
    """The valid id that is nearest to a text: unusable characters become `_`."""
    # As cells of tables are compared: a slide table must name the id that a file gives.
    # What `clean` leaves out may part two dots, what it keeps may be unusable.
    usable = UNUSABLE.sub("_", clean(UNUSABLE.sub("_", text)))
    # The end of a long name tells more slides apart than its beginning.
    name = _last_bytes(usable, MAX_STEM_BYTES).strip()
    if _is_periodic(name):
        name = f"{name}_end"
    return name if valid_id(name) else f"_{name.lstrip('. -')}"


def id_fault(name: str) -> str:
    """Why a text cannot be a slide's id, with the nearest that can; `name` is not valid."""
    fault = "cannot be a file name"
    num_bytes = len(name.encode(errors="replace"))
    if num_bytes > MAX_ID_BYTES:
        fault = f"is too long for a file name ({num_bytes} bytes of at most {MAX_ID_BYTES})"
    elif _is_periodic(name):
        fault = f"ends in a part that is repeated {REPEATS} times, which the workflow refuses"
    return f"{fault}; use letters, digits, _ and -, such as {clean_id(name)!r}"


def _last_bytes(text: str, most: int) -> str:
    """The end of a text that takes at most `most` bytes, whole characters only."""
    return text.encode()[-most:].decode(errors="ignore")
