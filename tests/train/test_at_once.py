"""Heads that are fitted at once, from bags to a folder and back."""

import pytest
import torch

from mil.bags import join
from mil.errors import ConfigError
from mil.io.bags import read_bag
from mil.trained import load_trained
from tests.messages import one_line
from tests.train.conftest import RECIPES

FITTED = {
    "linear_probe": "name: linear_probe\nlosses: {cross_entropy: 1}\n",
    "knn": "name: knn\nlosses: {cross_entropy: 1}\n",
    "abmil_probe": "name: abmil_probe\noptions: {hidden: 8}\nlosses: {cross_entropy: 1}\n",
    "other_term": "name: linear_probe\nlosses: {cross_entropy: 1, attention_entropy: 1}\n",
}


@pytest.fixture(autouse=True)
def recipes(monkeypatch):
    # Fewer values of C take less time.
    monkeypatch.setattr("mil.heads._row_probe.STRENGTHS", (1e-3, 0.1))
    for name, text in FITTED.items():
        monkeypatch.setitem(RECIPES, name, text)


@pytest.mark.parametrize(
    ("name", "chosen"),
    [("linear_probe", "C "), pytest.param("knn", "neighbours", marks=pytest.mark.slow)],
)
def test_a_probe_is_trained_loaded_and_the_same_again(small, name, chosen, capfd):
    trained = small.train(name, "", out="one")
    assert chosen in capfd.readouterr().err
    assert trained.epoch == 1
    small.train(name, "", out="two")
    assert small.files("one")["head.safetensors"] == small.files("two")["head.safetensors"]
    head, _ = load_trained(small.folder / "one")
    # All training slides are told apart: 8 of 4 planted directions.
    bags = [read_bag(small.folder / "bags" / f"s{number:02d}.h5") for number in range(8)]
    joined = join([torch.from_numpy(bag.features).float() for bag in bags])
    called = head(joined).logits.argmax(1).tolist()
    rows = (small.folder / "folds.csv").read_text().splitlines()[1:9]
    if name == "linear_probe":
        assert called == ["tumour" in row for row in rows]


@pytest.mark.slow
def test_validation_and_test_slides_change_no_probe(small):
    small.train("linear_probe", "", out="one")
    path = small.folder / "folds.csv"
    # The last validation slide becomes a test slide.
    text = path.read_text()
    lines = text.splitlines()
    lines[-1] = lines[-1].replace(",val", ",test")
    assert lines[-1].endswith("test")
    path.write_text("\n".join(lines) + "\n")
    small.train("linear_probe", "", out="two")
    assert small.files("one")["head.safetensors"] == small.files("two")["head.safetensors"]


@pytest.mark.slow
def test_a_probe_of_abmil_is_trained_with_restarts_and_whitened_features(small):
    trained = small.train(
        "abmil_probe", "epochs: 3, restarts: 2, keep_within: 10, whiten: 6, batch_bags: 4"
    )
    assert trained.num_members == 2
    head, _ = load_trained(small.folder / "head")
    assert len(head.members) == 2


def test_other_terms_are_refused(small):
    with one_line(ConfigError, match="fitted at once, to the loss of the task alone"):
        small.train("other_term", "")
