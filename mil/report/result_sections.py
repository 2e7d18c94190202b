"""Sections of the report with figures of the results, in the order of the page.

Each is a module of `mil.report.figures` with a function `build(study)` and a partial
template of its anchor in `sections/`. One line here puts it into the page and its table
of contents.
"""

from mil.report.figures import (
    agreement,
    calibrated,
    compared,
    decisions,
    discrimination,
    faithfulness,
    learning,
    lesions,
    net_benefit,
    survival,
)
from mil.report.section import Builder

RESULT_SECTIONS: tuple[Builder, ...] = (
    discrimination.build,
    decisions.build,
    calibrated.build,
    net_benefit.build,
    survival.build,
    agreement.build,
    compared.build,
    faithfulness.build,
    lesions.build,
    learning.build,
)
