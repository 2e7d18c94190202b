"""Joined encoders: bags of each are made once, joined, and go on as those of one encoder."""

import pytest

JOINED = "encoder=[resnet18,resnet18@1.0+resnet18@0.5]"
FEATURES = "results/toy/features"


def test_joined_bags_are_planned_after_those_that_they_join(study):
    plan, shown = study.planned_and_shown("head=abmil", JOINED)
    assert (plan["tile"], plan["features"], plan["join"]) == (6, 6, 3)
    # Of the encoder alone, and of the joined ones.
    assert (plan["bags"], plan["train"], plan["evaluate"]) == (2, 2, 2)
    fine, coarse = (f"{FEATURES}/224px_{mpp}mpp/resnet18" for mpp in ("0.5", "1"))
    folder = f"{FEATURES}/224px_0.5mpp/resnet18@0.5+resnet18@1"
    assert f"mil bags join {fine} {coarse} --dataset toy --out {folder} --part 2of4" in shown


@pytest.mark.slow
def test_what_was_joined_stays(study):
    done = study.snakemake("--config", "dataset=toy", "head=abmil", JOINED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert study.planned("head=abmil", JOINED) == {}
    # The same encoder by another spelling.
    assert study.planned("head=abmil", "encoder=resnet18+resnet18@1").keys() <= {
        "compare",
        "report",
    }
    joined = study.folder / FEATURES / "224px_0.5mpp/resnet18@0.5+resnet18@1"
    (joined / "b.h5").unlink()
    plan = study.planned("head=abmil", JOINED)
    assert plan["join"] == 1
    assert not {"tile", "features"} & set(plan)
    # A bag that is lost is made again, and joined again.
    (study.folder / FEATURES / "224px_1mpp/resnet18/c.h5").unlink()
    plan = study.planned("head=abmil", JOINED)
    assert (plan["features"], plan["join"]) == (1, 2)


@pytest.mark.slow
def test_encoders_share_readings_at_each_tiling(study):
    plan = study.planned("head=abmil", "encoder=[resnet18@0.5+resnet18@1,resnet50@0.5+resnet50@1]")
    assert plan["features_resnet18_resnet50"] == 3
    assert plan["features_resnet18_resnet50_1"] == 3
    assert (plan["tile"], plan["join"]) == (6, 6)
    assert "features" not in plan
