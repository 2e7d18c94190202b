"""Few-shot curves: draws by patient, probes of the drawn slides alone, one table and figure."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mil.errors import DatasetError, FormatError
from mil.fewshot.curves import FoldVectors, _draw, _slides_of_patients, curve
from mil.fewshot.stage import run
from mil.io.fewshot import Curve, Point, read_curves, write_curves
from mil.io.tables import read_csv, write_csv
from mil.io.vectors import SlideVectors, VectorHead, VectorsHeader, write_vectors
from tests.messages import one_line

RNG = np.random.default_rng(0)


def fold(slides=16, push=1.5):
    labels = np.arange(slides) % 2
    train, test = (RNG.normal(size=(slides, 3)) + push * labels[:, None] for _ in range(2))
    return FoldVectors(train, labels, [f"p{n}" for n in range(slides)], test, labels)


def test_all_slides_of_each_class_are_the_logistic_regression_of_scikit_learn():
    one = fold()
    (point,) = curve([one], 2, shots=[8, 16], draws=3, seed=0)
    mean, deviation = one.train.mean(0), one.train.std(0)
    oracle = LogisticRegression().fit((one.train - mean) / deviation, one.labels)
    area = roc_auc_score(one.test_labels, oracle.decision_function((one.test - mean) / deviation))
    assert point[:2] == (8, pytest.approx(area))
    # Every draw is all slides.
    assert point[2:] == (pytest.approx(0, abs=1e-12), 3)


def test_more_slides_help_and_draws_differ():
    few, more = curve([fold(60), fold(60)], 2, shots=[1, 16], draws=20, seed=0)
    assert more.mean > few.mean + 0.02
    assert few.sd > more.sd > 0


def test_slides_of_a_draw_are_of_different_patients():
    labels = np.array([0, 0, 0, 1, 1, 1])
    patients = ["a", "a", "b", "a", "c", "d"]
    one = FoldVectors(np.zeros((6, 1)), labels, patients, np.zeros((0, 1)), labels[:0])
    # Patient a has slides of both classes, which are equally rare: the first counts.
    by_class = _slides_of_patients(one, 2)
    assert by_class == [[[0, 1], [2]], [[4], [5]]]
    for seed in range(5):
        drawn = _draw(by_class, 2, np.random.default_rng(seed))
        assert sorted(labels[drawn]) == [0, 0, 1, 1]
        assert len({patients[number] for number in drawn}) == 4


@pytest.fixture
def study(tmp_path):
    rows = []
    for number in range(16):
        label = ["tumour", "normal"][number % 2]
        slide = f"s{number:02d}"
        split = "train" if number < 8 else "test"
        rows.append({"fold": 0, "slide": slide, "patient": slide, "label": label, "split": split})
        header = VectorsHeader(
            slide=slide,
            slide_encoder="mean",
            encoder="tiny",
            weights_sha256="",
            tiling="224px_0.5mpp",
            bag_digest="",
            tiles=1,
        )
        vector = np.array([[float(label == "tumour"), 0.5]], np.float32)
        write_vectors(tmp_path / "mean" / f"{slide}.h5", SlideVectors(header, vector))
        head = replace(header, slide_encoder="abmil", heads=(VectorHead("abmil", 1, 0, ""),))
        write_vectors(tmp_path / "abmil" / f"{slide}.h5", SlideVectors(head, -vector))
    write_csv(tmp_path / "folds.csv", rows)
    write_csv(
        tmp_path / "toy.csv", [{k: row[k] for k in ("slide", "patient", "label")} for row in rows]
    )
    (tmp_path / "toy.yaml").write_text("classes: [tumour, normal]\npositive: tumour\n")
    return tmp_path


def curves_of(study, *folders, **settings):
    return run(
        str(study / "toy.yaml"),
        [study / folder for folder in folders],
        study / "folds.csv",
        study / "out",
        draws=2,
        seed=0,
        **settings,
    )


def test_a_table_and_a_figure_are_written(study):
    lines = curves_of(study, "mean", "abmil")
    assert lines[0] == (
        "mean · tiny: AUROC by slides of each class "
        "1: 1.000 ± 0.000, 2: 1.000 ± 0.000, 4: 1.000 ± 0.000"
    )
    assert lines[1].endswith("its heads have seen the labels of all training slides")
    rows = read_csv(study / "out" / "fewshot.csv")
    assert [(row["vectors"], row["shots"]) for row in rows] == [
        (f"{name} · tiny", str(shots)) for name in ("mean", "abmil") for shots in (1, 2, 4)
    ]
    assert (study / "out" / "fewshot.svg").read_text().count("tiny</text>") == 2


def without_normal_tests(study, fold):
    """Rows of a fold whose test slides are of one class."""
    rows = read_csv(study / "folds.csv")
    kept = [row for row in rows if (row["split"], row["label"]) != ("test", "normal")]
    return [{**row, "fold": fold} for row in kept]


def test_a_fold_without_a_class_is_left_out(study):
    alone = curves_of(study, "mean")
    rows = read_csv(study / "folds.csv")
    write_csv(study / "folds.csv", [*rows, *without_normal_tests(study, 1)])
    assert curves_of(study, "mean") == [
        "fold 1 has test slides of 1 of 2 classes and is left out",
        *alone,
    ]


def test_folds_that_all_lack_a_class_are_one_line_or_no_curve(study):
    write_csv(study / "folds.csv", without_normal_tests(study, 0))
    with one_line(DatasetError, match="fold 0 has test slides of 1 of 2 classes"):
        curves_of(study, "mean")
    curves_of(study, "mean", allow_empty=True)
    assert read_curves(study / "out" / "fewshot.csv") == {}
    assert "<svg" in (study / "out" / "fewshot.svg").read_text()


def test_a_table_that_is_read_is_that_which_was_written(tmp_path):
    points = [Point(1, 0.5, 0.125, 50), Point(2, 0.75, 0.0625, 50)]
    curves = {"mean · tiny": Curve(points, False), "abmil · tiny": Curve(points[:1], True)}
    write_curves(tmp_path / "fewshot.csv", curves)
    assert read_curves(tmp_path / "fewshot.csv") == curves


@pytest.mark.parametrize(
    "row",
    [
        "mean,x,0.5,0.1,3,",
        "mean,1,nan,0.1,3,",
        "mean,0,0.5,0.1,3,",
        "mean,1,0.5",
        "mean,1e9,1,1,1,",
    ],
)
def test_a_table_of_anybody_is_one_line(tmp_path, row):
    (tmp_path / "fewshot.csv").write_text(f"vectors,shots,mean,sd,draws,learned\n{row}\n")
    with one_line(FormatError, match=r"fewshot\.csv: not a table of `mil fewshot`"):
        read_curves(tmp_path / "fewshot.csv")


def test_what_cannot_be_compared_is_one_line(study):
    with one_line(DatasetError, match="a second folder of mean · tiny"):
        curves_of(study, "mean", "mean")
    (study / "mean" / "s03.h5").unlink()
    with one_line(FormatError, match=r"s03\.h5: no such file"):
        curves_of(study, "mean")
    (study / "toy.yaml").write_text("task: regression\n")
    table = (study / "toy.csv").read_text()
    (study / "toy.csv").write_text(table.replace("tumour", "1").replace("normal", "2"))
    with one_line(DatasetError, match="need classes, which the task regression does not have"):
        curves_of(study, "mean")
    (study / "toy.yaml").write_text("task: survival_cox\n")
    with one_line(DatasetError, match="need classes, which the task survival_cox does not have"):
        curves_of(study, "mean")
