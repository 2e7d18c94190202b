"""Check a run's configuration and slide table, and locate the files that it starts from."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mil.config import Config, DatasetConfig, dataset_path, load_config, load_encoders
from mil.config.joined import tiled_encoders
from mil.config.run import check_finer_maps, check_trainings
from mil.config.slide_encoders_of_run import (
    check_encoders_of_run,
    check_tiles_of_bags,
    check_tiles_of_run,
)
from mil.errors import DatasetError
from mil.io import tables
from mil.io.tables import paths
from mil.io.tables.checks import check_enough, check_labels, of_table
from mil.io.tables.missing import missing_bags_message, missing_message
from mil.io.tables.predefined import number_of_folds
from mil.io.tables.urls import check_urls
from mil.plan.existing import BagKind, check_encoder
from mil.plan.plan import Plan


def make_plan(raw: dict[str, Any]) -> Plan:
    """Check a run's configuration and slide table, and locate the files it starts from.

    Args:
        raw: Configuration, as a mapping read from YAML.

    Raises:
        MilError: A setting or the table is wrong, or slides are missing and the run may
            not continue without them.
    """
    config = load_config(raw)
    dataset, table = tables.read_dataset(config.dataset)
    if config.bags is None and dataset.bags:
        config = config.model_copy(update={"bags": dataset.bags})
    config = _with_folds(config, dataset, table)
    slides_dir = Path(config.slides_dir or dataset.slides_dir or f"data/{config.dataset}")
    if not config.fetch.download:
        table = [_without_urls(row, slides_dir, dataset) for row in table]
    if config.bags is None:
        paths.check_no_braces("slides_dir", slides_dir)
    annotations = {row.slide: paths.locate_annotation(row, slides_dir, dataset) for row in table}
    _check_no_braces(config, "annotation of slide", annotations)
    with of_table(dataset_path(config.dataset).with_suffix(".csv")):
        paths.check_annotations(annotations)
    plan = Plan(
        config=config,
        dataset=dataset,
        slides={row.slide: row for row in table},
        slides_dir=slides_dir,
        encoders=load_encoders(),
        annotations={slide: file for slide, file in annotations.items() if file is not None},
    )
    if config.bags is None:
        return _from_slides(plan, table)
    return _from_bags(plan, table, Path(config.bags))


def _check_no_braces(config: Config, subject: str, files: Mapping[str, Path | None]) -> None:
    """Refuse paths of the table that Snakemake would take for a pattern, by the table's name."""
    with of_table(dataset_path(config.dataset).with_suffix(".csv")):
        for name, file in files.items():
            paths.check_no_braces(f"{subject} {name}", file or "")


def _with_folds(config: Config, dataset: DatasetConfig, table: Sequence[tables.Slide]) -> Config:
    """The configuration with the run's number of folds, which is part of its paths."""
    table_path = dataset_path(config.dataset).with_suffix(".csv")
    with of_table(table_path):
        check_labels(table, early=config.fusion == "early")
    paths.check_no_braces("split.file", config.split.file or "")
    folds = number_of_folds(config.split, config.folds, table, allow_missing=config.allow_missing)
    # Checked here and not only by `split`, which comes after hours of embedding.
    if config.split.file is None and config.split.by is None:
        # Here, because it imports numpy, which a run on predefined splits does without.
        from mil.tasks import task_of

        with of_table(table_path):
            check_enough(
                table,
                folds,
                every_label=task_of(dataset).every_label,
                test_share=config.split.test_share,
            )
    config = config.model_copy(update={"folds": folds})
    check_trainings(config)
    return config


def _without_urls(row: tables.Slide, slides_dir: Path, dataset: DatasetConfig) -> tables.Slide:
    """A row of which only the files that are there count."""
    annotation = paths.locate_annotation(row, slides_dir, dataset)
    is_absent = bool(row.annotation_url and annotation and not annotation.exists())
    named = "" if is_absent else row.annotation
    return replace(row, url="", annotation_url="", annotation=named)


def _from_slides(plan: Plan, table: Sequence[tables.Slide]) -> Plan:
    config = plan.config
    dataset = plan.dataset
    slides_dir = plan.slides_dir
    check_encoders_of_run(config.slide_encoder, config.encoder, "add {encoder} to encoder")
    check_tiles_of_run(config.slide_encoder, config.tile.size_px, config.tile.mpp)
    if not config.trust_urls:
        check_urls(table, dataset_path(config.dataset).parent)
    files = {row.slide: paths.locate(row, slides_dir, dataset) for row in table}
    _check_no_braces(config, "slide", files)
    # A slide with a URL is not missing: the workflow fetches it.
    missing = {
        row.slide: files[row.slide]
        for row in table
        if not row.url and not files[row.slide].exists()
    }
    masks = paths.locate_masks(table, slides_dir, dataset)
    for slide, files_of_slide in masks.items():
        _check_no_braces(config, f"slide {slide}:", files_of_slide)
    if missing and not config.allow_missing:
        raise DatasetError(
            missing_message(config.dataset, dataset, list(missing.items()), len(table), slides_dir)
        )
    tiled = {name: tiled_encoders(name, config.tile, plan.encoders) for name in config.encoder}
    complete = replace(
        plan,
        files=files,
        masks=masks,
        missing=missing,
        # Joined bags have the tiles of the first.
        tilings={name: of_name[0].tiling for name, of_name in tiled.items()},
        joined={
            name: [BagKind(one.name, one.tiling) for one in of_name]
            for name, of_name in tiled.items()
            if len(of_name) > 1
        },
    )
    for kind, folder in complete.bags_dirs.items():
        check_encoder(folder, kind.encoder, plan.encoders[kind.encoder])
    return complete


def _from_bags(plan: Plan, table: Sequence[tables.Slide], folder: Path) -> Plan:
    """A run on precomputed bags.

    Encoder and tiling are those of the first bag; slides and annotations are optional.
    """
    # Here, because a run on slides needs no HDF5.
    from mil.io.bags.folder import kind_of_bags, slides_with_bags

    paths.check_no_braces("bags", folder)
    bags = slides_with_bags(folder)
    with_bag = set(bags).intersection(plan.slides)
    missing = {row.slide: folder / f"{row.slide}.h5" for row in table if row.slide not in with_bag}
    if missing and not (with_bag and plan.config.allow_missing):
        not_in_table = [name for name in bags if name not in with_bag]
        raise DatasetError(
            missing_bags_message(
                plan.config.dataset, list(missing.items()), len(table), not_in_table
            )
        )
    # One bag is opened for all of them; `train` checks that the others agree.
    first = next(slide for slide in plan.slides if slide in with_bag)
    path = folder / f"{first}.h5"
    header = kind_of_bags(path)
    remedy = f"{folder} would have to hold bags by {{encoder}}"
    check_encoders_of_run(plan.config.slide_encoder, [header.encoder], remedy)
    check_tiles_of_bags(plan.config.slide_encoder, path, header.tile_px, header.target_mpp)
    check_finer_maps(plan.config, [header.encoder], "train on bags of one encoder")
    annotations = {slide: file for slide, file in plan.annotations.items() if file.exists()}
    # Slides are optional beside bags, and serve only to be seen under the attention.
    rows = table if plan.slides_dir.is_dir() else []
    files = {row.slide: paths.locate(row, plan.slides_dir, plan.dataset) for row in rows}
    _check_no_braces(plan.config, "slide", files)
    return replace(
        plan,
        tilings={header.encoder: header.tiling},
        missing=missing,
        annotations=annotations,
        files={slide: file for slide, file in files.items() if file.exists()},
    )
