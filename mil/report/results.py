"""Sections of the report with figures and tables of the results, in the order of the page."""

from collections.abc import Callable

from mil.report.figures import (
    agreement,
    branches,
    calibrated,
    decisions,
    discrimination,
    faithfulness,
    learning,
    lesions,
    net_benefit,
    survival,
)
from mil.report.page_section import PageSection
from mil.report.study_files import StudyFiles

# Each builds a section; None where the task or the study has nothing to show in it.
BUILDERS: tuple[Callable[[StudyFiles], PageSection | None], ...] = (
    discrimination.build,
    decisions.build,
    calibrated.build,
    net_benefit.build,
    survival.build,
    agreement.build,
    faithfulness.build,
    lesions.build,
    branches.build,
    learning.build,
)


def result_sections(study: StudyFiles) -> list[PageSection]:
    """Sections with figures of the results that a study has."""
    built = [build(study) for build in BUILDERS]
    return [section for section in built if section is not None]
