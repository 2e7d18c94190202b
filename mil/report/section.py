"""A section of the report: a heading, a partial template and what the template shows."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from mil.report.study import Study


class Section(NamedTuple):
    """A section of the report.

    Attributes:
        anchor: Name of its template, `sections/ANCHOR.html.j2`, and its id in the page.
        title: Heading, and entry of the table of contents.
        content: What the template shows, by name; it finds it under `content`.
    """

    anchor: str
    title: str
    content: Mapping[str, object]

    @property
    def template(self) -> str:
        """Path of the partial template, below this package."""
        return f"sections/{self.anchor}.html.j2"


# Builds a section; None where a study has nothing to show in it.
Builder = Callable[[Study], Section | None]
