"""A run on precomputed bags: no slide anywhere."""

import json
import os
import re
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from mil.io.tables import read_csv
from tests.synthetic import bag_file, planted_bags
from tests.workflow.conftest import ROOT

# So few that they cannot be divided: slide, label, split.
SPLIT_SLIDES = (("a", "normal", "train"), ("b", "tumour", "val"), ("c", "tumour", "train"))
READY = {
    "bags": 1,
    "split": 1,
    "train": 1,
    "score": 3,
    "evaluate": 1,
    "compare": 1,
    "card": 1,
    "heatmap": 3,
    "report": 1,
}
FOLDER = "my bags (x) µ"
BAGS = f"bags={FOLDER}"
RECIPE = """name: abmil
options: {hidden: 16, attention: 8, dropout: 0}
losses: {cross_entropy: 1}
train: {epochs: 40, lr: 0.01, weight_decay: 0, select: last}
"""


@pytest.fixture
def study(study):
    """The toy study with bags of an unknown encoder, and without its slides."""
    for name in "abc":
        bag_file(
            study.folder / FOLDER / f"{name}.h5",
            name,
            np.ones((2, 4)),
            encoder={"encoder": "stranger.v2"},
        )
        (study.folder / f"data/toy/{name}.tif").unlink()
    return study


def refused(study, *config: str) -> str:
    """What a dry run says that must not succeed."""
    done = study.snakemake("-n", "--config", "dataset=toy", "head=abmil", *config)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "Traceback" not in output
    return output


@pytest.mark.slow
def test_vectors_are_made_where_slide_encoders_are_named(study):
    config = ("head=abmil", BAGS, "slide_encoder=[mean,abmil]")
    assert study.planned(*config) == {**READY, "embed": 6, "fewshot": 1}
    done = study.snakemake("--config", "dataset=toy", *config)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = next((study.folder / "results/toy/embed").glob("*/stranger.v2"))
    files = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*.h5"))
    assert files == [f"{name}/{slide}.h5" for name in ("abmil", "mean") for slide in "abc"]
    (folder / "mean/b.h5").unlink()
    assert study.planned(*config) == {"embed": 1, "fewshot": 1, "report": 1}
    done = study.snakemake("-n", "-p", "-F", "--config", "dataset=toy", *config)
    commands = re.sub(r"\s+", " ", done.stdout + done.stderr)
    curves = re.search(r"mil fewshot .*? --allow-empty", commands)[0]
    assert re.findall(r"--vectors \S+/(\w+)", curves) == ["mean", "abmil"]
    assert re.search(r"mil report .*? --fewshot \S+/stranger.v2/fewshot.csv ", commands)
    # Without classes there are no slides of each class.
    (study.folder / "configs/datasets/toy.yaml").write_text("task: survival_cox\n")
    table = study.folder / "configs/datasets/toy.csv"
    labels = table.read_text().replace("normal", "3+").replace("tumour", "2")
    table.write_text(labels)
    assert "fewshot" not in study.planned(*config)
    assert "neither one of mean, mean_std, chief" in refused(study, BAGS, "slide_encoder=acmil")


@pytest.mark.slow
def test_a_published_slide_encoder_needs_no_head(study):
    entry = study.folder / "configs/slide_encoders/chief.yaml"
    entry.parent.mkdir()
    entry.write_text(
        "encoder: stranger.v2\ntile_um: 112\ndim: 768\nparameters: 656641\nweights: random\n"
        "licence: none\n"
    )
    config = ("dataset=toy", "head=abmil", BAGS, "slide_encoder=chief")
    done = study.snakemake("--until", "embed", "--config", *config)
    assert done.returncode == 0, done.stdout + done.stderr
    folders = {path.name for path in (study.folder / "results/toy").iterdir()}
    assert folders == {"embed"}
    files = (study.folder / "results/toy/embed").glob("*/stranger.v2/chief/*.h5")
    assert sorted(path.stem for path in files) == ["a", "b", "c"]


@pytest.mark.slow
def test_no_slide_is_fetched_tiled_or_embedded(study):
    assert study.planned("head=abmil", BAGS) == READY
    assert study.planned("head=[abmil,acmil]", "seeds=4", BAGS)["train"] == 2
    done = study.snakemake("--config", "dataset=toy", "head=abmil", BAGS)
    assert done.returncode == 0, done.stdout + done.stderr
    results = study.folder / "results/toy"
    assert {path.name for path in results.iterdir()} == {
        "bags",
        "split",
        "train",
        "score",
        "evaluate",
        "compare",
        "heatmap",
        "config.json",
        "report.html",
    }
    assert (results / "evaluate/224px_0.5mpp/stranger.v2/abmil/metrics.json").exists()
    assert study.planned("head=abmil", BAGS) == {}


@pytest.mark.slow
def test_commands_are_told_of_bags_and_of_no_tiles_without_torch(study, monkeypatch):
    """A `torch` that cannot be imported stands first on the path."""
    for name in ("torch", "timm"):
        (study.folder / f"{name}.py").write_text("raise AssertionError('imported')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(study.folder), str(ROOT)]))
    planned, output = study.planned_and_shown("head=abmil", BAGS)
    assert planned == READY
    output = re.sub(r"\s+", " ", output)
    assert f"mil split --dataset toy --bags '{FOLDER}'" in output
    assert f"mil train --dataset toy --bags '{FOLDER}'" in output
    assert "mil score --head-dir" in output
    assert f"--dataset toy --bags '{FOLDER}' --scores" in output
    assert f"mil report --dataset toy --bags '{FOLDER}'" in output
    assert "--tiles" not in output


@pytest.mark.slow
def test_what_an_imported_bag_does_not_know_is_part_of_its_paths(study):
    for path in (study.folder / FOLDER).glob("*.h5"):
        with h5py.File(path, "r+") as file:
            del file.attrs["target_mpp"]
    done = study.snakemake("--config", "dataset=toy", "head=abmil", BAGS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        study.folder / "results/toy/evaluate/224px_unknownmpp/stranger.v2/abmil/metrics.json"
    ).exists()
    for path in (study.folder / FOLDER).glob("*.h5"):
        with h5py.File(path, "r+") as file:
            del file.attrs["tile_px"]
    done = study.snakemake("-n", "-p", "--config", "dataset=toy", "head=abmil", BAGS)
    assert (
        "results/toy/evaluate/unknownpx_unknownmpp/stranger.v2/abmil/metrics.json"
        in done.stdout + done.stderr
    )


@pytest.mark.slow
def test_bags_of_an_earlier_run_are_bags_too(study):
    """Rules that could make them again are not there: nothing asks for slides."""
    own = study.folder / "results/toy/features/224px_0.5mpp/stranger.v2"
    own.parent.mkdir(parents=True)
    (study.folder / FOLDER).rename(own)
    assert study.planned("head=abmil", f"bags={own.relative_to(study.folder)}") == READY


@pytest.mark.slow
def test_slides_that_could_be_fetched_are_not(study):
    table = "slide,path,url,label,split,annotation,annotation_url\n" + "".join(
        f"{name},{name}.tif,https://example.org/{name}.tif,{label},{split},{name}.xml,"
        f"https://example.org/{name}.xml\n"
        for name, label, split in SPLIT_SLIDES
    )
    (study.folder / "configs/datasets/toy.csv").write_text(table)
    assert study.planned("head=abmil")["fetch"] == 6
    assert study.planned("head=abmil", BAGS) == READY


@pytest.mark.slow
def test_a_slide_that_is_there_is_drawn_on_and_an_annotation_is_used(study):
    (study.folder / "configs/datasets/toy.csv").write_text(
        "slide,path,label,split,annotation\n"
        + "".join(
            f"{name},{name}.tif,{label},{split},{name}.xml\n" for name, label, split in SPLIT_SLIDES
        )
    )
    for name in ("b.tif", "b.xml"):
        (study.folder / "data/toy" / name).touch()
    done = study.snakemake("-n", "-p", "--config", "dataset=toy", "head=abmil", BAGS)
    heatmap = re.findall(r"rule heatmap:\n +input: (.*)", done.stdout + done.stderr)
    with_slide = [line for line in heatmap if "data/toy/" in line]
    assert len(heatmap) == 3
    assert len(with_slide) == 1
    assert "data/toy/b.xml" in with_slide[0]
    assert "data/toy/b.tif" in with_slide[0]


@pytest.mark.slow
def test_from_slides_and_from_bags_is_never_mixed(study):
    """The same paths, other inputs: Snakemake makes everything after the bags anew, and says so."""
    study.write_table({"a": "normal", "b": "tumour", "c": "tumour"})
    for path in (study.folder / FOLDER).glob("*.h5"):
        with h5py.File(path, "r+") as file:
            file.attrs["encoder"] = "efficientnet_lite0"
    done = study.snakemake("--config", "dataset=toy", "head=abmil")
    assert done.returncode == 0, done.stdout + done.stderr
    assert study.planned("head=abmil", BAGS) == READY
    assert study.snakemake("--config", "dataset=toy", "head=abmil", BAGS).returncode == 0
    assert (
        study.planned("head=abmil") == READY
    )  # and back: the tiles and bags of the slides are still good


@pytest.mark.slow
def test_slides_without_a_bag_stop_the_run_unless_they_may_be_missing(study):
    (study.folder / FOLDER / "b.h5").unlink()
    (study.folder / FOLDER / "zz.h5").touch()
    output = refused(study, BAGS)
    for line in (
        f"dataset toy: 1 of 3 slides have no bag in {FOLDER}",
        f"  b: no {FOLDER}/b.h5",
        "1 bags there are of no slide in the table, such as zz.h5.",
        "`mil bags import`",
        "To go on with the other 2: `--config allow_missing=true`.",
    ):
        assert line in output
    assert study.planned("head=abmil", BAGS, "allow_missing=true") == {
        **READY,
        "score": 1,
        "heatmap": 1,
    }
    for name in "ac":
        (study.folder / FOLDER / f"{name}.h5").unlink()
    assert "3 of 3 slides have no bag" in refused(study, BAGS, "allow_missing=true")


@pytest.mark.slow
def test_no_bags(study):
    assert "bags: nowhere: No such file or directory; give the folder" in refused(
        study, "bags=nowhere"
    )
    (study.folder / "empty").mkdir()
    assert "bags: empty holds no file SLIDE.h5; bags come there by `mil bags import`" in refused(
        study, "bags=empty"
    )
    (study.folder / "x {slide}").mkdir()
    assert "bags: x {slide}: the workflow takes { } in a path for wildcards" in refused(
        study, "bags=x {slide}"
    )
    (study.folder / FOLDER / "a.h5").write_text("not a bag")
    output = refused(study, BAGS)
    assert f"bags: {FOLDER}/a.h5: not an HDF5 file" in output
    assert "`mil bags import`" in output


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["../../x", "hf-hub:someone/uni", "a b", "", "x\n", "$(rm)", "{head}", "x" * 101]
)
def test_an_encoder_whose_name_is_no_folders_is_one_line(study, name):
    with h5py.File(study.folder / FOLDER / "a.h5", "r+") as file:
        file.attrs["encoder"] = name
    assert f"its encoder is called {name[:100]!r}, which cannot name a folder" in refused(
        study, BAGS
    )


@pytest.fixture
def planted(study):
    """Twelve bags with a truth: of 9 tiles in a square, one of which is pushed in each tumour."""
    (study.folder / "bin/mil").unlink()
    study.path = f"{Path(sys.executable).parent}:{study.path}"
    rows = ["slide,label,split"]
    for number, (features, label) in enumerate(planted_bags(12, 9, dim=4, push=20)):
        name = f"s{number:02}"
        part = ("test", "val", "train", "train", "train", "train")[number // 2]
        rows.append(f"{name},{('normal', 'tumour')[label]},{part}")
        corners = np.array([(column, row) for row in range(3) for column in range(3)]) * 448
        bag_file(
            study.folder / FOLDER / f"{name}.h5",
            name,
            features,
            corners,
            encoder={"encoder": "stranger.v2"},
        )
    (study.folder / "configs/datasets/toy.csv").write_text("\n".join(rows) + "\n")
    (study.folder / "configs/heads").mkdir()
    (study.folder / "configs/heads/quick.yaml").write_text(RECIPE)
    return study


@pytest.mark.slow
def test_bags_to_report_with_no_slide_anywhere(planted):
    done = planted.snakemake(
        "--config", "dataset=toy", "head=quick", "heatmap={slides: test}", BAGS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 in, 12 out" in done.stderr
    note = (
        f"precomputed bags of stranger.v2, 224px_0.5mpp, in {FOLDER}; 3 bags there are of no "
        "slide in the table"
    )
    assert note in done.stderr
    results = planted.folder / "results/toy"
    metrics = json.loads(
        (results / "evaluate/224px_0.5mpp/stranger.v2/quick/metrics.json").read_text()
    )
    assert metrics["test"]["n_slides"] == 2
    assert metrics["test"]["auroc"]["value"] == 1.0
    page = (results / "report.html").read_text(encoding="utf-8")
    assert "<b>12 in, 12 out</b>" in page
    assert f"Trained on {note}." in page
    linked = set(re.findall(r'(?:src|href)="([^"#]+)"', page))
    drawn = "heatmap/224px_0.5mpp/stranger.v2/quick"
    pictures = {link for link in linked if link.endswith(".png")}
    assert {f"{drawn}/{name}.png" for name in ("s00", "s01")} <= pictures
    assert all((results / link).exists() for link in linked if not link.startswith("data:"))
    most = max(read_csv(results / drawn / "s01.csv"), key=lambda row: float(row["attention"]))
    with h5py.File(planted.folder / FOLDER / "s01.h5") as file:
        pushed = file["coords"][int(np.argmax(file["features"][:, 0]))]
    assert [int(most["x"]), int(most["y"])] == pushed.tolist()
    layer = json.loads((results / drawn / "s01.geojson").read_text())["features"]
    assert sum(one["properties"]["objectType"] == "tile" for one in layer) == 9
