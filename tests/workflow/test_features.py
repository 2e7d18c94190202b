"""Bags of several encoders: from one reading where that can be, and never made twice."""

import pytest

from tests.workflow.conftest import ROOT

TWO = "encoder=[resnet18,resnet50]"
FEATURES = "results/toy/features/224px_0.5mpp"


def run(study, *config: str) -> None:
    done = study.snakemake("--config", "dataset=toy", "head=abmil", *config)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_encoders_with_the_same_tiles_share_a_reading(study):
    plan = study.planned("head=abmil", TWO)
    assert (plan["features_resnet18_resnet50"], plan["tile"], plan["train"]) == (3, 3, 2)
    assert "features" not in plan
    run(study, TWO)
    assert study.planned("head=abmil", TWO) == {}
    for one in ("resnet18", "resnet50"):
        assert not {"features", "tile", "train"} & set(
            study.planned("head=abmil", f"encoder={one}")
        )


@pytest.mark.slow
def test_what_is_made_stays_when_an_encoder_comes(study):
    run(study, "encoder=resnet18")
    plan = study.planned("head=abmil", TWO)
    assert plan["features"] == 3  # of resnet50
    assert not {"tile", "features_resnet18_resnet50"} & set(plan)
    run(study, TWO)
    more = study.planned("head=abmil", "encoder=[resnet18,resnet50,lunit_vits16,phikon]")
    assert more["features_lunit_vits16_phikon"] == 3
    assert more["train"] == 2
    assert "features" not in more


@pytest.mark.slow
def test_a_slide_that_lacks_one_bag_only_is_read_for_that(study):
    run(study, TWO)
    (study.folder / FEATURES / "resnet50/b.h5").unlink()
    (study.folder / FEATURES / "resnet50/c.h5").unlink()
    (study.folder / FEATURES / "resnet18/c.h5").unlink()
    plan = study.planned("head=acmil", TWO)
    assert (plan["features"], plan["features_resnet18_resnet50"]) == (1, 1)
    done = study.snakemake("-n", "-p", "--config", "dataset=toy", "head=acmil", TWO)
    output = done.stdout + done.stderr
    assert (
        f"--encoder resnet18 --bags {FEATURES}/resnet18 --table {FEATURES}/resnet18/parts/2of4.csv "
        f"--encoder resnet50 --bags {FEATURES}/resnet50 --table" in output
    )


@pytest.mark.slow
def test_encoders_with_other_tiles_are_read_apart(study):
    yaml = (ROOT / "configs/encoders.yaml").read_text()
    other = "wide: {timm: resnet18, dim: 512, mpp: 1.0, weights: random, licence: none}\n"
    (study.folder / "configs/encoders.yaml").write_text(yaml + other)
    plan = study.planned("head=abmil", "encoder=[resnet18,wide,resnet50]")
    assert (plan["features_resnet18_resnet50"], plan["features"], plan["tile"]) == (3, 3, 6)


@pytest.mark.slow
def test_how_fast_bags_are_made_changes_none(study):
    run(study, "encoder=resnet18")
    assert (
        study.planned(
            "head=abmil",
            "encoder=resnet18",
            "features={batch_size: 3, compile: true}",
            "device=cpu",
        )
        == {}
    )
    assert (
        study.planned("head=abmil", "encoder=resnet18", "features={dtype: float32}")["features"]
        == 3
    )
