"""Reading of a benchmark's results file, from which a later run resumes."""

import json
from pathlib import Path
from typing import TypeVar

from mil.config import Section, checked
from mil.errors import FormatError, brief
from mil.versions import TOOL_VERSION


class ResultsContent(Section):
    """What the results files of all benchmarks hold, besides their results."""

    tool_version: str = TOOL_VERSION
    machine: dict[str, str | int]
    settings: Section


Content = TypeVar("Content", bound=ResultsContent)


def read_results(path: Path | None, model: type[Content], settings: Section) -> Content | None:
    """Read a results file of the same settings and version; None if there is no file.

    Args:
        path: the file; None: results are not written.
        model: model of the file's content.
        settings: settings of the run.

    Raises:
        FormatError: the file holds something else, or results of other settings.
    """
    if path is None or not path.exists():
        return None
    try:
        content = checked(model, json.loads(path.read_text(encoding="utf-8")), str(path))
    except ValueError as error:
        reason = brief(error)
        raise FormatError(
            f"{path}: not the results of this benchmark ({reason}); give another --json"
        ) from None
    # A mixture would be a table of two different experiments.
    if (content.settings, content.tool_version) != (settings, TOOL_VERSION):
        raise FormatError(
            f"{path}: measured with other data, other settings or another version; "
            "give another --json, or delete it"
        )
    return content
