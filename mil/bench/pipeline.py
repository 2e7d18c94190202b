"""`mil bench pipeline`: eight slides to heatmaps, beside one script over other packages."""

import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import NamedTuple

from mil.bench.results_table import BenchmarkTable, Row
from mil.config import DEFAULT_ENCODER, load_encoder
from mil.config.base import SHIPPED
from mil.demo.stage import make
from mil.encoders.weights import weights_path
from mil.errors import MilError
from mil.io.atomic import write_text
from mil.io.tables import Slide, read_dataset, write_csv

DATASET = "eight"
YAML = "classes: [normal, tumour]\npositive: tumour\n"
# Slides of each label that are taken from each split of the demo data.
SLIDES_OF_A_LABEL = {"train": 2, "val": 1, "test": 1}
# Packages of the other script, by the names that it imports.
RIVALS = ("hs2p", "torchmil")
NOTE = (
    "processor: core-seconds of all processes together, the least of the repeats, in turns. mil: "
    "snakemake --until heatmap: tile (with its quality columns and pictures), features, split, "
    "train (train: auto, five restarts), score, heatmap. rival: one process; hs2p, timm in "
    "float32, ABMIL of torchmil trained once for 50 epochs, a picture for each slide."
)


class Usage(NamedTuple):
    """Time that a command took, seconds.

    Attributes:
        processor: Of all cores together, and of all its processes.
        clock: From its start to its end.
    """

    processor: float
    clock: float


def run(*, cores: int, repeats: int) -> BenchmarkTable:
    """Time both ways from slides to heatmaps.

    Args:
        cores: Cores that each may use.
        repeats: Number of runs of each.

    Raises:
        MilError: A package of the rival is not installed, or a run failed.
    """
    missing = [name for name in RIVALS if find_spec(name) is None]
    if missing:
        raise MilError(
            f"mil bench pipeline compares with {' and '.join(missing)}, not installed here; "
            "install the extra: pip install -e '.[rival]'"
        )
    usages: dict[str, list[Usage]] = {"mil": [], "rival": []}
    pictures = {}
    with TemporaryDirectory() as name:
        slides = Path(name) / "slides"
        rows = make_study(slides)
        for number in range(repeats):
            folder = Path(name) / f"run{number}"
            usages["mil"].append(_run_mil(folder, slides, cores))
            usages["rival"].append(_run_rival(folder, rows, cores))
            pictures["mil"] = len(list(folder.glob(f"results/{DATASET}/heatmap/**/*.png")))
            pictures["rival"] = len(list(folder.glob("rival/*.png")))
    table = [_row(way, runs, pictures[way]) for way, runs in usages.items()]
    return BenchmarkTable(f"mil bench pipeline, {len(rows)} slides, {cores} cores", table, NOTE)


def make_study(folder: Path) -> list[Slide]:
    """Write eight slides of the demo data, and return their rows with paths of the files."""
    _, table = read_dataset("demo")
    rows = []
    for split, number in SLIDES_OF_A_LABEL.items():
        for label in ("normal", "tumour"):
            members = [row for row in table if (row.split, row.label) == (split, label)]
            rows += members[:number]
    for row in rows:
        make(row.path, folder / row.path)
    return [replace(row, path=str(folder / row.path)) for row in rows]


def _run_mil(folder: Path, slides: Path, cores: int) -> Usage:
    snakefile = SHIPPED / "Snakefile"
    if not snakefile.is_file():
        raise MilError(f"{snakefile}: no such file; run mil bench pipeline from a source checkout")
    datasets = folder / "configs" / "datasets"
    write_text(datasets / f"{DATASET}.yaml", YAML)
    _, table = read_dataset("demo")
    rows = [
        {"slide": row.slide, "patient": row.patient, "path": row.path, "label": row.label}
        | {"split": row.split}
        for row in table
        if (slides / row.path).is_file()
    ]
    write_csv(datasets / f"{DATASET}.csv", rows)
    settings = (f"dataset={DATASET}", "head=abmil", f"slides_dir={slides}")
    return measure(
        [
            *(sys.executable, "-m", "snakemake", "-s", str(snakefile), "--cores", str(cores)),
            *("--until", "heatmap", "--config", *settings),
        ],
        folder,
        # The jobs' `mil` is the one beside this Python.
        {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"},
    )


def _run_rival(folder: Path, rows: Sequence[Slide], cores: int) -> Usage:
    columns = ("slide", "path", "label", "split")
    write_csv(
        folder / "rival.csv",
        [{name: getattr(row, name) for name in columns} for row in rows],
    )
    weights = weights_path(DEFAULT_ENCODER, load_encoder(DEFAULT_ENCODER).weights)
    program = [sys.executable, "-m", "mil.bench.pipeline_rival"]
    threads = {"OMP_NUM_THREADS": str(cores)}
    return measure([*program, str(weights), "rival.csv", "rival"], folder, threads)


def measure(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Usage:
    """Time that a command takes, with all processes that it waits for.

    Args:
        command: Program and arguments.
        folder: Folder to run it in.
        environment: Variables besides those of this process.

    Raises:
        MilError: The command failed.
    """
    before = _processor_of_children()
    began = perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    clock = perf_counter() - began
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        shown = " ".join(command[:4])
        raise MilError(f"mil bench: {shown} failed: {lines[-1] if lines else 'no message'}")
    return Usage(_processor_of_children() - before, clock)


def _processor_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _row(way: str, usages: Sequence[Usage], pictures: int) -> Row:
    least = min(usages)
    return {
        "way": way,
        "processor_s": least.processor,
        "clock_s": least.clock,
        "heatmaps": pictures,
    }
