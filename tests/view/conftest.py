"""One small study, written once and changed by no test."""

from pathlib import Path

import pytest

from tests.view.study_files import write_study

SLIDES = {"s1": ("tumour", "test"), "s2": ("normal", "test"), "s3": ("tumour", "train")}


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Folder of results, dataset and slide files; tests that change any copy it."""
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, SLIDES)
    return folder
