"""Each result of a tiny study names its inputs, and a command that writes the same bytes."""

import json
import shlex
import shutil
from pathlib import Path

import h5py
import pytest
import yaml

from mil.why.stage import run
from tests.interop.layouts import mil
from tests.synthetic import tissue_slide

TILING = "64px_0.5mpp"
ENTRY = {
    "timm": "test_resnet",
    "dim": 96,
    "tile_px": 64,
    "mpp": 0.5,
    "weights": "random",
    "licence": "ours",
}
ENCODERS = Path(__file__).parents[2] / "configs" / "encoders.yaml"
ROOT = Path("results/toy")
SLIDES = {"a": "train", "b": "train", "c": "val", "d": "val", "e": "test", "f": "test"}
RECIPE = "name: abmil\nlosses: {cross_entropy: 1}\ntrain: {epochs: 2, batch_bags: 2}\n"
PLACES = {
    "tile": ROOT / "tile" / TILING,
    "features": ROOT / "features" / TILING / "tiny",
    "split": ROOT / "split" / TILING / "tiny" / "folds1.csv",
    "head": ROOT / "train" / TILING / "tiny" / "quick" / "seed1_fold0of1",
    "score": ROOT / "score" / TILING / "tiny" / "quick",
    "vectors": ROOT / "embed" / TILING / "tiny" / "quick",
    "evaluate": ROOT / "evaluate" / TILING / "tiny" / "quick",
    "heatmap": ROOT / "heatmap" / TILING / "tiny" / "quick",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The results of a study of six slides; not to be changed."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        make_study()
    return folder


@pytest.fixture
def study(finished, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def make_study():
    for folder in ("configs/datasets", "configs/heads", "data/toy"):
        Path(folder).mkdir(parents=True)
    entries = ENCODERS.read_text() + yaml.safe_dump({"tiny": ENTRY})
    Path("configs/encoders.yaml").write_text(entries)
    Path("configs/heads/quick.yaml").write_text(RECIPE)
    dataset = {"classes": ["normal", "tumour"], "slide_paths": ["{slide}.tif"]}
    Path("configs/datasets/toy.yaml").write_text(yaml.safe_dump(dataset))
    rows = ["slide,patient,label,split"]
    for number, (slide, split) in enumerate(SLIDES.items()):
        tissue_slide(Path("data/toy") / f"{slide}.tif", (512, 384), seed=number)
        rows.append(f"{slide},{slide},{('normal', 'tumour')[number % 2]},{split}")
    Path("configs/datasets/toy.csv").write_text("\n".join(rows) + "\n")
    of_dataset = ("--dataset", "toy", "--slides-dir", "data/toy")
    bags = ("--bags", PLACES["features"])
    folds = ("--folds", PLACES["split"])
    scores = ("--scores", PLACES["score"])
    called("tile", *of_dataset, "--out-dir", PLACES["tile"], "--size-px", 64, "--target-mpp", 0.5)
    called("features", *of_dataset, "--tiles", PLACES["tile"], "--encoder", "tiny", *bags)
    called("split", "--dataset", "toy", *bags, "--tiles", PLACES["tile"], "--out", PLACES["split"])
    training = ("--head", "configs/heads/quick.yaml", "--out", PLACES["head"])
    called("train", "--dataset", "toy", *bags, *folds, *training)
    called("score", "--head-dir", PLACES["head"], "--dataset", "toy", *bags, *scores)
    embedding = ("--slide-encoder", "quick", "--head-dir", PLACES["head"])
    called("embed", *embedding, "--dataset", "toy", *bags, "--vectors", PLACES["vectors"])
    called("evaluate", *of_dataset, *scores, *bags, *folds, "--out", PLACES["evaluate"])
    drawn = ("--tiles", PLACES["tile"], "--scale", "relative", "--out-dir", PLACES["heatmap"])
    called("heatmap", *of_dataset, *scores, *bags, *folds, *drawn)


def called(*words):
    code, output = mil(*words)
    assert code == 0, output
    return output


def command_in(output):
    """Words of the command that an answer ends with, without `mil`."""
    lines = output.splitlines()
    words = shlex.split(lines[lines.index("make it again:") + 1])
    assert words[0] == "mil"
    return words[1:]


RESULTS = {
    "tiles": (PLACES["tile"] / "a.h5",),
    "bag": (PLACES["features"] / "b.h5",),
    "scores": (PLACES["score"] / "c.h5",),
    "vectors": (PLACES["vectors"] / "d.h5",),
    "heatmap": (PLACES["heatmap"] / "e.png",),
    "layer": (PLACES["heatmap"] / "e.geojson",),
    "prediction": (PLACES["evaluate"] / "predictions.csv", "--slide", "f"),
    "metrics": (PLACES["evaluate"] / "metrics.json",),
}


@pytest.mark.slow
@pytest.mark.parametrize("words", RESULTS.values(), ids=RESULTS)
def test_the_command_writes_the_same_bytes(study, words):
    file = words[0]
    output = called("why", *words)
    assert f"It writes the same bytes to again/{file.name}." in output
    states = [line for line in output.splitlines() if line.startswith("  made from ")]
    assert states
    assert all(": the same" in state for state in states), states
    called(*command_in(output))
    assert (study / "again" / file.name).read_bytes() == file.read_bytes()
    # The slide alone.
    if file.suffix in (".h5", ".png", ".geojson"):
        slides = {path.name.split(".")[0] for path in (study / "again").glob(f"*{file.suffix}")}
        assert slides == {file.stem}


@pytest.mark.slow
def test_a_head_is_trained_again_to_the_same_weights(study):
    output = called("why", PLACES["head"])
    assert "recipe configs/heads/quick.yaml: the same" in output
    assert "training and validation slides of" in output
    called(*command_in(output))
    for name in ("head.safetensors", "last.safetensors", "recipe.json", "history.json"):
        assert (study / "again" / name).read_bytes() == (PLACES["head"] / name).read_bytes()


@pytest.mark.slow
def test_folds_and_report_are_written_again_as_their_run_was_set(study):
    config = {"encoder": ["tiny"], "head": ["quick"], "folds": 1, "split": {"seed": 0}}
    (ROOT / "config.json").write_text(json.dumps(config))
    output = called("why", PLACES["split"])
    assert "made from slide table of dataset toy: the same" in output
    called(*command_in(output))
    assert (study / "again" / "folds1.csv").read_bytes() == PLACES["split"].read_bytes()
    table = Path("configs/datasets/toy.csv")
    table.write_text(table.read_text().replace("f,f,tumour", "f,f,normal"))
    assert "slide table of dataset toy: changed since" in called("why", PLACES["split"])
    table.write_text(table.read_text().replace("f,f,normal", "f,f,tumour"))

    evaluated = ("--evaluated", PLACES["evaluate"])
    called("compare", *evaluated, "--out", ROOT / "compare")
    report = ROOT / "report.html"
    called(
        *("report", "--dataset", "toy", "--tiles", PLACES["tile"], "--bags", PLACES["features"]),
        *("--folds", PLACES["split"], *evaluated, "--heatmaps", PLACES["heatmap"]),
        *("--scores", PLACES["score"], "--trained", PLACES["head"].parent),
        *("--config", ROOT / "config.json", "--comparison", ROOT / "compare/comparison.json"),
        *("--out", report),
    )
    first = {path: path.read_bytes() for path in [report, *ROOT.glob("report_slides/*")]}
    output = called("why", report)
    report.unlink()
    shutil.rmtree(ROOT / "report_slides")
    called(*command_in(output))
    assert {path: path.read_bytes() for path in first} == first
    assert len(first) > 1


@pytest.mark.slow
def test_what_changed_since_is_named(study):
    picture = PLACES["heatmap"] / "e.png"
    tissue_slide(Path("data/toy/e.tif"), (512, 384), seed=77)
    tiles = run(PLACES["tile"] / "e.h5")
    assert {part.role: part.state for part in tiles.inputs} == {
        "version of stage": "the same",
        "slide": "changed since",
    }
    assert tiles.lines()[-1].endswith("which is not what this file is of: slide.")
    outline = PLACES["tile"] / "e.geojson"
    outline.write_text(outline.read_text() + " ")
    with h5py.File(PLACES["score"] / "e.h5", "r+") as file:
        file.attrs["made_from"] = "0" * 32
    shutil.rmtree(PLACES["head"])
    states = {part.role: part.state for part in run(picture).inputs}
    assert states["outline"] == states["scores"] == "changed since"
    assert states["bag"] == states["tiles"] == "the same"
    scores = run(PLACES["score"] / "e.h5")
    assert {part.role: part.state for part in scores.inputs}["head"] == "not here"
    assert scores.lines()[-1] == "It cannot run here: head not here."


@pytest.mark.slow
def test_a_prediction_that_was_edited_is_not_that_of_its_scores(study):
    table = PLACES["evaluate"] / "predictions.csv"
    lines = table.read_text().splitlines()
    place = next(place for place, line in enumerate(lines) if line.startswith("f,"))
    cells = lines[place].split(",")
    cells[4] = "0.75"
    lines[place] = ",".join(cells)
    table.write_text("\n".join(lines) + "\n")
    [of_scores] = [part for part in run(table, slide="f").inputs if part.role == "score file"]
    assert of_scores.state == "changed since"
    whole = [part for part in run(table).inputs if part.role.startswith("score file")]
    assert [part.state for part in whole] == ["the same", "changed since"]
    assert "(5 of 6)" in whole[0].name
