"""The report's page from its sections: templates, escaping, and what a browser may load."""

from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path

import jinja2

from mil.io.bags.folder import describe_bags
from mil.io.bags.status import summary
from mil.report.page_section import PageSection
from mil.report.slide_page import TEMPLATE as SLIDE_TEMPLATE
from mil.report.slide_page import heads_note
from mil.report.study_files import StudyFiles
from mil.statistics.text import column_title, headline, interval, mean_sd, value
from mil.versions import TOOL_VERSION

TEMPLATE = "page.html.j2"
SCRIPT = Path(__file__).with_name("page.js")
# Nothing but our own script, by its digest, and pictures of the same place. Figures have
# styles of their own. `file:` since pages from a disk have no origin that is theirs.
POLICY = (
    "default-src 'none'; img-src 'self' file: data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)


def page_text(study: StudyFiles, sections: Sequence[PageSection]) -> str:
    """The page as HTML."""
    # As the browser sees it, between the tags, for the digest.
    script = SCRIPT.read_text(encoding="utf-8")
    digest = b64encode(sha256(script.encode()).digest()).decode()
    names = [slide.slide for slide in study.slides]
    precomputed = [] if study.tiles_dirs else study.bags_dirs
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            title=study.settings.title or study.dataset,
            policy=f"{POLICY}; script-src 'sha256-{digest}'",
            script=script,
            bags=[describe_bags(folder, names) for folder in precomputed],
            notes=study.settings.notes,
            licence=study.settings.licence,
            version=TOOL_VERSION,
            summary=summary(study.states).splitlines()[0],
            prediction=column_title(study.task.column_of_interest),
            pages=study.pages.name,
            sections=sections,
        )
    )


def slide_template() -> jinja2.Template:
    """Template of the page of a slide."""
    return _environment().get_template(SLIDE_TEMPLATE, globals={"policy": POLICY})


@cache
def _environment() -> jinja2.Environment:
    # Names, labels and reasons come from files of others: everything is escaped, and
    # what is ours is marked `safe`.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mil.report", "."),
        autoescape=True,
        # A misspelt name in the template is an error, not a gap in the page.
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        value=value, ci=interval, mean_sd=mean_sd, headline=headline, heads_note=heads_note
    )
    return environment
