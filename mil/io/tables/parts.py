"""Parts of a dataset: which slides one job takes.

Membership follows from a slide's id alone, so that a slide more changes no other part. Parts of
a coarse division are unions of those of a finer one, where both numbers are powers of two.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32

from mil.errors import ConfigError

PATTERN = re.compile(r"([1-9][0-9]{0,6})(?:of|/)([1-9][0-9]{0,6})")


@dataclass(frozen=True, order=True)
class Part:
    """One part of a dataset.

    Attributes:
        number: Number of the part, from 1.
        parts: Number of parts.
    """

    number: int
    parts: int

    @property
    def name(self) -> str:
        """Name of the part in paths, such as `3of8`."""
        return f"{self.number}of{self.parts}"

    def holds(self, slide: str) -> bool:
        """Whether a slide belongs to this part."""
        return part_of(slide, self.parts) == self


WHOLE = Part(1, 1)


def parse_part(text: str) -> Part:
    """A part from `3/8` or `3of8`; from an empty text the whole dataset.

    Raises:
        ConfigError: The text is no part.
    """
    if not text:
        return WHOLE
    match = PATTERN.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        raise ConfigError(f"--part {text}: a part is NUMBER/PARTS, such as 3/8, the third of 8")
    return Part(int(match[1]), int(match[2]))


def part_of(slide: str, parts: int) -> Part:
    """Part of a slide, among `parts`."""
    # The middle bits of a CRC spread numbered ids, such as tumor_001, most evenly.
    return Part((crc32(slide.encode()) >> 12) % parts + 1, parts)


def parts_of(slides: Iterable[str], parts: int) -> dict[str, list[str]]:
    """Slides by the name of their part, parts in order; one without slides is left out."""
    members: dict[Part, list[str]] = {}
    for slide in slides:
        members.setdefault(part_of(slide, parts), []).append(slide)
    return {part.name: members[part] for part in sorted(members)}


def number_of_parts(slides: int, slides_per_job: int) -> int:
    """Number of parts for jobs of at most about `slides_per_job` slides: a power of two."""
    jobs = -(-slides // slides_per_job)
    return 1 << max(jobs - 1, 0).bit_length()
