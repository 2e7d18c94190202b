"""Stage `train`: bags, folds and a recipe give the folders of trained heads."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mil.config import recipe_errors
from mil.io.bags.patients import digest_of_seen, is_early
from mil.train.inputs import inputs_of_head
from mil.train.job import HeadJob
from mil.train.result import finished_head, train_head
from mil.train.runs import HeadRun, check_apart
from mil.train.study import StudyData, TrainingStudy, read_bags, read_study
from mil.train.tensorboard import TensorBoardWriter
from mil.trained import Trained

CACHE_MB = 8000  # Memory for bags, MiB.


def run(
    dataset: str,
    bags_dir: Path,
    folds: Path,
    out: Path,
    *,
    recipe: str,
    fold: int,
    seed: int,
    threads: int,
    device: str,
    cache_mb: int = CACHE_MB,
    tensorboard: Path | None = None,
) -> Trained:
    """Train one head of a seed and a fold, into one folder; see `run_all`."""
    heads = run_all(
        dataset,
        bags_dir,
        folds,
        [HeadRun(seed, fold, out)],
        recipe=recipe,
        threads=threads,
        device=device,
        cache_mb=cache_mb,
        tensorboard=tensorboard,
    )
    return heads[0]


def run_all(
    dataset: str,
    bags_dir: Path,
    folds: Path,
    runs: Sequence[HeadRun],
    *,
    recipe: str,
    threads: int,
    device: str,
    cache_mb: int = CACHE_MB,
    tensorboard: Path | None = None,
    report: Callable[[HeadRun, Trained], object] = lambda *_: None,
) -> list[Trained]:
    """Train heads of one recipe, whose bags are read once for all of them.

    Each head is the same as if it were trained alone. A head that is finished already,
    from the same bags, recipe and versions, is kept as it is; an interrupted training
    resumes from its checkpoint. Checkpoints are removed when all heads are finished.

    Args:
        dataset: Name or yaml file of the dataset.
        bags_dir: Folder of the bags.
        folds: File folds.csv; a bag is opened only if it is for training or validation
            in one of the folds, and no head can reach the test bags of its own fold.
        runs: Seed, fold and folder of each head.
        recipe: Name or file of the recipe.
        threads: CPU threads.
        device: `cpu`, `cuda`, or `auto`: the GPU if there is one.
        cache_mb: Memory for bags, MiB; bags that do not fit are read again in every
            epoch.
        tensorboard: Folder for training curves, a subfolder each; None: no curves.
        report: Called with each head and its record as soon as it is finished.

    Raises:
        ConfigError: Recipe, head, task and device do not go together.
        DatasetError: A fold has no training slides, a label does not suit the task or is
            another one in the slide table, two heads have one folder, or a loss becomes
            NaN.
        FormatError: A bag cannot be read, has no tiles, or was made by another encoder.
    """
    check_apart(runs)
    study = read_study(dataset, bags_dir, folds, recipe=recipe, threads=threads, device=device)
    bags_by_fold = study.bags_by_fold(head_run.fold for head_run in runs)
    curves = _curves(tensorboard, study.recipe_name, runs)
    data = read_bags(study, bags_by_fold, cache_mb << 20)
    jobs = [
        _job(study, data, head_run, folder, is_one_of_several=len(runs) > 1)
        for head_run, folder in zip(runs, curves, strict=True)
    ]
    heads = _train(study, data, runs, jobs, report)
    # Not head by head: where a job fails, the workflow deletes its finished heads too,
    # and they are made again from their checkpoints in no time.
    for job in jobs:
        job.remove_checkpoints()
    return heads


def _curves(
    tensorboard: Path | None, name: str, runs: Sequence[HeadRun]
) -> list[Path] | list[None]:
    """Folder of TensorBoard's curves of each head."""
    if tensorboard is None:
        return [None] * len(runs)
    folders = [tensorboard / f"{name}_seed{head_run.seed}_fold{head_run.fold}" for head_run in runs]
    # Before bags are read, since TensorBoard may not be installed.
    TensorBoardWriter(folders[0]).close()
    return folders


def _job(
    study: TrainingStudy,
    data: StudyData,
    head_run: HeadRun,
    curves: Path | None,
    *,
    is_one_of_several: bool,
) -> HeadJob:
    seed = head_run.seed
    fold = head_run.fold
    bags = data.by_fold[fold]
    return HeadJob(
        title=f"train {study.recipe_name} seed {seed} fold {fold}",
        fold=bags,
        seed=seed,
        out=head_run.out,
        inputs=inputs_of_head(bags, study.bags_dir, data.identity, seed=seed, fold=fold),
        curves=curves,
        is_one_of_several=is_one_of_several,
    )


def _train(
    study: TrainingStudy,
    data: StudyData,
    runs: Sequence[HeadRun],
    jobs: Sequence[HeadJob],
    report: Callable[[HeadRun, Trained], object],
) -> list[Trained]:
    """Train the heads that are not finished, one after the other."""
    heads: list[Trained] = []
    for head_run, job in zip(runs, jobs, strict=True):
        with recipe_errors(str(study.recipe_file)):
            trained = finished_head(job) or train_head(job, _record(study, data, head_run))
        heads.append(trained)
        report(head_run, trained)
    return heads


def _record(study: TrainingStudy, data: StudyData, head_run: HeadRun) -> Trained:
    """Record of a head before its training."""
    fold = data.by_fold[head_run.fold]
    with_test = [bag for bag in study.bags if bag.fold == head_run.fold]
    return Trained(
        recipe_name=study.recipe_name,
        recipe=fold.recipe,
        **data.identity,
        dim=fold.dim,
        task=fold.task,
        dataset=study.dataset_name,
        seed=head_run.seed,
        fold=head_run.fold,
        epoch=0,
        planned_from=fold.planned_from,
        started_from=None if fold.initial is None else fold.initial.entry(fold.recipe, fold.task),
        fusion="early" if is_early(with_test) else "late",
        seen=digest_of_seen(fold.bags),
    )
