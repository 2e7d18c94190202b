"""What a run has yet to make, and what it therefore needs."""

from pathlib import Path

import numpy as np
import pytest
from snakemake_interface_executor_plugins.settings import DeploymentMethod, SharedFSUsage

from mil.errors import ConfigError
from mil.plan.exits import require_slide_weights
from mil.plan.make import make_plan
from mil.plan.unmade import slide_encoders_to_load, stain_to_normalise
from tests.encoders.hub import play
from tests.messages import one_line
from tests.synthetic import bag_file

SLIDES = "abcdefgh"
FEATURES = Path("results/toy/features/224px_0.5mpp/resnet18")
STAINED = {"stain_norm": "macenko"}


@pytest.fixture
def study(tmp_path, monkeypatch) -> Path:
    """A dataset of eight slides, two in a part; its folder is the working directory."""
    (tmp_path / "configs/datasets").mkdir(parents=True)
    (tmp_path / "configs/datasets/toy.yaml").write_text("classes: [normal, tumour]\n")
    labels = ("normal", "tumour")
    rows = [f"{slide},{labels[n % 2]},{slide}.tif\n" for n, slide in enumerate(SLIDES)]
    (tmp_path / "configs/datasets/toy.csv").write_text("slide,label,path\n" + "".join(rows))
    (tmp_path / "data/toy").mkdir(parents=True)
    for slide in SLIDES:
        (tmp_path / f"data/toy/{slide}.tif").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(**settings):
    parts = {"features": 2, "score": 2}
    return make_plan({"dataset": "toy", "slides_per_job": parts, **settings})


def write_tables(folder, parts):
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    for part in parts:
        (folder / f"parts/{part}.csv").touch()


def test_stains_are_normalised_where_a_bag_is_still_to_be_made(study):
    settings = {"encoder": "resnet18", "features": STAINED}
    checked = plan(**settings)
    first, *others = checked.parts("features").names()
    assert others
    assert stain_to_normalise(checked) == "macenko"
    bag_file(FEATURES / "a.h5", "a", np.ones((2, 4)), encoder=STAINED)
    write_tables(FEATURES, others)
    assert stain_to_normalise(plan(**settings)) == "macenko"
    write_tables(FEATURES, [first])
    assert stain_to_normalise(plan(**settings)) == "none"
    # A second encoder has no bags yet.
    assert stain_to_normalise(plan(**settings | {"encoder": ["resnet18", "uni"]})) == "macenko"
    # Bags of a run without are made again.
    bag_file(FEATURES / "a.h5", "a", np.ones((2, 4)))
    assert stain_to_normalise(plan(**settings)) == "macenko"
    (FEATURES / "a.h5").write_text("damaged")
    assert stain_to_normalise(plan(**settings)) == "macenko"
    assert stain_to_normalise(plan(encoder="uni")) == "none"


def test_precomputed_bags_need_no_stains(study):
    for slide in SLIDES:
        bag_file(study / f"bags/{slide}.h5", slide, np.ones((2, 4)))
    assert stain_to_normalise(plan(bags="bags", features=STAINED)) == "none"


def test_slide_encoders_are_loaded_where_a_vector_is_still_to_be_made(study):
    settings = {"encoder": ["conch", "resnet18"], "slide_encoder": ["mean", "madeleine"]}
    checked = plan(**settings)
    first, *others = checked.parts("score").names()
    assert others
    assert slide_encoders_to_load(checked) == ["madeleine"]
    vectors = Path("results/toy/embed") / checked.tilings["conch"] / "conch/madeleine"
    write_tables(vectors, others)
    assert slide_encoders_to_load(plan(**settings)) == ["madeleine"]
    write_tables(vectors, [first])
    assert slide_encoders_to_load(plan(**settings)) == []
    assert slide_encoders_to_load(plan(encoder="conch")) == []


def test_a_run_whose_slide_encoder_cannot_be_had_is_refused(tmp_path, monkeypatch):
    hub = play(monkeypatch, tmp_path / "hub")
    shared = SharedFSUsage.all()
    require_slide_weights([], shared, [])
    with one_line(
        ConfigError,
        match="config: slide_encoder: madeleine: its weights are not available: .* cannot be "
        "reached .*: run `mil encoders fetch madeleine` on a machine with a network, or give the "
        r"file by `weights: PATH` in configs/slide_encoders/madeleine\.yaml$",
    ):
        require_slide_weights([], shared, ["madeleine"])
    # Jobs in a container, and those of a cloud, have files of their own.
    asked = len(hub.asked)
    require_slide_weights([DeploymentMethod.APPTAINER], shared, ["madeleine"])
    require_slide_weights([], shared - {SharedFSUsage.SOFTWARE_DEPLOYMENT}, ["madeleine"])
    assert len(hub.asked) == asked
    hub.answers["/MahmoodLab/madeleine/resolve/"] = b"weights"
    require_slide_weights([], shared, ["madeleine"])
