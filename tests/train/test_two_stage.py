"""Heads that another one is trained for, from bags to a folder and back."""

import pytest
import torch

from mil.bags import join
from mil.heads import build_head
from mil.io.tables import write_csv
from mil.train.stage import run as train
from mil.trained import load_trained
from tests.synthetic import bag_file, planted_bags

RECIPES = {
    "ibmil": "name: ibmil\noptions: {hidden: 16}\nlosses: {cross_entropy: 1}\n",
    "mhim": "name: mhim\noptions: {hidden: 16, momentum: 0.9}\n"
    "losses: {cross_entropy: 1, teacher_consistency: 0.1}\n",
}


@pytest.fixture
def study(tmp_path):
    """12 training and 6 validation bags of 12 tiles, one planted in each positive bag."""
    features, labels = zip(*planted_bags(count=18, tiles=12, push=8.0), strict=True)
    folds = []
    for i in range(18):
        slide = f"s{i:02d}"
        label = ["normal", "tumour"][labels[i]]
        bag_file(tmp_path / "bags" / f"{slide}.h5", slide, features[i])
        folds.append(
            {
                "fold": 0,
                "slide": slide,
                "patient": slide,
                "label": label,
                "split": "train" if i < 12 else "val",
            }
        )
    write_csv(
        tmp_path / "toy.csv",
        [{key: row[key] for key in ("slide", "patient", "label")} for row in folds],
    )
    write_csv(tmp_path / "folds.csv", folds)
    (tmp_path / "toy.yaml").write_text("classes: [normal, tumour]\n")
    return tmp_path


@pytest.mark.parametrize("name", RECIPES)
def test_trains_saves_and_loads_to_the_same_predictions(study, name, monkeypatch):
    built = []

    def build_and_keep(*args, **kwargs):
        built.append(build_head(*args, **kwargs))
        return built[-1]

    monkeypatch.setattr("mil.train.new_heads.build_head", build_and_keep)
    recipe = study / "recipe.yaml"
    recipe.write_text(
        RECIPES[name] + "train: {epochs: 5, lr: 1.0e-2, batch_bags: 4, select: last}\n"
    )
    train(
        str(study / "toy.yaml"),
        study / "bags",
        study / "folds.csv",
        study / "head",
        recipe=str(recipe),
        fold=0,
        seed=1,
        threads=1,
        device="cpu",
    )
    loaded, trained = load_trained(study / "head")
    bags = join(
        [torch.from_numpy(features) for features, _ in planted_bags(count=4, tiles=12, seed=1)]
    )
    with torch.inference_mode():
        got = loaded(bags)
        want = built[0].eval()(bags)
    assert trained.epoch == 5
    assert torch.equal(got.logits, want.logits)
    assert torch.equal(got.scores, want.scores)
    for key, value in built[0].state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    if name == "ibmil":
        assert loaded.present.all()
        assert loaded.confounders.abs().max() > 0
    else:
        assert not torch.equal(loaded.teacher.classify.weight, loaded.classify.weight)
