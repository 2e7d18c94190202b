"""The folder of a trained head: what its trainings become, and whether it is finished."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from mil.errors import FormatError
from mil.io.atomic import write_text
from mil.train.job import HeadJob
from mil.train.members import HeadTraining, train_members
from mil.train.state import History, digest_of_inputs, weights_of
from mil.train.validate import calibrate
from mil.trained import MemberRecord, Trained, save_trained
from mil.trained.assembled import assemble
from mil.trained.manifest import changed_files
from mil.trained.record import read_record
from mil.trained.seal import write_manifest

# Digest of what a head was trained from. Not part of the sealed head: it covers the
# times of bag files, which differ between machines.
INPUTS = "inputs.sha256"


def train_head(job: HeadJob, record: Trained) -> Trained:
    """Train a head and write its folder.

    Args:
        job: Head to train.
        record: Record of the head before its training.

    Returns:
        Record with the kept epoch, its members and their calibration.

    Raises:
        ConfigError, DatasetError: See `mil.train.members.train_members`.
    """
    with _interruption_message(job):
        training = train_members(job)
    first = training.kept[0]
    trained = record.model_copy(
        update={
            "epoch": first.result.history.best_epoch,
            "members": _members(training),
            "calibration": calibrate(
                training.logits, training.targets, record.task, training.patients
            ),
        }
    )
    head = assembled_head(training, job.fold.device)
    last_weights = weights_of(head)
    select_weights(training)
    _save(job, trained, head, last_weights, _history(training))
    return trained


def assembled_head(training: HeadTraining, device: torch.device) -> nn.Module:
    """The members that are kept as one head, with the weights of their last epochs.

    A single member without scaling is that member itself.

    Args:
        training: Trainings of the head.
        device: Device of its members.
    """
    members = [member.head for member in training.kept]
    # Copies: the fold's other heads use the same scaling, which stays on the CPU.
    scalings = [deepcopy(each.scaling) for each in training.kept if each.scaling is not None]
    if len(members) == 1 and not scalings:
        return members[0]
    return assemble(members, scalings).to(device)


def select_weights(training: HeadTraining) -> None:
    """Give the members that are kept the weights of their selected epochs."""
    for member in training.kept:
        member.head.load_state_dict(member.result.weights)


def _members(training: HeadTraining) -> list[MemberRecord]:
    # None for a head that was trained once: its record says all of it already.
    if len(training.trainings) == 1:
        return []
    return [member.record for member in training.kept]


def _history(training: HeadTraining) -> dict[str, Any]:
    """Content of history.json: the first member that is kept, and all trainings if several."""
    history = _curve(training.kept[0].result.history)
    if len(training.trainings) == 1:
        return history
    kept = [member.record for member in training.kept]
    history["members"] = [
        {
            **member.record.model_dump(),
            "kept": member.record in kept,
            **_curve(member.result.history),
        }
        for member in training.trainings
    ]
    return history


def _curve(history: History) -> dict[str, Any]:
    # The score that selected the epoch is also in the metrics of that epoch.
    return {key: getattr(history, key) for key in ("train", "valid", "best_epoch")}


def _save(
    job: HeadJob,
    trained: Trained,
    head: nn.Module,
    last_weights: Mapping[str, Tensor],
    history: dict[str, Any],
) -> None:
    (job.out / INPUTS).unlink(missing_ok=True)
    save_trained(job.out, trained, weights_of(head), history, last=last_weights)
    write_manifest(job.out)
    write_text(job.out / INPUTS, f"{digest_of_inputs(job.inputs)}\n")


def finished_head(job: HeadJob) -> Trained | None:
    """Record of a head that is finished, unchanged and of these inputs; None: it is not."""
    try:
        digest = (job.out / INPUTS).read_text(encoding="utf-8").strip()
        if digest != digest_of_inputs(job.inputs) or changed_files(job.out):
            return None
        return read_record(job.out)
    # A folder that cannot be read is written again.
    except (OSError, ValueError, FormatError):
        return None


@contextmanager
def _interruption_message(job: HeadJob) -> Iterator[None]:
    """Tell after Ctrl-C where the same command will resume."""
    try:
        yield
    except KeyboardInterrupt:
        files = job.checkpoint_files()
        outcome = "starts over, since no checkpoint was saved yet"
        if files:
            outcome = f"resumes from {files[0]}"
        message = f"{job.title}: interrupted; the same command {outcome}"
        print(message, file=sys.stderr, flush=True)
        raise
