"""Curves for TensorBoard, read back as TensorBoard reads them."""

import json
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mil.config import TrainConfig
from mil.errors import ConfigError
from mil.train.optim import AdamW, learning_rate

HOW = "epochs: 3, lr: 1.0e-2, batch_bags: 4"


def curves(folder):
    """Epoch and value of every point, by name."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        name: [(point.step, point.value) for point in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_every_term_every_metric_and_the_learning_rate(small):
    small.train("acmil", HOW, tensorboard=small.folder / "curves")
    points = curves(small.folder / "curves" / "acmil_seed1_fold0")
    history = json.loads(small.files()["history.json"])
    want = {
        f"{split}/{name}": [
            (epoch + 1, pytest.approx(numbers[name]))
            for epoch, numbers in enumerate(history[split])
        ]
        for split in ("train", "valid")
        for name in history[split][0]
    }
    config = TrainConfig(epochs=3, lr=1e-2)
    assert points == want | {
        "lr": [(e, pytest.approx(learning_rate(config, float(e)), abs=1e-9)) for e in (1, 2, 3)]
    }
    assert {"train/branch_cross_entropy", "valid/loss", "valid/score"} < set(points)


def test_curves_change_no_weights_and_go_on_where_a_training_was_cut_off(small, monkeypatch):
    monkeypatch.setattr("mil.train.state.EVERY_S", 0.0)
    small.train("acmil", HOW, "plain")
    step = AdamW.step
    steps = [0]

    def interrupted(self):
        steps[0] += 1
        if steps[0] == 4:
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(AdamW, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small.train("acmil", HOW, tensorboard=small.folder / "curves")
    small.train("acmil", HOW, tensorboard=small.folder / "curves")
    assert small.files() == small.files("plain")
    assert [epoch for epoch, _ in curves(small.folder / "curves" / "acmil_seed1_fold0")["lr"]][
        -3:
    ] == [1, 2, 3]


def test_without_tensorboard_one_line_says_what_to_install(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"^--tensorboard: .* pip install 'mil\[tensorboard\]'$"):
        small.train("acmil", HOW, tensorboard=small.folder / "curves")
    assert not (small.folder / "head").exists()
