"""A section of the report: a heading, a partial template and what the template shows."""

from collections.abc import Mapping
from typing import NamedTuple


class PageSection(NamedTuple):
    """A section of the report.

    Attributes:
        anchor: Id in the page, and without `partial` the name of its template.
        title: Heading, and entry of the table of contents.
        content: What the template shows, by name; it finds it under `content`.
        partial: Name of the template in `sections/`; empty: that of the anchor.
    """

    anchor: str
    title: str
    content: Mapping[str, object]
    partial: str = ""

    @property
    def template(self) -> str:
        """Path of the partial template, below this package."""
        return f"sections/{self.partial or self.anchor}.html.j2"
