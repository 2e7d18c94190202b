"""Facts of a study in sentences, which checklists of reporting guidelines are filled with."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from mil.config import Section, checked
from mil.errors import FormatError, MilError
from mil.io.atomic import write_json
from mil.report.composition import Composition
from mil.report.data_facts import data_facts
from mil.report.result_facts import result_facts
from mil.report.slides import SlideRow
from mil.report.study_files import StudyFiles
from mil.versions import TOOL_VERSION

FORMAT = "mil.report"
VERSION = 1


class Facts(Section):
    """Content of report.json.

    Attributes:
        title: Title of the study.
        page: Name of the report's page.
        sections: Titles of its sections, by anchor.
        facts: A sentence or more, by name; a fact that is not known is left out.
    """

    format: str
    format_version: int
    tool_version: str
    title: str
    page: str
    sections: dict[str, str] = Field({})
    facts: dict[str, str] = Field({})


class Anchor(NamedTuple):
    """Id and title of a section of the page."""

    anchor: str
    title: str


def facts_path(out: Path) -> Path:
    """File of the facts, beside the report."""
    return out.with_suffix(".json")


def write_facts(
    study: StudyFiles,
    rows: Sequence[SlideRow],
    composed: Composition,
    sections: Sequence[Anchor],
) -> None:
    """Write the facts of a study.

    Args:
        study: The study.
        rows: Predictions of each slide.
        composed: Slides of each split.
        sections: Sections of the page.
    """
    facts = data_facts(study, composed) | result_facts(study, rows)
    content = Facts(
        format=FORMAT,
        format_version=VERSION,
        tool_version=TOOL_VERSION,
        title=study.settings.title or study.dataset,
        page=study.out.name,
        sections={section.anchor: section.title for section in sections},
        facts={name: text for name, text in facts.items() if text},
    )
    write_json(facts_path(study.out), content.model_dump())


def read_facts(path: Path) -> Facts:
    """Read the facts of a study.

    Raises:
        FormatError: The file is missing, or is not what this version of `mil report` writes.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        stored = checked(Facts, content, str(path))
    except (OSError, ValueError, TypeError, RecursionError, MilError) as error:
        raise FormatError(
            f"{path}: not the facts of a study ({_brief(error)}); run `mil report` first"
        ) from None
    if (stored.format, stored.format_version) != (FORMAT, VERSION):
        raise FormatError(f"{path}: not of this version of mil; run `mil report` again")
    return stored


def _brief(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200]
