"""Pages without figures, which are tested alone."""

import pytest


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch):
    """To draw figures for each page would double the time."""
    monkeypatch.setattr("mil.report.stage.result_sections", lambda study: [])
