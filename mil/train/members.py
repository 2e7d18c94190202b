"""The members of a head: trainings on each of its parts, of which the best are kept."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mil.heads import FitsAtOnce
from mil.progress import progress
from mil.train.at_once import fit_at_once
from mil.train.job import HeadJob, TrainingReport
from mil.train.loop import FitResult, TrainingData, fit
from mil.train.new_heads import new_heads
from mil.train.parts import HeadPart, head_parts
from mil.train.restarts import kept_restarts, validation_loss
from mil.train.stacked import fit_stack
from mil.train.state import History, weights_of
from mil.train.validate import logits_of
from mil.trained import MemberRecord
from mil.trained.assembled import assemble
from mil.trained.scaling import FeatureScaling


class MemberTraining(NamedTuple):
    """A finished training of a head.

    Attributes:
        record: What the head's folder states about it.
        head: Head with the weights of the last epoch.
        result: Weights of the selected epoch, and history.
        scaling: Scaling of its features; None: none.
    """

    record: MemberRecord
    head: nn.Module
    result: FitResult
    scaling: FeatureScaling | None


class HeadTraining(NamedTuple):
    """All trainings of a head, and its logits for the validation bags.

    Attributes:
        trainings: All of them, in order.
        kept: Those that the head consists of, by part; the best of each part first.
        logits: Logits of each validation bag, [bags, outputs]: with inner folds the
            average of the kept trainings that were validated on it; before calibration.
        targets: Targets of these bags.
        patients: Patient of each.
    """

    trainings: list[MemberTraining]
    kept: list[MemberTraining]
    logits: Tensor
    targets: Tensor
    patients: list[str]


def train_members(job: HeadJob) -> HeadTraining:
    """Train all members of a head, and select those to keep.

    Args:
        job: Head to train.

    Raises:
        ConfigError: Recipe, head and task do not go together.
        DatasetError: A loss is NaN or infinite.
    """
    trainings: list[MemberTraining] = []
    kept: list[MemberTraining] = []
    logits: list[Tensor] = []
    targets: list[Tensor] = []
    patients: list[str] = []
    for part in head_parts(job):
        of_part = _train_part(part)
        records = [training.record for training in of_part]
        kept_of_part = [of_part[i] for i in kept_restarts(records, job.recipe.train.keep_within)]
        valid = part.split.valid
        if valid:
            # Now, as long as the store has the graphs of this part.
            part_logits, part_targets = _validation_logits(part, kept_of_part)
            logits.append(part_logits)
            targets.append(part_targets)
            patients += [job.fold.bags[index].patient for index in valid]
        trainings += of_part
        kept += kept_of_part
    return HeadTraining(trainings, kept, _joined(logits), _joined(targets), patients)


def _joined(rows: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(rows)) if rows else torch.empty(0, 0)


def _train_part(part: HeadPart) -> list[MemberTraining]:
    """Train the restarts of one part on the same batches."""
    job = part.job
    scaling = job.fold.fit_scaling(part.split)
    heads = new_heads(part, scaling)
    # Bags have their graphs only now.
    data = job.fold.scaled_in_memory(part.split, scaling)
    results = _fit(part, data, heads)
    trainings: list[MemberTraining] = []
    for restart, (head, result) in enumerate(zip(heads, results, strict=True)):
        record = MemberRecord(
            seed=job.seed_of(part.numbers[restart]),
            part=part.split.number,
            restart=restart,
            epoch=result.history.best_epoch,
            validation_loss=validation_loss(result),
        )
        trainings.append(MemberTraining(record, head, result, scaling))
    return trainings


def _fit(part: HeadPart, data: TrainingData, heads: Sequence[nn.Module]) -> list[FitResult]:
    """Fit the restarts of a part with a progress bar and curves."""
    if isinstance(heads[0], FitsAtOnce):
        return [_fit_at_once(part, data, head) for head in heads]
    config = part.job.recipe.train
    with progress(part.title, config.epochs * len(heads), "epochs") as advance:
        reports = [TrainingReport(advance, config, part.curves(number)) for number in part.numbers]
        results = _fit_in_steps(part, data, heads, reports)
    for training_report in reports:
        training_report.close()
    return results


def _fit_in_steps(
    part: HeadPart,
    data: TrainingData,
    heads: Sequence[nn.Module],
    reports: Sequence[TrainingReport],
) -> list[FitResult]:
    """Fit restarts by steps of an optimiser, with one checkpoint file for all of them."""
    job = part.job
    losses = job.recipe.losses
    config = job.recipe.train
    checkpoint = part.checkpoint(part.numbers[0])
    if len(heads) == 1:
        # Dropout and masking draw on from where initialisation ended.
        result = fit(
            heads[0],
            data,
            losses,
            config,
            seed=part.order_seed,
            checkpoint=checkpoint,
            report=reports[0],
        )
        return [result]

    def report(histories: Sequence[History]) -> None:
        for training_report, history in zip(reports, histories, strict=True):
            training_report(history)

    return fit_stack(
        heads,
        data,
        losses,
        config,
        seed=part.order_seed,
        head_seeds=[job.seed_of(number) for number in part.numbers],
        checkpoint=checkpoint,
        report=report,
    )


def _fit_at_once(part: HeadPart, data: TrainingData, head: nn.Module) -> FitResult:
    """Fit a head without steps; it takes too little time for a checkpoint."""
    job = part.job
    assert isinstance(head, FitsAtOnce)
    result, line = fit_at_once(
        head,
        data,
        [job.fold.bags[index] for index in part.split.train],
        job.recipe.losses,
        job.recipe.train,
        seed=part.order_seed,
    )
    job.print(line)
    return result


def _validation_logits(part: HeadPart, kept: Sequence[MemberTraining]) -> tuple[Tensor, Tensor]:
    """Logits of a part's validation bags by the average of its kept restarts, and targets."""
    fold = part.job.fold
    last = [weights_of(training.head) for training in kept]
    for training in kept:
        training.head.load_state_dict(training.result.weights)
    heads = [training.head for training in kept]
    ensemble = (assemble(heads) if len(heads) > 1 else heads[0]).eval()
    # Features come standardised, as in training.
    valid = fold.training_data(part.split, kept[0].scaling).valid
    logits = logits_of(ensemble, valid, fold.device)
    for training, weights in zip(kept, last, strict=True):
        training.head.load_state_dict(weights)
    return logits
