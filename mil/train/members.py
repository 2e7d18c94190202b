"""The trainings of one head: restarts and inner folds, of which the best are kept.

Training m = part * restarts + restart has the random seed ``seed + SEED_STRIDE * m`` for
initialisation, dropout and masking. The order of bags and the sampling of tiles belong
to the part: its restarts see the same batches.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mil.heads import FitsAtOnce, UsesGraph, build_head
from mil.progress import progress
from mil.train.at_once import fit_at_once
from mil.train.inner import InnerFold, inner_folds, largest_count, own_split
from mil.train.job import HeadJob, TrainingReport
from mil.train.loop import FitResult, TrainingData, fit
from mil.train.prepare import FIRST_STAGE_LOSSES, check_compatible, prepare
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
        member: Its record.
        head: Head with the weights of the last epoch.
        result: Weights of the selected epoch, and history.
        scaling: Scaling of its features; None: none.
    """

    member: MemberRecord
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


class _Schedule(NamedTuple):
    """Trainings of a head: its parts, and restarts of each."""

    job: HeadJob
    parts: Sequence[InnerFold]
    restarts: int

    @property
    def has_one(self) -> bool:
        return len(self.parts) * self.restarts == 1

    def numbers(self, part: InnerFold) -> list[int]:
        """Numbers of the trainings of a part."""
        first = part.number * self.restarts
        return list(range(first, first + self.restarts))

    def order_seed(self, part: InnerFold) -> int:
        """Random seed of the order of bags and their sampling, which restarts share."""
        return self.job.seed_of(self.numbers(part)[0])


def train_members(job: HeadJob) -> HeadTraining:
    """Train all members of a head, and select those to keep.

    Args:
        job: Head to train.

    Raises:
        ConfigError: Recipe, head and task do not go together.
        DatasetError: A loss is NaN or infinite.
    """
    schedule = _schedule(job)
    trainings: list[MemberTraining] = []
    kept: list[MemberTraining] = []
    logits: list[Tensor] = []
    targets: list[Tensor] = []
    patients: list[str] = []
    for part in schedule.parts:
        of_part = _train_part(schedule, part)
        members = [training.member for training in of_part]
        kept_of_part = [of_part[i] for i in kept_restarts(members, job.recipe.train.keep_within)]
        if part.valid:
            # Now, as long as the store has the graphs of this part.
            part_logits, part_targets = _validation_logits(job, part, kept_of_part)
            logits.append(part_logits)
            targets.append(part_targets)
            patients += [job.fold.bags[index].patient for index in part.valid]
        trainings += of_part
        kept += kept_of_part
    return HeadTraining(trainings, kept, _joined(logits), _joined(targets), patients)


def _joined(rows: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(rows)) if rows else torch.empty(0, 0)


def _schedule(job: HeadJob) -> _Schedule:
    parts = _parts(job)
    restarts = job.recipe.train.restarts
    if restarts > 1 and not all(part.valid for part in parts):
        job.print("train.restarts: one training, for restarts are compared on validation slides")
        restarts = 1
    return _Schedule(job, parts, restarts)


def _parts(job: HeadJob) -> list[InnerFold]:
    """The fold's own split, or inner folds as far as there are patients for them."""
    wanted = job.recipe.train.inner_folds
    bags = job.fold.bags
    if wanted < 2:
        return [own_split(bags)]
    strata = job.fold.task.strata([bag.label for bag in bags])
    count = min(wanted, largest_count(bags, strata))
    if count < 2:
        job.print(
            "train.inner_folds: too few patients of a class to divide; the fold's own validation "
            "slides are used"
        )
        return [own_split(bags)]
    if count < wanted:
        job.print(
            f"train.inner_folds: {count} instead of {wanted}, the number of patients of the "
            "rarest class"
        )
    return inner_folds(bags, strata, count, job.seed)


def _train_part(schedule: _Schedule, part: InnerFold) -> list[MemberTraining]:
    """Train the restarts of one part on the same batches."""
    job = schedule.job
    scaling = job.fold.fit_scaling(part)
    data = job.fold.training_data(part, scaling)
    numbers = schedule.numbers(part)
    heads: list[nn.Module] = []
    for number in numbers:
        torch.manual_seed(job.seed_of(number))
        heads.append(_initialised(schedule, part, data, number))
    if isinstance(heads[0], UsesGraph):
        _add_graphs(job, heads[0], part, scaling)
    # Again, since bags have their graphs only now.
    scaled = job.fold.scaled_in_memory(part, scaling)
    results = _fit(schedule, part, scaled, heads)
    trainings: list[MemberTraining] = []
    for restart, (head, result) in enumerate(zip(heads, results, strict=True)):
        member = MemberRecord(
            seed=job.seed_of(numbers[restart]),
            part=part.number,
            restart=restart,
            epoch=result.history.best_epoch,
            validation_loss=validation_loss(result),
        )
        trainings.append(MemberTraining(member, head, result, scaling))
    return trainings


def _fit(
    schedule: _Schedule, part: InnerFold, data: TrainingData, heads: Sequence[nn.Module]
) -> list[FitResult]:
    """Fit heads with a checkpoint file, a progress bar and curves."""
    job = schedule.job
    if isinstance(heads[0], FitsAtOnce):
        return [_fit_at_once(schedule, part, data, head) for head in heads]
    recipe = job.recipe
    numbers = schedule.numbers(part)
    checkpoint = job.checkpoint(numbers[0], is_only=schedule.has_one)
    title = job.title
    if len(schedule.parts) > 1:
        title += f", part {part.number + 1} of {len(schedule.parts)}"
    with progress(title, recipe.train.epochs * len(heads), "epochs") as advance:
        reports = [
            TrainingReport(advance, recipe.train, _curves(job, number)) for number in numbers
        ]

        def report(histories: Sequence[History]) -> None:
            for report_one, history in zip(reports, histories, strict=True):
                report_one(history)

        order_seed = schedule.order_seed(part)
        if len(heads) == 1:
            # Dropout and masking draw on from where initialisation ended.
            single = fit(
                heads[0],
                data,
                recipe.losses,
                recipe.train,
                seed=order_seed,
                checkpoint=checkpoint,
                report=reports[0],
            )
            results = [single]
        else:
            results = fit_stack(
                heads,
                data,
                recipe.losses,
                recipe.train,
                seed=order_seed,
                head_seeds=[job.seed_of(number) for number in numbers],
                checkpoint=checkpoint,
                report=report,
            )
    for training_report in reports:
        training_report.close()
    return results


def _fit_at_once(
    schedule: _Schedule, part: InnerFold, data: TrainingData, head: nn.Module
) -> FitResult:
    """Fit a head without steps; it takes too little time for a checkpoint."""
    job = schedule.job
    assert isinstance(head, FitsAtOnce)
    result, line = fit_at_once(
        head,
        data,
        [job.fold.bags[index] for index in part.train],
        job.recipe.losses,
        job.recipe.train,
        seed=schedule.order_seed(part),
    )
    job.print(line)
    return result


def _initialised(
    schedule: _Schedule, part: InnerFold, data: TrainingData, number: int
) -> nn.Module:
    """A head before its training, after the first stage if it has one."""
    job = schedule.job
    recipe = job.recipe
    head = build_head(recipe.name, recipe.options, dim=job.fold.head_dim, classes=data.task.outputs)
    if job.fold.initial is not None:
        job.fold.initial.start(head, number, recipe, data.task)
    head.to(data.device)
    check_compatible(data.task, recipe, head)

    def train_first(first: nn.Module) -> None:
        title = f"{job.title}, first stage"
        with progress(title, recipe.train.epochs, "epochs") as advance:
            result = fit(
                first,
                data,
                FIRST_STAGE_LOSSES,
                recipe.train,
                seed=schedule.order_seed(part),
                checkpoint=job.checkpoint(number, "first", is_only=schedule.has_one),
                report=TrainingReport(advance, recipe.train),
            )
        # The main training follows the best epoch of the first head, not its last.
        first.load_state_dict(result.weights)

    prepare(head, data.train, train_first)
    return head


def _add_graphs(
    job: HeadJob, head: UsesGraph, part: InnerFold, scaling: FeatureScaling | None
) -> None:
    """Build the graphs of a part's bags, unless the store has them from another head."""
    indices = job.fold.store_indices([*part.train, *part.valid])
    key = _graph_key(job, head, indices, scaling)
    if job.fold.store.graph_key == key:
        return
    with progress(f"{job.title}, graphs", len(indices), "slides") as advance:
        job.fold.store.add_graphs(head, advance, indices=indices, scaling=scaling, key=key)


def _graph_key(
    job: HeadJob, head: UsesGraph, indices: Sequence[int], scaling: FeatureScaling | None
) -> str:
    """Digest of what graphs depend on: bags, options, and what the training bags gave."""
    assert isinstance(head, nn.Module)
    digest = sha256(repr((sorted(indices), job.recipe.name, job.recipe.options)).encode())
    for module in (head, scaling):
        for buffer in module.buffers() if module is not None else ():
            digest.update(buffer.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def _validation_logits(
    job: HeadJob, part: InnerFold, kept: Sequence[MemberTraining]
) -> tuple[Tensor, Tensor]:
    """Logits of a part's validation bags by the average of its kept restarts, and targets."""
    last = [weights_of(training.head) for training in kept]
    for training in kept:
        training.head.load_state_dict(training.result.weights)
    heads = [training.head for training in kept]
    ensemble = (assemble(heads) if len(heads) > 1 else heads[0]).eval()
    # Features come standardised, as in training.
    valid = job.fold.training_data(part, kept[0].scaling).valid
    logits = logits_of(ensemble, valid, job.fold.device)
    for training, weights in zip(kept, last, strict=True):
        training.head.load_state_dict(weights)
    return logits


def _curves(job: HeadJob, number: int) -> Path | None:
    """Folder of TensorBoard's curves of a training."""
    if job.curves is None or not number:
        return job.curves
    return job.curves.with_name(f"{job.curves.name}_member{number}")
