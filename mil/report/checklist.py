"""Checklists of reporting guidelines, filled with the facts of a study."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mil.config import Section, checked
from mil.config.yaml_file import read_yaml
from mil.io.atomic import check_not_inputs, write_text
from mil.report.commands import Guideline
from mil.report.facts import Facts, facts_path, read_facts
from mil.trained.markdown import escaped, table

UNKNOWN = "*you must write this*"
PAGE = "report.html"


class Item(Section):
    """One item of a guideline.

    Attributes:
        number: Number of the item in the guideline; `–` where ours is not known.
        topic: What the item asks for, in words of our own.
        facts: Names of the facts that answer it.
        where: Anchor of the section of the report that shows it.
        add: What the facts leave open, for the author.
    """

    number: str
    topic: str
    facts: list[str] = Field([])
    where: str = ""
    add: str = ""


class Part(Section):
    """Items under one heading."""

    part: str
    items: Annotated[list[Item], Field(min_length=1)]


class Checklist(Section):
    """A guideline."""

    title: str
    source: str
    note: str
    parts: list[Part]


def load_checklist(guideline: Guideline) -> Checklist:
    """Items of a guideline."""
    path = Path(__file__).with_name("checklists") / f"{guideline}.yaml"
    return checked(Checklist, read_yaml(path), path.name)


def run(study: Path, guideline: Guideline, out: Path | None = None) -> Path:
    """Write the filled checklist of a study.

    Args:
        study: Folder of the study's results, which holds the report.
        guideline: Name of the guideline.
        out: Markdown file to write; None: in the study's folder.

    Returns:
        The file.

    Raises:
        FormatError: The study has no report of this version.
    """
    source = facts_path(study / PAGE) if study.is_dir() else facts_path(study)
    facts = read_facts(source)
    path = out or source.with_name(f"checklist_{guideline}.md")
    check_not_inputs([path], [source])
    write_text(path, markdown(load_checklist(guideline), facts))
    return path


def markdown(checklist: Checklist, facts: Facts) -> str:
    """The checklist as Markdown: a table for each part."""
    items = [item for part in checklist.parts for item in part.items]
    answered = sum(bool(_known(item, facts)) for item in items)
    lines = [
        f"# {checklist.title}: {escaped(facts.title)}",
        f"{answered} of {len(items)} items are filled from the results, by mil "
        f"{escaped(facts.tool_version)}. Read every line: a filled item may still lack what only "
        f"the authors know. {checklist.note}",
        f"Source: {checklist.source}",
    ]
    for part in checklist.parts:
        rows = [_row(item, facts) for item in part.items]
        header = ["item", "asks for", "where in the report", "value"]
        lines += [f"## {part.part}", table(header, rows)]
    return "\n\n".join(lines).replace(escaped(UNKNOWN), UNKNOWN) + "\n"


def _known(item: Item, facts: Facts) -> list[str]:
    return [facts.facts[name] for name in item.facts if facts.facts.get(name)]


def _row(item: Item, facts: Facts) -> Sequence[str]:
    known = _known(item, facts)
    parts = list(known)
    if not known:
        parts = [UNKNOWN + (f" {item.add}" if item.add else "")]
    elif item.add:
        parts.append(f"{UNKNOWN} {item.add}")
    where = facts.sections.get(item.where, "") if known else ""
    return [item.number, item.topic, f"{facts.page}, {where}" if where else "–", " ".join(parts)]
