"""What the heads of a job have in common: dataset, recipe, folds, and their bags in memory."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from mil.config import DatasetConfig, Recipe, dataset_path, load_recipe, recipe_path
from mil.device import choose_device
from mil.io.bags import common_identity
from mil.io.bags.patients import FoldBag, check_labels_of_table, read_fold_bags
from mil.io.tables import Slide, read_dataset
from mil.memory import keep_freed_memory
from mil.train.auto import described
from mil.train.facts import study_size
from mil.train.fold import FoldData, bags_of_fold, fold_data
from mil.train.initial import read_initial
from mil.train.loop import LARGEST_REUSED_BLOCK
from mil.train.precision import choose_dtype
from mil.train.prepare import make_task
from mil.train.store import open_store


@dataclass(frozen=True, kw_only=True)
class TrainingStudy:
    """Dataset, recipe and folds of a job.

    Attributes:
        recipe_file: File of the recipe.
        recipe: Recipe as its file has it.
        dataset_name: Name of the dataset.
        dataset: Dataset with its task and classes.
        slides: Rows of the slide table.
        bags_dir: Folder of the bag files.
        folds: File folds.csv.
        bags: Bags of all folds.
        device: Device of heads and batches.
    """

    recipe_file: Path
    recipe: Recipe
    dataset_name: str
    dataset: DatasetConfig
    slides: Sequence[Slide]
    bags_dir: Path
    folds: Path
    bags: Sequence[FoldBag]
    device: torch.device

    @property
    def recipe_name(self) -> str:
        """Name of the recipe: that of its file."""
        return self.recipe_file.stem

    def bags_by_fold(self, folds: Iterable[int]) -> dict[int, list[FoldBag]]:
        """Training and validation bags of some folds, with labels that suit the task.

        Args:
            folds: Numbers of the folds.

        Raises:
            ConfigError: The recipe balances classes, and the task has none.
            DatasetError: A fold has no training slides, or a label does not suit the task
                or is another one in the slide table.
        """
        by_fold: dict[int, list[FoldBag]] = {}
        for fold in dict.fromkeys(folds):
            bags = bags_of_fold(self.bags, fold, self.folds, self.dataset)
            labels = [bag.label for bag in bags if bag.split == "train"]
            # Called for its error, which comes before bags are read.
            make_task(self.recipe, self.dataset, labels)
            by_fold[fold] = bags
        check_labels_of_table(self.bags, self.folds, self.slides)
        return by_fold


class StudyData(NamedTuple):
    """Bags of the folds in memory, and the encoder and tiling that they share."""

    by_fold: Mapping[int, FoldData]
    identity: Mapping[str, str]


def read_study(
    dataset: str, bags_dir: Path, folds: Path, *, recipe: str, threads: int, device: str
) -> TrainingStudy:
    """Read dataset, recipe and folds, and set up the process for training.

    Args:
        dataset: Name or yaml file of the dataset.
        bags_dir: Folder of the bags.
        folds: File folds.csv.
        recipe: Name or file of the recipe.
        threads: CPU threads.
        device: `cpu`, `cuda`, or `auto`: the GPU if there is one.

    Raises:
        ConfigError: A file is missing or wrong, or the device lacks the recipe's precision.
        DatasetError: The slide table or the folds are wrong.
    """
    settings = load_recipe(recipe)
    config, slides = read_dataset(dataset)
    torch_device = _set_up(settings, threads, device)
    return TrainingStudy(
        recipe_file=recipe_path(recipe),
        recipe=settings,
        dataset_name=dataset_path(dataset).stem,
        dataset=config,
        slides=slides,
        bags_dir=bags_dir,
        folds=folds,
        bags=read_fold_bags(folds),
        device=torch_device,
    )


def read_bags(
    study: TrainingStudy, bags_by_fold: Mapping[int, Sequence[FoldBag]], budget: int
) -> StudyData:
    """Read the bags of some folds, each once, and plan the recipe of each fold.

    Args:
        study: Study of the bags.
        bags_by_fold: Training and validation bags of each fold.
        budget: Memory for bags and graphs, bytes.

    Raises:
        ConfigError: The recipe's initial head is for other features.
        DatasetError: The labels do not allow training.
        FormatError: A bag cannot be read, has no tiles, or was made by another encoder.
    """
    # Bags of several folds have one place in the store.
    bags_by_slides: dict[tuple[str, ...], FoldBag] = {}
    for bags in bags_by_fold.values():
        for bag in bags:
            bags_by_slides.setdefault(bag.slides, bag)
    places = {slides: place for place, slides in enumerate(bags_by_slides)}
    bags_to_read = list(bags_by_slides.values())
    # An error unless all bags are of one encoder, its weights and tiling.
    identity = common_identity([path for bag in bags_to_read for path in bag.paths(study.bags_dir)])
    folder = study.recipe.train.init
    # Before the features of all bags are read.
    initial = read_initial(Path(folder), identity) if folder else None
    store = open_store(study.bags_dir, bags_to_read, budget=budget)
    size = study_size(study.bags)
    by_fold: dict[int, FoldData] = {}
    plans: set[str] = set()
    for fold, bags in bags_by_fold.items():
        by_fold[fold] = fold_data(
            bags,
            [places[bag.slides] for bag in bags],
            store,
            recipe=study.recipe,
            dataset=study.dataset,
            size=size,
            device=study.device,
            initial=initial,
        )
        _print_plan(study, fold, by_fold[fold], plans)
    return StudyData(by_fold, identity)


def _print_plan(study: TrainingStudy, fold: int, data: FoldData, printed: set[str]) -> None:
    """Print the plan of a fold's recipe, unless an earlier fold has the same one."""
    if data.planned_from is None:
        return
    plan = described(study.recipe, data.recipe, data.planned_from)
    if plan not in printed:
        printed.add(plan)
        print(f"train {study.recipe_name} fold {fold}: {plan}", file=sys.stderr, flush=True)


def _set_up(recipe: Recipe, threads: int, device: str) -> torch.device:
    """Set memory and threads of the process, and choose the device."""
    keep_freed_memory(LARGEST_REUSED_BLOCK)
    torch.set_num_threads(threads)
    torch_device = choose_device(device)
    # Called for its error: a precision that the device lacks is reported before bags are
    # read.
    choose_dtype(recipe.train.precision, torch_device)
    return torch_device
