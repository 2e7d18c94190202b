"""A training that is interrupted at any moment, and resumed, ends in the same bits."""

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

from mil.train.optim import AdamW
from mil.train.state import Checkpoint

HOW = "epochs: 4, lr: 1.0e-2, batch_bags: 3, max_tiles: 9, feature_dropout: 0.1, clip_norm: 1.0"
# of HOW
EPOCHS = 4
STEPS = 3


class Killed(BaseException):
    """As sudden as can be within one process."""


@contextmanager
def killed_after(steps: int) -> Iterator[None]:
    """The training dies when that many steps were taken, in the middle of the next one."""
    left = [steps]
    step = AdamW.step

    def count(self):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        step(self)

    with patch.object(AdamW, "step", count), pytest.raises(Killed):
        yield


@pytest.fixture(autouse=True)
def a_checkpoint_each_epoch(monkeypatch):
    monkeypatch.setattr("mil.train.state.EVERY_S", 0.0)


@pytest.mark.parametrize(
    ("head", "moments"),
    [
        ("acmil", 1),
        *(
            pytest.param(head, moments, marks=pytest.mark.slow)
            for head, moments in [("acmil", 10), ("ibmil", 2), ("mhim", 10), ("graph_select", 3)]
        ),
    ],
)
def test_killed_at_random_moments_the_weights_are_those_of_an_undisturbed_training(
    small, head, moments, capfd
):
    small.train(head, HOW, "undisturbed")
    undisturbed = small.files("undisturbed")
    assert {"head.safetensors", "last.safetensors"} < set(undisturbed)
    assert not any("checkpoint" in name or "partial" in name for name in undisturbed)
    stages = 2 if head in ("ibmil", "mhim") else 1
    for moment in random.Random(head).sample(range(stages * EPOCHS * STEPS), moments):
        out = f"killed_{moment}"
        with killed_after(moment):
            small.train(head, HOW, out)
        assert "head.safetensors" not in small.files(out)
        capfd.readouterr()
        small.train(head, HOW, out)
        done = moment // STEPS
        message = capfd.readouterr().err
        assert ("resumes after epoch" in message) == (done > 0)
        if done % EPOCHS:
            assert f"resumes after epoch {done % EPOCHS} of {EPOCHS}, from " in message
        assert small.files(out) == undisturbed, moment


@pytest.mark.slow
def test_killed_again_and_again(small):
    small.train("mhim", HOW, "undisturbed")
    for _ in range(2 * EPOCHS - 1):
        with killed_after(STEPS):  # one epoch gets done each time
            small.train("mhim", HOW)
    small.train("mhim", HOW)
    assert small.files() == small.files("undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["mil.train.optim.AdamW.step", "mil.io.atomic.os.fsync"])
def test_a_process_that_is_killed(small, place):
    """In the middle of a step; in the middle of writing a checkpoint."""
    small.train("acmil", HOW, "undisturbed")
    program = f"""
import os, signal, sys
from pathlib import Path
from unittest.mock import patch
import mil.io.atomic, mil.train.state, mil.train.optim
from tests.train.conftest import SmallStudy
mil.train.state.EVERY_S = 0.0
from mil.train.optim import AdamW
calls, real = [0], {place.removeprefix("mil.train.optim.")}
def count(*given):
    calls[0] += 1
    if calls[0] == 4:
        slow = {{"pandas", "scipy", "sklearn", "torch._dynamo"}}
        print(sorted(slow & set(sys.modules)), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given)
with patch("{place}", count):
    SmallStudy(Path(sys.argv[1])).train("acmil", {HOW!r})
"""
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program, str(small.folder)],
        cwd=root,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -9, done.stderr
    assert done.stdout == "[]\n"  # nothing that is slow to import was loaded on the way
    assert "checkpoint.safetensors" in small.files()
    small.train("acmil", HOW)
    assert small.files() == small.files("undisturbed")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"seed": 2}, id="seed"),
        pytest.param({"threads": 2}, id="threads", marks=pytest.mark.slow),
        pytest.param({"how": HOW.replace("4, lr", "5, lr")}, id="recipe", marks=pytest.mark.slow),
        pytest.param({"bag": True}, id="bag", marks=pytest.mark.slow),
    ],
)
def test_another_training_starts_over(small, change, capfd):
    with killed_after(7):
        small.train("acmil", HOW)
    if change.pop("bag", False):
        bag = small.folder / "bags" / "s03.h5"
        bag.write_bytes(bag.read_bytes())
    how = change.pop("how", HOW)
    small.train("acmil", how, **change)
    assert (
        "checkpoint.safetensors belongs to another recipe, other bags or another machine; "
        "training starts over" in capfd.readouterr().err
    )
    small.train("acmil", how, "undisturbed", **change)
    assert small.files() == small.files("undisturbed")


@pytest.mark.parametrize(
    "spoilt",
    [
        pytest.param(b"", marks=pytest.mark.slow),
        pytest.param(b"{}", marks=pytest.mark.slow),
        b'\x08\0\0\0\0\0\0\0{"a":12}',
        "cut",
        "changed",
    ],
)
def test_a_checkpoint_that_cannot_be_read_is_one_line(small, spoilt, capfd):
    with killed_after(7):
        small.train("acmil", HOW)
    path = small.folder / "head" / "checkpoint.safetensors"
    content = path.read_bytes()
    # A bit of the last tensor: without a checksum nothing would tell.
    changed = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
    path.write_bytes({"cut": content[:-9], "changed": changed}.get(spoilt, spoilt))
    small.train("acmil", HOW)
    message = capfd.readouterr().err
    assert "training starts over" in message
    assert len(message.splitlines()) == 1
    small.train("acmil", HOW, "undisturbed")
    assert small.files() == small.files("undisturbed")


def test_a_pickle_is_never_opened_as_a_checkpoint(small, capfd):
    (small.folder / "head").mkdir()
    torch.save({"weights": torch.zeros(1)}, small.folder / "head" / "checkpoint.safetensors")
    small.train("acmil", HOW)
    assert "cannot be read" in capfd.readouterr().err


def test_ctrl_c_tells_where_the_training_resumes(small, capfd, monkeypatch):
    steps = [0]
    step = AdamW.step

    def interrupted(self):
        steps[0] += 1
        if steps[0] in (2, 9):
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(AdamW, "step", interrupted)
    for outcome in (
        "starts over, since no checkpoint was saved yet",
        f"resumes from {small.folder}/head/checkpoint.safetensors",
    ):
        with pytest.raises(KeyboardInterrupt):
            small.train("acmil", HOW)
        assert (
            capfd.readouterr().err
            == f"train acmil seed 1 fold 0: interrupted; the same command {outcome}\n"
        )


def test_a_checkpoint_is_written_no_more_often_than_it_is_worth(small, monkeypatch):
    written = []
    save = Checkpoint.save

    def count(self, snapshot):
        written.append(len(snapshot.facts["history"]["train"]))
        save(self, snapshot)

    monkeypatch.setattr(Checkpoint, "save", count)
    monkeypatch.setattr("mil.train.state.EVERY_S", 3600.0)
    small.train("ibmil", HOW)
    assert written == [EPOCHS]  # of the first stage
    monkeypatch.setattr("mil.train.state.EVERY_S", 0.0)
    small.train("acmil", HOW, "other")
    assert written[1:] == [1, 2, 3, 4]


def test_both_the_kept_and_the_last_epoch_are_there(small):
    trained = small.train("acmil", "epochs: 8, lr: 1.0e-1, batch_bags: 4")
    assert trained.epoch < 8
    selected, last = (
        load_file(small.folder / "head" / name) for name in ("head.safetensors", "last.safetensors")
    )
    assert any(not torch.equal(selected[name], last[name]) for name in selected)
    cut = small.train("acmil", "epochs: 8, lr: 1.0e-1, batch_bags: 4, select: last", "whole")
    assert cut.epoch == 8
    whole = small.files("whole")
    assert (
        whole["head.safetensors"] == whole["last.safetensors"] == small.files()["last.safetensors"]
    )
