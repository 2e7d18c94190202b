"""Dataset in, diagnosis out; no file is written but the JSON that was asked for."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from mil.config import config_path, dataset_path, load_config, read_yaml, tiling_name
from mil.doctor.diagnosis import Diagnosis
from mil.doctor.encoders import (
    distinct_encoders,
    encoder_groups,
    inspect_encoder,
    inspect_joined,
)
from mil.doctor.faults import free_bytes, table_faults
from mil.doctor.findings import SlideFinding
from mil.doctor.inspect import inspect_slide
from mil.doctor.requirements import Requirements
from mil.doctor.slide_encoders import inspect_slide_encoders
from mil.doctor.slide_files import SlideFiles, slide_files
from mil.doctor.throughput import measure
from mil.io.atomic import write_json
from mil.io.tables import read_dataset
from mil.io.tables.slides import table_notes
from mil.progress import progress


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
    groups = encoder_groups(encoders or config.encoder, config.tile)
    each_encoder = distinct_encoders(groups)
    tilings = tuple(dict.fromkeys((one.tile_px, one.mpp) for one in each_encoder))
    # The same precedence as in `mil.plan.make.make_plan`, or the doctor would look at other
    # files than a run.
    folder = slides_dir or Path(config.slides_dir or settings.slides_dir or f"data/{name}")
    files = slide_files(rows, folder, settings)
    requirements = Requirements(tilings, config.tile, config.features.max_corrupt, tissue)
    slides = _inspect_all(files, requirements, threads)
    usable = [slide for slide in slides if slide.state == "ok"]
    results = Path("results") / name
    dtype = config.features.dtype
    diagnosis = Diagnosis(
        dataset=name,
        slides_dir=str(folder),
        results_dir=str(results),
        free_bytes=free_bytes(results),
        tissue=tissue,
        slides=slides,
        encoders=[inspect_encoder(encoder, usable, dtype) for encoder in each_encoder],
        joined=[inspect_joined(group, usable, dtype) for group in groups if len(group) > 1],
        tiles=_num_tiles(usable, tilings),
        slide_encoders=inspect_slide_encoders(slide_encoders or config.slide_encoder, config.head),
        how_to_get=" ".join(settings.get.split()),
        # After the inspection, so that no other thread reads from the disk.
        rates=measure(usable, tilings[0][0], tiling_name(*tilings[0])),
        table_notes=table_notes(dataset),
        table_faults=table_faults(files, dataset, results, config),
    )
    if json is not None:
        write_json(json, diagnosis.as_json())
    return diagnosis


def _inspect_all(
    files: Sequence[SlideFiles], requirements: Requirements, threads: int
) -> list[SlideFinding]:
    """All slides in the order of the table; at most `threads` are open at a time."""
    with (
        # An open slide takes about 0.5 GB, hence the limit.
        ThreadPoolExecutor(threads) as pool,
        progress("inspecting slides", len(files), "slides") as advance,
    ):
        futures = [
            pool.submit(
                inspect_slide, each.row, each.slide, requirements, each.masks, each.outlines
            )
            for each in files
        ]
        try:
            for _ in as_completed(futures):
                advance(1)
        # Without this, Ctrl+C would wait for all slides in the queue.
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _num_tiles(
    usable: Sequence[SlideFinding], tilings: Sequence[tuple[int, float]]
) -> dict[str, int]:
    """Number of tiles of all slides by tiling."""
    names = [tiling_name(*tiling) for tiling in tilings]
    return {name: sum(slide.tilings[name].num_tiles for slide in usable) for name in names}
