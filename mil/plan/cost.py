"""`mil plan DATASET --cost`: hours, disk, download and price of a run, each with its source.

A number that nobody measured or stated is unknown, and so is all that depends on it.
"""

from collections.abc import Sequence

from mil.config import (
    config_path,
    dataset_path,
    load_config,
    load_encoders,
    read_yaml,
)
from mil.config.joined import tiled_encoders
from mil.config.machines import load_machine
from mil.errors import ConfigError
from mil.io.tables import read_dataset
from mil.plan.bench_files import with_bench_files
from mil.plan.cost_facts import CostOptions, CostStudy, read_doctor
from mil.plan.cost_lines import CostLine, encoder_lines, joined_line, slide_lines


def cost_table(dataset: str, options: CostOptions) -> str:
    """Table of the costs of a run.

    Args:
        dataset: Name of the dataset, or its yaml.
        options: Options of the command.

    Raises:
        MilError: A name or a file is wrong.
    """
    if not options.machine and not options.bench:
        raise ConfigError(
            "mil plan --cost: needs the rates of a machine: --machine NAME (a yaml in "
            "configs/machines), or --bench FILE of `mil bench features --json` and "
            "`mil bench tile --json`"
        )
    config = load_config(read_yaml(config_path("config.yaml")))
    settings, rows = read_dataset(dataset)
    machine = load_machine(options.machine) if options.machine else None
    study = CostStudy(
        config=config,
        dataset=settings,
        rows=rows,
        machine=with_bench_files(machine, options.bench),
        doctor=[] if options.doctor is None else read_doctor(options.doctor),
        options=options,
        name=dataset_path(dataset).stem,
    )
    entries = load_encoders()
    tiled = [
        tiled_encoders(name, config.tile, entries) for name in options.encoders or config.encoder
    ]
    lines = list(slide_lines(study))
    # Joined encoders share their bags with those of the run that are alone.
    each = {(one.name, one.tiling): one for of_name in tiled for one in of_name}
    names = [name for name, _ in each]
    for encoder in each.values():
        lines += encoder_lines(study, encoder, named_once=names.count(encoder.name) == 1)
    lines += [joined_line(study, of_name) for of_name in tiled if len(of_name) > 1]
    title = f"mil plan --cost: {study.name} on {study.machine.title}"
    return "\n".join([title, *_printed(lines), *_notes(study, names)])


def _printed(lines: Sequence[CostLine]) -> list[str]:
    cells = [(line.name, _number(line), line.figure.source) for line in lines]
    name_width = max(len(name) for name, _, _ in cells)
    number_width = max(len(number) for _, number, _ in cells)
    return [
        f"{name:<{name_width}}  {number:>{number_width}}  {source}"
        for name, number, source in cells
    ]


def _number(line: CostLine) -> str:
    value = line.figure.value
    if value is None:
        return "unknown"
    text = f"{value:.0f}" if value >= 1000 or float(value).is_integer() else f"{value:.3g}"
    return f"{text} {line.unit}".rstrip()


def _notes(study: CostStudy, names: Sequence[str]) -> list[str]:
    machine = study.machine
    rates = {
        "tile_core_s": machine.tile_core_s,
        "read_tiles_per_s": machine.read_tiles_per_s,
        "download_mb_per_s": machine.download_mb_per_s,
        "price_core_hour": machine.price_core_hour,
        "price_gpu_hour": machine.price_gpu_hour,
        "price_egress_gb": machine.price_egress_gb,
        "price_disk_gb_month": machine.price_disk_gb_month,
    }
    named = [f"{name} {rate.value:g}: {rate.source}" for name, rate in rates.items() if rate]
    named += [
        f"tiles_per_s of {name} {rate.tiles_per_s:g} ({rate.device}): {rate.source}"
        for name, rate in machine.encoders.items()
        if name in names
    ]
    return [
        "rates:",
        *(f"  {line}" for line in named),
        "not counted: training, scores, heatmaps, start-up of jobs",
    ]
