"""Errors that a user can mend: one line that says what, where and what to do."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

SHOWN = 3  # names of a list that a message prints


class MilError(Exception):
    """Base of all errors a user can mend; the command line prints them as one line and exits 1."""


class ConfigError(MilError, ValueError):
    """A setting is unknown, has the wrong type or is out of range."""


class DatasetError(MilError, ValueError):
    """A slide table or its yaml cannot be used as it is."""


class FormatError(MilError, ValueError):
    """A file is not what its name says, is of another version, or was never finished."""


class SlideError(MilError):
    """A slide cannot be used; `state` is the name of the state it ends in."""

    state = "unreadable"

    def __init__(self, slide: Path, reason: str) -> None:
        super().__init__(f"{slide}: {reason}")
        self.slide = slide
        self.reason = reason


class UnreadableSlideError(SlideError):
    """A slide does not open, or its pixels cannot be decoded."""


class ReadingError(MilError):
    """A file that was being read is gone, or its disk is: nothing is wrong with the slide, the job can be run again."""


class MissingResolutionError(SlideError):
    """A slide does not say how large its pixels are, or says something that cannot be true."""

    state = "no_mpp"


class NoTissueError(SlideError):
    """No tile of a slide holds enough tissue."""

    state = "no_tissue"


class CorruptRegionsError(SlideError):
    """More of a slide's tiles cannot be decoded than `max_corrupt` allows."""

    state = "corrupt_regions"


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """Message for a name that does not exist: the nearest one, then all of them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"no {what} named {name!r}" + (f"; {hint}there are: {', '.join(names)}" if names else "")


def some(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
