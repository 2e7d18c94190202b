"""Sections of the report with figures of the results, in the order of the page.

Each is a module with a function `section(study)` and a partial template of its name in
`sections/`. One line here puts it into the page and its table of contents.
"""

from mil.report.section import Builder

RESULT_SECTIONS: tuple[Builder, ...] = ()
