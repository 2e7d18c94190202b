"""A dataset in, a diagnosis out; nothing is written but the JSON that was asked for."""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from mil.config import (
    Config,
    EncoderConfig,
    config_path,
    dataset_path,
    load_config,
    load_encoder,
    read_yaml,
    tiling_name,
)
from mil.doctor.findings import Diagnosis, EncoderFinding, SlideFinding
from mil.doctor.inspect import Wanted, look
from mil.doctor.throughput import measure
from mil.encoders.availability import weights_status
from mil.io.atomic import write_json
from mil.io.tables import Slide, read_dataset
from mil.io.tables.paths import locate, locate_masks
from mil.progress import progress
from mil.tile.plan import Drawn

# A tile's row in the bag besides its features: two int32 of coordinates, one byte of
# validity.
ROW_BYTES = 9
# What an HDF5 file takes with all its attributes, about.
FILE_BYTES = 8192


def run(
    dataset: str,
    *,
    slides_dir: Path | None,
    encoders: Sequence[str],
    json: Path | None,
    threads: int,
    tissue: bool,
) -> Diagnosis:
    """Look at every slide and every encoder of a run.

    Args:
        dataset: a name, or the path of a yaml.
        slides_dir: where the slides are; None: as the workflow finds it.
        encoders: names; none: those of configs/config.yaml.
        json: a file for everything that was found; None: none.
        threads: slides looked at at once.
        tissue: whether to find tissue, which takes most of the time.

    Raises:
        MilError: the dataset, the configuration or an encoder's name is wrong.
    """
    config = load_config(read_yaml(config_path("config.yaml")))
    described, rows = read_dataset(dataset)
    name = dataset_path(dataset).stem
    entries = {encoder: load_encoder(encoder) for encoder in encoders or config.encoder}
    folder = slides_dir or Path(config.slides_dir or described.slides_dir or f"data/{name}")
    wanted = Wanted(_tilings(config, entries), config.tile, config.features.max_corrupt, tissue)
    masks = locate_masks(rows, folder, described)
    drawn = {slide: Drawn(**files, frame=described.geojson_frame) for slide, files in masks.items()}
    slides = _look_at_all(
        [(row, locate(row, folder, described), drawn.get(row.slide, Drawn())) for row in rows],
        wanted,
        threads,
    )
    found = [_encoder(encoder, entry, slides, config) for encoder, entry in entries.items()]
    results = Path("results") / name
    usable = [slide for slide in slides if slide.state == "ok"]
    tile_px, target_mpp = wanted.tilings[0]
    names = [tiling_name(*tiling) for tiling in wanted.tilings]
    diagnosis = Diagnosis(
        dataset=name,
        slides_dir=str(folder),
        results_dir=str(results),
        free_bytes=_free(results),
        tissue=tissue,
        slides=slides,
        encoders=found,
        tiles={
            tiling: sum(slide.tilings[tiling].num_tiles for slide in usable) for tiling in names
        },
        how_to_get=" ".join(described.get.split()),
        rates=measure(usable, tile_px, tiling_name(tile_px, target_mpp)),
    )
    if json is not None:
        write_json(json, diagnosis.as_json())
    return diagnosis


def _tilings(config: Config, entries: dict[str, EncoderConfig]) -> tuple[tuple[int, float], ...]:
    """Each size and resolution of tiles that a run will make, once."""
    return tuple(dict.fromkeys(_tiling(config, entry) for entry in entries.values()))


def _tiling(config: Config, entry: EncoderConfig) -> tuple[int, float]:
    return config.tile.size_px or entry.tile_px, config.tile.mpp or entry.mpp


def _look_at_all(
    slides: Sequence[tuple[Slide, Path, Drawn]], wanted: Wanted, threads: int
) -> list[SlideFinding]:
    """All slides in the order of the table; no more than `threads` are open at once."""
    with (
        ThreadPoolExecutor(threads) as pool,
        progress("looking at slides", len(slides), "slides") as advance,
    ):
        futures = [pool.submit(look, row, file, wanted, drawn) for row, file, drawn in slides]
        try:
            for _ in as_completed(futures):
                advance(1)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _encoder(
    encoder: str, entry: EncoderConfig, slides: Sequence[SlideFinding], config: Config
) -> EncoderFinding:
    tiling = tiling_name(*_tiling(config, entry))
    row = entry.dim * (2 if config.features.dtype == "float16" else 4) + ROW_BYTES
    bags = {
        s.slide: s.tilings[tiling].num_tiles * row + FILE_BYTES for s in slides if s.state == "ok"
    }
    largest = max(bags, key=lambda slide: bags[slide], default="")
    weights = weights_status(encoder, entry)
    return EncoderFinding(
        encoder=encoder,
        tiling=tiling,
        dim=entry.dim,
        licence=entry.licence,
        weights=weights.status,
        weights_ok=weights.available,
        detail=weights.message,
        bags_bytes=sum(bags.values()),
        largest_bag_bytes=bags.get(largest, 0),
        largest_bag_slide=largest,
    )


def _free(folder: Path) -> int:
    """Bytes free where a folder is or will be."""
    folder = folder.absolute()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(os.fspath(there)).free
