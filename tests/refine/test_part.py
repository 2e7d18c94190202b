"""Which slides a part of finer maps holds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mil.config import FeaturesConfig
from mil.errors import DatasetError
from mil.heads import build_head
from mil.heatmap.part import HeatmapFolders
from mil.io.tables import read_csv
from mil.io.tables.parts import WHOLE
from mil.refine.part import RefineJob, Refiner, jobs_of_part
from mil.refine.stage import RefineSettings
from tests.messages import one_line
from tests.predict.made import TWO, ensemble
from tests.synthetic import bag_file


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


@pytest.mark.parametrize(
    ("head", "encoders", "reason"),
    [("abmil", 2, "tiny: features of joined encoders"), ("transmil", 1, "attend to one another")],
)
def test_a_slide_without_a_finer_map_has_the_reason_in_its_place(tmp_path, head, encoders, reason):
    bag_file(tmp_path / "bag.h5", "mini_01", np.ones((2, 4)))
    (tmp_path / "mini_01.h5").touch()
    (tmp_path / "mini_01.tif").touch()
    (job,) = jobs(tmp_path, tmp_path, [])
    job = replace(job, bag=tmp_path / "bag.h5", out=tmp_path / "fine.png")
    one = ensemble(TWO)
    models = [(build_head(head, {}, dim=4, classes=2), trained) for _, trained in one.models]
    refiner = Refiner([], FeaturesConfig(), "cpu")
    # As if they had been read.
    refiner.ensemble = replace(one, models=models, encoders=one.encoders * encoders)
    line = refiner.draw(job, job.outputs())
    assert line.startswith("mini_01: no finer map: ")
    assert reason in line
    assert job.out.is_file()
    assert read_csv(job.out.with_suffix(".csv")) == []
