"""Slides as vectors open in pandas and anndata, with labels, splits and provenance."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from mil.cli import app
from mil.errors import ConfigError, DatasetError, FormatError
from mil.interop.export_vectors import read_table, run
from mil.io.tables import write_csv
from mil.io.vectors import SlideVectors, VectorHead, VectorsHeader, write_vectors
from tests.messages import one_line

HEADS = (VectorHead("abmil", 1, 0, "a" * 64), VectorHead("abmil", 1, 1, "b" * 64))


def write(folder, slide, rows, slide_encoder="mean", heads=(), state="ok", encoder="tiny", sha=""):
    header = VectorsHeader(
        slide=slide,
        slide_encoder=slide_encoder,
        encoder=encoder,
        weights_sha256="0" * 64,
        tiling="224px_0.5mpp",
        bag_digest="",
        tiles=3,
        state=state,
        heads=tuple(heads),
        slide_encoder_sha256=sha,
    )
    vectors = np.array(rows, np.float32) if rows else np.empty((0, 0), np.float32)
    write_vectors(folder / f"{slide}.h5", SlideVectors(header, vectors))


@pytest.fixture
def study(tmp_path):
    """Vectors of two slides by a mean, and by two heads; one slide without tissue."""
    for number, slide in enumerate(("s1", "s2")):
        write(tmp_path / "mean", slide, [[number, 2.5]])
        write(tmp_path / "abmil", slide, [[number, 1], [number, 2]], "abmil", HEADS)
    write(tmp_path / "mean", "s3", [], state="no_tissue")
    rows = [
        {"slide": "s1", "patient": "p1", "label": "tumour", "site": "north"},
        {"slide": "s2", "patient": "p2", "label": "normal", "site": ""},
    ]
    write_csv(tmp_path / "toy.csv", rows)
    (tmp_path / "toy.yaml").write_text("classes: [normal, tumour]\n")
    folds = [
        {"fold": fold, "slide": slide, "patient": slide, "label": "", "split": split}
        for fold, splits in enumerate((("train", "test"), ("test", "train")))
        for slide, split in zip(("s1", "s2"), splits, strict=True)
    ]
    write_csv(tmp_path / "folds.csv", folds)
    return tmp_path


def options(study):
    return {"dataset": str(study / "toy.yaml"), "folds": study / "folds.csv"}


def test_parquet_opens_in_pandas(study):
    import pandas
    import pyarrow.parquet

    out = study / "slides.parquet"
    table = run(study / "mean", out, file_format="parquet", **options(study))
    assert (table.not_ok, table.not_in_dataset) == (["s3"], [])
    frame = pandas.read_parquet(out).set_index("slide")
    np.testing.assert_array_equal(np.stack(frame["vector"]), [[0, 2.5], [1, 2.5]])
    assert frame["vector"].iloc[0].dtype == np.float32
    assert frame.drop(columns="vector").to_dict("index") == {
        "s1": {
            "patient": "p1", "label": "tumour", "site": "north", "fold_0": "train", "fold_1": "test"
        },
        "s2": {"patient": "p2", "label": "normal", "site": "", "fold_0": "test", "fold_1": "train"},
    }  # fmt: skip
    facts = json.loads(pyarrow.parquet.read_schema(out).metadata[b"mil"])
    assert (facts["encoder"], facts["slide_encoder"]) == ("tiny", "mean")


def test_anndata_opens_with_the_split_of_the_chosen_head(study):
    anndata = pytest.importorskip("anndata")
    out = study / "slides.h5ad"
    run(study / "abmil", out, file_format="anndata", seed=1, fold=1, **options(study))
    opened = anndata.read_h5ad(out)
    np.testing.assert_array_equal(opened.X, [[0, 2], [1, 2]])
    assert opened.obs_names.tolist() == ["s1", "s2"]
    assert opened.obs["patient"].tolist() == ["p1", "p2"]
    # Fold 1's head was trained on s2.
    assert opened.obs["split"].tolist() == ["test", "train"]
    assert opened.var_names.tolist() == ["abmil_0", "abmil_1"]
    assert opened.uns["mil"]["head"]["sha256"] == "b" * 64
    assert opened.uns["mil"]["weights_sha256"] == "0" * 64


def test_one_head_must_be_chosen_of_several(study):
    with one_line(DatasetError, match="choose one of --seed 1 --fold 0, --seed 1 --fold 1"):
        read_table(study / "abmil", seed=1)
    with one_line(DatasetError, match="have no seed and fold"):
        read_table(study / "mean", fold=0)
    assert read_table(study / "abmil", fold=1).vectors.tolist() == [[0, 2], [1, 2]]


def test_vectors_of_two_spaces_make_no_table(study):
    write(study / "mean", "s4", [[0, 1]], encoder="other")
    with one_line(FormatError, match=r"s4\.h5: its encoder differs from that of s1\.h5"):
        read_table(study / "mean")


def test_vectors_by_two_files_of_weights_are_never_in_one_table(tmp_path):
    for slide, sha in (("s1", "a"), ("s2", "b")):
        write(tmp_path, slide, [[0, 1]], "chief", sha=sha)
    with one_line(FormatError, match=r"s2\.h5: its slide_encoder_sha256 differs"):
        read_table(tmp_path)
    (tmp_path / "s2.h5").unlink()
    assert read_table(tmp_path).provenance["slide_encoder_sha256"] == "a"


def test_a_missing_package_is_named_before_anything_is_read(study, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "anndata", None)
    with one_line(ConfigError, match=r"pip install 'mil\[anndata\]'"):
        run(study / "mean", study / "x.h5ad", file_format="anndata")
    with one_line(DatasetError, match="ends in .parquet"):
        run(study / "mean", study / "x.csv", file_format="parquet")


def test_the_command_says_what_it_wrote_and_left_out(study):
    arguments = ["bags", "export", str(study / "mean"), "--format", "parquet"]
    out = study / "x.parquet"
    result = CliRunner().invoke(app, [*arguments, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "2 slides of 2 numbers to parquet" in result.output
    assert "left out: 1 slides whose state is not ok: s3" in result.output
    assert out.exists()
