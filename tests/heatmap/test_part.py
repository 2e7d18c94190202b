"""Which slides a part of heatmaps holds."""

from pathlib import Path

import pytest

from mil.errors import DatasetError
from mil.heatmap.part import HeatmapFolders, jobs_of_part
from mil.io.tables.parts import WHOLE
from tests.messages import one_line


def slides(scores: Path) -> list[str]:
    folders = HeatmapFolders(scores, scores, scores, None, None)
    jobs = jobs_of_part(
        "demo_mini", folders, folds=None, scale="percentile", part=WHOLE, only_test=False
    )
    return [job.slide for job in jobs]


def test_slides_that_were_scored_are_drawn(tmp_path):
    for name in ("mini_03", "mini_01", "stranger"):
        (tmp_path / f"{name}.h5").touch()
    assert slides(tmp_path) == ["mini_01", "mini_03"]


@pytest.mark.parametrize("folder", ["", "misspelt"])
def test_a_folder_without_scores_is_refused(tmp_path, folder):
    with one_line(DatasetError, match="no score file; write them first with `mil score`"):
        slides(tmp_path / folder)
