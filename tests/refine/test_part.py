"""Which slides a part of finer maps holds."""

from pathlib import Path

import pytest

from mil.errors import DatasetError
from mil.heatmap.part import HeatmapFolders
from mil.io.tables.parts import WHOLE
from mil.refine.part import RefineJob, jobs_of_part
from mil.refine.stage import RefineSettings
from tests.messages import one_line


def jobs(place: Path, scores: Path, lines: list[str]) -> list[RefineJob]:
    folds = place / "folds.csv"
    folds.write_text("fold,slide,split\n0,mini_01,test\n0,mini_03,train\n1,mini_01,train\n")
    return jobs_of_part(
        "demo_mini",
        HeatmapFolders(scores, place, place, None, place),
        folds=folds,
        part=WHOLE,
        only_test=False,
        settings=RefineSettings(4),
        say=lines.append,
    )


def test_slides_that_were_scored_and_are_on_the_disk_are_drawn(tmp_path):
    for name in ("mini_01.h5", "mini_03.h5", "mini_01.tif", "mini_02.tif"):
        (tmp_path / name).touch()
    lines: list[str] = []
    (job,) = jobs(tmp_path, tmp_path, lines)
    assert job.file == tmp_path / "mini_01.tif"
    assert job.splits == (("0", "test"), ("1", "train"))
    assert lines == ["refine: slides without a finer map, as they are not on this disk: 1"]


@pytest.mark.parametrize("folder", ["", "misspelt"])
def test_a_folder_without_scores_is_refused(tmp_path, folder):
    with one_line(DatasetError, match="no score file; write them first with `mil score`"):
        jobs(tmp_path, tmp_path / folder, [])
