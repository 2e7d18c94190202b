"""Joined encoders: bags of each are made once, joined, and go on as those of one encoder."""

import pytest

JOINED = "encoder=[resnet18,resnet18@1.0+resnet18@0.5]"
NAME = "resnet18@0.5+resnet18@1"
FEATURES = "results/toy/features"
# All slides in one job.
ONE_PART = "slides_per_job={tile: 16, features: 16}"


@pytest.mark.slow
def test_joined_bags_are_planned_after_those_that_they_join(study):
    plan, shown = study.planned_and_shown("head=abmil", JOINED)
    assert (plan["tile"], plan["features"], plan["join"]) == (6, 6, 3)
    # Of the encoder alone, and of the joined ones.
    assert (plan["bags"], plan["train"], plan["evaluate"]) == (2, 2, 2)
    fine, coarse = (f"{FEATURES}/224px_{mpp}mpp/resnet18" for mpp in ("0.5", "1"))
    folder = f"{FEATURES}/224px_0.5mpp/{NAME}"
    assert f"mil bags join {fine} {coarse} --dataset toy --out {folder} --part 2of4" in shown


@pytest.mark.slow
def test_what_was_joined_stays(study):
    table = f"results/toy/bags/224px_0.5mpp/{NAME}.csv"
    done = study.snakemake(table, "--config", "dataset=toy", JOINED, ONE_PART)
    assert done.returncode == 0, done.stdout + done.stderr
    plan = study.planned("encoder=resnet18+resnet18@1", ONE_PART)
    assert not {"tile", "features", "join", "bags"} & set(plan)
    # A bag that is lost is made again, and joined again.
    (study.folder / FEATURES / "224px_1mpp/resnet18/c.h5").unlink()
    plan = study.planned(JOINED, ONE_PART)
    assert (plan["features"], plan["join"]) == (1, 1)
    assert "tile" not in plan


@pytest.mark.slow
def test_encoders_share_readings_at_each_tiling(study):
    plan = study.planned("head=abmil", "encoder=[resnet18@0.5+resnet18@1,resnet50@0.5+resnet50@1]")
    assert plan["features_resnet18_resnet50"] == 3
    assert plan["features_resnet18_resnet50_1"] == 3
    assert (plan["tile"], plan["join"]) == (6, 6)
    assert "features" not in plan
