"""Dataset in, diagnosis out; no file is written but the JSON that was asked for."""

import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from mil.config import (
    Config,
    config_path,
    dataset_path,
    load_config,
    load_encoders,
    name_fault,
    read_yaml,
    tiling_name,
)
from mil.config.joined import TiledEncoder, name_of_tiled, tiled_encoders
from mil.config.stain import missing_stain_package
from mil.doctor.findings import Diagnosis, EncoderFinding, JoinedFinding, SlideFinding
from mil.doctor.inspect import Requirements, inspect_slide
from mil.doctor.regions import OutlineFiles
from mil.doctor.slide_encoders import inspect_slide_encoders
from mil.doctor.throughput import measure
from mil.encoders.availability import weights_status
from mil.errors import DatasetError, some
from mil.io.annotations import PositiveClasses
from mil.io.atomic import LONGEST_NAME, LONGEST_SCRATCH, write_json
from mil.io.tables import Slide, read_dataset
from mil.io.tables.ids import LONGEST_ENDING
from mil.io.tables.paths import (
    check_annotations,
    check_no_braces,
    locate,
    locate_annotation,
    locate_masks,
)
from mil.io.tables.slides import table_notes
from mil.io.tables.urls import check_urls
from mil.progress import progress
from mil.tile.plan import UserMasks

# A tile's row in the bag besides its features: two int32 of coordinates, one byte of
# validity.
ROW_BYTES = 9
# An HDF5 file with all its attributes and no tiles, roughly.
FILE_BYTES = 8192


def run(
    dataset: str,
    *,
    slides_dir: Path | None,
    encoders: Sequence[str],
    slide_encoders: Sequence[str] = (),
    json: Path | None,
    threads: int,
    tissue: bool,
) -> Diagnosis:
    """Inspect every slide and every encoder of a run.

    Args:
        dataset: Name of the dataset, or path of its yaml.
        slides_dir: Folder of the slides; None: that of a run on the dataset.
        encoders: Names of encoders; empty: those of configs/config.yaml.
        slide_encoders: Names of slide encoders; empty: those of configs/config.yaml.
        json: File to write all findings to; None: none.
        threads: Number of slides inspected at a time.
        tissue: Whether to detect tissue, which takes most of the time.

    Raises:
        MilError: The dataset, the configuration or an encoder's name is wrong.
    """
    config = load_config(read_yaml(config_path("config.yaml")))
    settings, rows = read_dataset(dataset)
    name = dataset_path(dataset).stem
    entries = load_encoders()
    tiled = {
        encoder: tiled_encoders(encoder, config.tile, entries)
        for encoder in encoders or config.encoder
    }
    # The same precedence as in `mil.plan.make.make_plan`, or the doctor would look at other
    # files than a run.
    folder = slides_dir or Path(config.slides_dir or settings.slides_dir or f"data/{name}")
    # Joined encoders share tiles and bags with those of the run that are alone.
    each = list(
        dict.fromkeys((one.name, one.tile_px, one.mpp) for of in tiled.values() for one in of)
    )
    tilings = tuple(dict.fromkeys((tile_px, mpp) for _, tile_px, mpp in each))
    requirements = Requirements(tilings, config.tile, config.features.max_corrupt, tissue)
    files_of_masks = locate_masks(rows, folder, settings)
    frame = settings.geojson_frame
    masks = {slide: UserMasks(**files, frame=frame) for slide, files in files_of_masks.items()}
    rule = PositiveClasses(tuple(settings.annotation_classes), settings.positive_class)
    jobs = []
    for row in rows:
        of_slide = masks.get(row.slide, UserMasks())
        # An annotation that is still to be fetched is no fault.
        annotation = locate_annotation(row, folder, settings)
        if annotation is not None and row.annotation_url and not annotation.exists():
            annotation = None
        outlines = OutlineFiles(annotation, of_slide, frame, rule)
        jobs.append((row, locate(row, folder, settings), of_slide, outlines))
    slides = _inspect_all(jobs, requirements, threads)
    results = Path("results") / name
    usable = [slide for slide in slides if slide.state == "ok"]
    tile_px, target_mpp = tilings[0]
    names = [tiling_name(*tiling) for tiling in tilings]
    diagnosis = Diagnosis(
        dataset=name,
        slides_dir=str(folder),
        results_dir=str(results),
        free_bytes=_free(results),
        tissue=tissue,
        slides=slides,
        encoders=[
            _encoder(TiledEncoder(name, entries[name], tile_px, mpp), slides, config)
            for name, tile_px, mpp in each
        ],
        joined=[_joined(of_name, slides, config) for of_name in tiled.values() if len(of_name) > 1],
        tiles={
            tiling: sum(slide.tilings[tiling].num_tiles for slide in usable) for tiling in names
        },
        slide_encoders=inspect_slide_encoders(slide_encoders or config.slide_encoder, config.head),
        how_to_get=" ".join(settings.get.split()),
        # After the inspection, so that no other thread reads from the disk.
        rates=measure(usable, tile_px, tiling_name(tile_px, target_mpp)),
        table_notes=table_notes(dataset),
        table_faults=_name_faults(name, rows, results)
        + _path_faults([job[:3] for job in jobs], dataset, config)
        + _annotation_faults({row.slide: files.annotation for row, _, _, files in jobs})
        + _package_faults(config),
    )
    if json is not None:
        write_json(json, diagnosis.as_json())
    return diagnosis


def _inspect_all(
    jobs: Sequence[tuple[Slide, Path, UserMasks, OutlineFiles]],
    requirements: Requirements,
    threads: int,
) -> list[SlideFinding]:
    """All slides in the order of the table; at most `threads` are open at a time."""
    with (
        # An open slide takes about 0.5 GB, hence the limit.
        ThreadPoolExecutor(threads) as pool,
        progress("inspecting slides", len(jobs), "slides") as advance,
    ):
        futures = [
            pool.submit(inspect_slide, row, file, requirements, masks, outlines)
            for row, file, masks, outlines in jobs
        ]
        try:
            for _ in as_completed(futures):
                advance(1)
        # Without this, Ctrl+C would wait for all slides in the queue.
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _encoder(
    encoder: TiledEncoder, slides: Sequence[SlideFinding], config: Config
) -> EncoderFinding:
    bags = _bags_bytes(encoder.tiling, encoder.entry.dim, slides, config)
    largest = max(bags, key=lambda slide: bags[slide], default="")
    weights = weights_status(encoder.name, encoder.entry)
    return EncoderFinding(
        encoder=encoder.name,
        tiling=encoder.tiling,
        dim=encoder.entry.dim,
        licence=encoder.entry.licence,
        weights=weights.status,
        weights_ok=weights.available,
        detail=weights.message,
        bags_bytes=sum(bags.values()),
        largest_bag_bytes=bags.get(largest, 0),
        largest_bag_slide=largest,
    )


def _joined(
    encoders: Sequence[TiledEncoder], slides: Sequence[SlideFinding], config: Config
) -> JoinedFinding:
    """Bags of joined encoders, which have the tiles of the first and the features of all."""
    dim = sum(encoder.entry.dim for encoder in encoders)
    bags = _bags_bytes(encoders[0].tiling, dim, slides, config)
    return JoinedFinding(name_of_tiled(encoders), dim, sum(bags.values()))


def _bags_bytes(
    tiling: str, dim: int, slides: Sequence[SlideFinding], config: Config
) -> dict[str, int]:
    """Size of the bag of each slide that is ok, bytes."""
    bytes_per_value = 2 if config.features.dtype == "float16" else 4
    row_bytes = dim * bytes_per_value + ROW_BYTES
    return {
        slide.slide: slide.tilings[tiling].num_tiles * row_bytes + FILE_BYTES
        for slide in slides
        if slide.state == "ok"
    }


def _free(folder: Path) -> int:
    """Free space on the disk of a folder that exists or will be made, bytes."""
    return shutil.disk_usage(os.fspath(_existing(folder))).free


def _existing(folder: Path) -> Path:
    """The nearest parent that exists: it is on the disk that the folder will be on."""
    folder = folder.absolute()
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _name_faults(dataset: str, rows: Sequence[Slide], results: Path) -> list[str]:
    """Faults of names that a run would meet: of the dataset, and of slides on this disk."""
    faults = []
    if fault := name_fault(dataset):
        faults.append(f"dataset name {dataset!r}: {fault}; rename its yaml and csv")
    # Encrypted folders allow shorter names than most disks.
    longest = _longest_name(_existing(results)) - LONGEST_SCRATCH - LONGEST_ENDING
    too_long = [row.slide for row in rows if len(row.slide.encode()) > longest]
    if too_long:
        faults.append(
            f"slide ids over {longest} bytes are too long for files on the disk of {results} "
            f"({some(too_long)})"
        )
    return faults


def _path_faults(
    jobs: Sequence[tuple[Slide, Path, UserMasks]], dataset: str, config: Config
) -> list[str]:
    """Paths and URLs that a run would refuse, the first of each kind."""
    faults = []
    try:
        for row, file, _ in jobs:
            check_no_braces(f"slide {row.slide}", file)
    except DatasetError as error:
        faults.append(str(error))
    try:
        if not config.trust_urls:
            check_urls([row for row, _, _ in jobs], dataset_path(dataset).parent)
    except DatasetError as error:
        faults.append(str(error))
    return faults


def _annotation_faults(files: Mapping[str, Path | None]) -> list[str]:
    """Annotations that a run would refuse by their names."""
    try:
        check_annotations(files)
    except DatasetError as error:
        return [str(error)]
    return []


def _package_faults(config: Config) -> list[str]:
    """Packages that a run needs and that are not installed."""
    missing = missing_stain_package(config.features.stain_norm)
    return [f"features.{missing}"] if missing else []


def _longest_name(folder: Path) -> int:
    """Bytes that a file's name may have in a folder."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError, AttributeError):
        return LONGEST_NAME
