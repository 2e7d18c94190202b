"""Temperature and threshold: from validation slides and the selected epoch, in every prediction."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mil.io.bags import read_bag
from mil.io.tables import read_csv, write_csv
from mil.statistics.scaling import calibrate_logits
from mil.trained import Calibration, apply, load_trained
from mil.trained.forward import forward_selections, tensors_of

HOW = "epochs: 6, lr: 3.0e-2, batch_bags: 4"


def validation(small, which="kept"):
    """Logits and labels of the validation slides under a head, without its calibration."""
    head, trained = load_trained(small.folder / "head", which)
    bare = trained.model_copy(update={"calibration": None})
    rows = [row for row in read_csv(small.folder / "folds.csv") if row["split"] == "val"]
    predictions = [
        apply(head, bare, read_bag(small.folder / "bags" / f"{row['slide']}.h5")).predictions
        for row in rows
    ]
    return np.log(np.stack(predictions)), np.array(
        [row["label"] == "tumour" for row in rows]
    ).astype(int)


def more_validation(small):
    """Validate on eight slides: on four, there are too few to calibrate."""
    rows = read_csv(small.folder / "folds.csv")
    split = {row["slide"]: "train" if number < 4 else "val" for number, row in enumerate(rows)}
    write_csv(small.folder / "folds.csv", [row | {"split": split[row["slide"]]} for row in rows])


def test_they_are_those_of_the_kept_epoch_on_the_validation_slides(small):
    more_validation(small)
    trained = small.train("acmil", HOW)
    logits, labels = validation(small)
    want = calibrate_logits(logits, labels, 1)
    assert want.reason == ""
    assert want.temperature != pytest.approx(1.0, abs=0.05)
    assert trained.calibration.temperature == pytest.approx(want.temperature, rel=1e-4)
    assert trained.calibration.intercepts == pytest.approx(want.intercepts, abs=1e-4)
    assert trained.calibration.threshold == pytest.approx(want.threshold, abs=1e-4)
    assert (
        json.loads(small.files()["recipe.json"])["calibration"] == trained.calibration.model_dump()
    )
    assert load_trained(small.folder / "head")[1] == trained


def test_logits_are_scaled_and_shifted_before_the_softmax(small):
    small.train("graph_select", HOW)
    head, trained = load_trained(small.folder / "head")
    bag = read_bag(small.folder / "bags" / "s00.h5")
    bare, hot = (
        trained.model_copy(update={"calibration": c})
        for c in (None, Calibration(temperature=2.0, intercepts=[0.5, -0.25]))
    )
    plain = apply(head, bare, bag)
    calibrated = apply(head, hot, bag)
    for of_tiles in (lambda scores: scores, lambda scores: scores.selection.full):
        logits = np.log(of_tiles(plain).predictions) / 2 + [0.5, -0.25]
        want = torch.from_numpy(logits).softmax(-1).numpy()
        np.testing.assert_allclose(of_tiles(calibrated).predictions, want, rtol=1e-5)
    own = forward_selections(head, hot, tensors_of(bag), [plain.selection.selected])
    np.testing.assert_allclose(own.predictions[0], calibrated.predictions, rtol=1e-5)
    assert (plain.attention == calibrated.attention).all()


def test_on_four_slides_nothing_is_calibrated(small):
    calibration = small.train("acmil", HOW).calibration
    assert calibration.reason == "too few validation slides (4)"
    assert (calibration.temperature, calibration.intercepts, calibration.n) == (1.0, [], 4)


def test_records_of_earlier_versions_are_read():
    earlier = Calibration.model_validate({"temperature": 20.0, "threshold": 0.5})
    assert (earlier.intercepts, earlier.n, earlier.reason) == ([], None, "")


def test_without_validation_slides_there_is_none(small):
    write_csv(
        small.folder / "folds.csv",
        [r for r in read_csv(small.folder / "folds.csv") if r["split"] == "train"],
    )
    trained = small.train("acmil", f"{HOW}, patience: 2")
    assert trained.calibration is None
    assert trained.epoch == 6  # the last: nothing says that an earlier one was better


def test_of_three_classes_there_is_no_threshold(small):
    (small.folder / "toy.yaml").write_text("classes: [normal, tumour, other]\n")
    calibration = small.train("acmil", HOW).calibration
    assert calibration.n == 4
    assert calibration.threshold is None


def test_the_last_epoch_is_loaded_when_asked_for(small):
    small.train("acmil", HOW)
    path = small.folder / "head" / "last.safetensors"
    weights = load_file(path)
    save_file(
        {**weights, "classify.weight": torch.full_like(weights["classify.weight"], 7.0)}, path
    )
    (small.folder / "head/seal.json").unlink()
    assert (load_trained(small.folder / "head", "last")[0].classify.weight == 7).all()
    assert not (load_trained(small.folder / "head")[0].classify.weight == 7).any()
