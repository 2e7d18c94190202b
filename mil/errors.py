"""Errors that a user can mend: one line with the fault, its place and the remedy."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

# Names of a list that a message prints.
SHOWN = 3
# Letters of a name from which on those that begin with it are proposed.
SHORTEST_BEGINNING = 3
# Characters of another library's message that one of ours quotes.
LONGEST_REASON = 300


class MilError(Exception):
    """Base of all errors a user can mend; the command line prints them as one line and exits 1."""


class ConfigError(MilError, ValueError):
    """A setting is unknown, has the wrong type or is out of range."""


class DatasetError(MilError, ValueError):
    """A slide table or its yaml cannot be used as it is."""


class FormatError(MilError, ValueError):
    """A file is of another kind than its name, of another version, or incomplete."""


class SlideError(MilError):
    """A slide cannot be used.

    Attributes:
        state: Name of the state that the slide ends in.
        slide: File of the slide.
        reason: The fault, without the file's name.
    """

    state = "unreadable"

    def __init__(self, slide: Path, reason: str) -> None:
        super().__init__(f"{slide}: {reason}")
        self.slide = slide
        self.reason = reason


class UnreadableSlideError(SlideError):
    """A slide does not open, or its pixels cannot be decoded."""


class ReadingError(MilError):
    """A file, or its disk, vanished while it was read.

    Nothing is wrong with the slide; the job can be run again.
    """


class MissingResolutionError(SlideError):
    """A slide states no size of its pixels, or an impossible one."""

    state = "no_mpp"


class CoarseSlideError(SlideError):
    """A slide's pixels are larger than the tiles' resolution allows: no scan but an overview."""

    state = "too_coarse"


class SeveralImagesError(SlideError):
    """Several images of a slide's file may be the slide, or none is named as the user names it."""

    state = "several_images"


class SmallSlideError(SlideError):
    """A whole slide is smaller than one tile."""

    state = "too_small"


class NoTissueError(SlideError):
    """No tile of a slide holds enough tissue."""

    state = "no_tissue"


class EmptyMaskError(SlideError):
    """The user's mask or region leaves no part of a slide."""

    state = "empty_mask"


class CorruptRegionsError(SlideError):
    """More tiles of a slide than `max_corrupt` allows cannot be decoded."""

    state = "corrupt_regions"


def brief(error: object) -> str:
    """Message of another library's error in one line of bounded length; its class if it is empty.

    Some quote the whole content of a file.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 1]}…"


def unknown_name(kind: str, name: str, known: Iterable[str], where: str = "") -> str:
    """Message for a name that does not exist: the nearest name, then all names.

    Args:
        kind: Noun for the message, such as `encoder`.
        name: The unknown name.
        known: Names that exist.
        where: What stands before the name, such as `train.`, and not before those that exist.
    """
    message = f"no {kind} named {brief(where + name)!r}"
    names = sorted(known)
    if not names:
        return message
    nearest = " or ".join(map(repr, _nearest(name, names)))
    hint = f"did you mean {nearest}? " if nearest else ""
    return f"{message}; {hint}there are: {', '.join(names)}"


def _nearest(name: str, names: Sequence[str]) -> list[str]:
    """Names that an unknown one may stand for; capitals do not count."""
    by_text: dict[str, list[str]] = {}
    for known in names:
        by_text.setdefault(known.casefold(), []).append(known)
    text = name.casefold()
    # Other capitals, or a file's path in place of its name: configs/datasets/mine.csv.
    if (stem := Path(text).stem) in by_text:
        return by_text[stem][:1]
    # A method whose variants have names of their own: `clam` of clam_mb and clam_sb.
    begun = [known for known in names if known.casefold().startswith(text)]
    if len(text) >= SHORTEST_BEGINNING and 0 < len(begun) <= SHOWN:
        return begun
    nearest = get_close_matches(text, by_text, n=1)
    return by_text[nearest[0]][:1] if nearest else []


def some(names: Sequence[str], most: int = SHOWN) -> str:
    """The first `most` names of a list, and the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    # Names of strangers' files may hold line breaks; a message is one line.
    return ", ".join(brief(name) for name in names[:most]) + more


def first_line(error: BaseException) -> str:
    """First line of an error's message, or its class if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
