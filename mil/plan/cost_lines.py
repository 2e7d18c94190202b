"""Rows of an estimate of costs; the formulas stand beside the numbers that they give."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mil.config.joined import EncoderAt, TiledEncoder, name_of_tiled
from mil.config.machines import MachineConfig
from mil.plan.cost_facts import GB, CostStudy, num_tiles, slide_bytes
from mil.plan.figures import Figure, computed, rate_figure

# A tile's row in the bag besides its features, and an HDF5 file without tiles, bytes.
ROW_BYTES = 9
FILE_BYTES = 8192


class CostLine(NamedTuple):
    """A row of the table: what, the number with its unit, and its source."""

    name: str
    figure: Figure
    unit: str


def slide_lines(study: CostStudy) -> Iterator[CostLine]:
    """Rows that do not depend on the encoder."""
    machine = study.machine
    size = slide_bytes(study)
    gigabytes = computed(size.source, lambda size: size / GB, size)
    speed = rate_figure(machine.download_mb_per_s, "download_mb_per_s of the machine")
    tile_s = rate_figure(machine.tile_core_s, "tile_core_s of the machine (mil bench tile)")
    price = rate_figure(machine.price_egress_gb, "price_egress_gb of the machine")
    month = rate_figure(machine.price_disk_gb_month, "price_disk_gb_month of the machine")
    yield CostLine("slides", study.num_slides, "")
    yield CostLine("slides, size", gigabytes, "GB")
    yield CostLine(
        "download",
        computed("size / download_mb_per_s", lambda a, b: a * 1000 / b / 3600, gigabytes, speed),
        "h",
    )
    yield CostLine(
        "egress", computed("size × price_egress_gb", _product, gigabytes, price), machine.currency
    )
    yield CostLine(
        "slides on disk",
        computed("size × price_disk_gb_month", _product, gigabytes, month),
        f"{machine.currency} a month".strip(),
    )
    yield CostLine(
        "tile", computed("slides × tile_core_s", _hours, study.num_slides, tile_s), "core h"
    )


def _product(a: float, b: float) -> float:
    return a * b


def _hours(number: float, seconds: float) -> float:
    return number * seconds / 3600


def encoder_lines(
    study: CostStudy, encoder: TiledEncoder, *, named_once: bool = True
) -> Iterator[CostLine]:
    """Rows of one encoder.

    Args:
        study: Facts of the study.
        encoder: The encoder with its tiles.
        named_once: Whether the name alone tells it apart from the others of the run.
    """
    machine = study.machine
    tiling = encoder.tiling
    name = encoder.name if named_once else str(EncoderAt(encoder.name, encoder.mpp))
    tiles = num_tiles(study, tiling)
    rate = machine.encoders.get(encoder.name)
    lacking = f"rate of {encoder.name} on the machine (mil bench features --encoder {encoder.name})"
    encoder_rate = Figure(rate.tiles_per_s, rate.source) if rate else Figure(None, lacking)
    read_rate = rate_figure(
        machine.read_tiles_per_s, "read_tiles_per_s of the machine (mil bench features)"
    )
    on_gpu = rate is not None and rate.device == "gpu"
    read = computed("tiles / read_tiles_per_s", _seconds_to_hours, tiles, read_rate)
    encode = computed("tiles / tiles_per_s", _seconds_to_hours, tiles, encoder_rate)
    tile_s = rate_figure(machine.tile_core_s, "tile_core_s of the machine (mil bench tile)")
    tile_hours = computed("slides × tile_core_s", _hours, study.num_slides, tile_s)
    yield CostLine(f"{name}: tiles of {tiling}", tiles, "")
    yield CostLine(f"{name}: read", read, "core h")
    yield CostLine(f"{name}: encode", encode, "GPU h" if on_gpu else "core h")
    yield CostLine(f"{name}: bags on disk", _bag_gb(study, encoder.entry.dim, tiles), "GB")
    yield CostLine(
        f"{name}: tile and features", _wall(machine, tile_hours, read, encode, on_gpu), "h"
    )
    yield CostLine(
        f"{name}: price of computing",
        _price(machine, tile_hours, read, encode, on_gpu),
        machine.currency,
    )


def _seconds_to_hours(number: float, per_second: float) -> float:
    return number / per_second / 3600


def joined_line(study: CostStudy, encoders: Sequence[TiledEncoder]) -> CostLine:
    """Row of joined encoders: their bags have the tiles of the first and all features.

    Args:
        study: Facts of the study.
        encoders: The encoders, that of the bags' tiles first.
    """
    tiles = num_tiles(study, encoders[0].tiling)
    dim = sum(encoder.entry.dim for encoder in encoders)
    return CostLine(f"{name_of_tiled(encoders)}: bags on disk", _bag_gb(study, dim, tiles), "GB")


def _bag_gb(study: CostStudy, dim: int, tiles: Figure) -> Figure:
    value_bytes = 2 if study.config.features.dtype == "float16" else 4
    row_bytes = dim * value_bytes + ROW_BYTES
    return computed(
        f"tiles × ({dim} × {value_bytes} + {ROW_BYTES}) bytes + slides × {FILE_BYTES}",
        lambda tiles, slides: (tiles * row_bytes + slides * FILE_BYTES) / GB,
        tiles,
        study.num_slides,
    )


def _wall(
    machine: MachineConfig, tile: Figure, read: Figure, encode: Figure, on_gpu: bool
) -> Figure:
    """Hours from start to end, if every core and GPU is busy."""
    cores = machine.cores
    if not on_gpu:
        return computed(
            f"(tile + read + encode) / {cores} cores",
            lambda tile, read, encode: (tile + read + encode) / cores,
            tile,
            read,
            encode,
        )
    gpus = max(machine.gpus, 1)
    return computed(
        f"tile / {cores} cores + the longer of read / {cores} cores and encode / {gpus} GPUs",
        lambda tile, read, encode: tile / cores + max(read / cores, encode / gpus),
        tile,
        read,
        encode,
    )


def _price(
    machine: MachineConfig, tile: Figure, read: Figure, encode: Figure, on_gpu: bool
) -> Figure:
    core = rate_figure(machine.price_core_hour, "price_core_hour of the machine")
    if not on_gpu:
        return computed(
            "(tile + read + encode) × price_core_hour",
            lambda tile, read, encode, core: (tile + read + encode) * core,
            tile,
            read,
            encode,
            core,
        )
    gpu = rate_figure(machine.price_gpu_hour, "price_gpu_hour of the machine")
    return computed(
        "(tile + read) × price_core_hour + encode × price_gpu_hour",
        lambda tile, read, encode, core, gpu: (tile + read) * core + encode * gpu,
        tile,
        read,
        encode,
        core,
        gpu,
    )
