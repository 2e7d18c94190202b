"""The map of the code: what the pages name is where they say."""

import re

import pytest

from tests.docs.pages import ROOT

ARCHITECTURE = "docs/explain/architecture.md"
# Paths in code quotes; those with a part in capitals stand for many (`mil/heads/NAME.py`).
PATH = re.compile(r"`((?:mil|tests|configs|workflow|docs)/[\w./*-]+)`")
PLACEHOLDER = re.compile(r"[A-Z]{4,}")
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "docs/glossary.md"]
PAGES += [ARCHITECTURE, "docs/index.md"]


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_exists(page):
    named = {path for path in PATH.findall(text_of(page)) if not PLACEHOLDER.search(path)}
    missing = [path for path in sorted(named) if not any(ROOT.glob(path.rstrip("/")))]
    assert not missing


def test_the_types_that_a_slide_meets_are_where_the_table_says():
    rows = re.findall(
        r"^\| [^|]+ \| (`\w+`[^|]*) \| [^|]+ \| `([\w/.]+)` \|$", text_of(ARCHITECTURE), re.M
    )
    assert len(rows) > 15
    for types, path in rows:
        code = text_of(path)
        for name in re.findall(r"`(\w+)`", types):
            assert re.search(rf"^class {name}\b", code, re.MULTILINE), f"{path} has no {name}"


def test_every_stage_of_the_workflow_is_in_the_table_of_stages():
    stages = {path.stem for path in (ROOT / "workflow/rules").glob("*.smk")}
    # Rules files of the plan and of shared functions are no stages: they have no command.
    packages = {stage for stage in stages if (ROOT / "mil" / stage / "stage.py").exists()}
    listed = set(re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", text_of(ARCHITECTURE), re.M))
    assert packages == listed
