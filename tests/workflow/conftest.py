"""A toy study whose `mil` only touches its output files, so that plans are tested in seconds."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The slides a, b, c and d are then parts of their own.
ONE_SLIDE_PER_JOB = "slides_per_job={tile: 1, features: 1, score: 1, heatmap: 1}"
SNAKEMAKE = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "2"]

# Makes the files that the command named by its arguments makes. The slides of a part are
# those of the real one, and of them, too, only what is lacking is made.
FAKE_MIL = """#!/usr/bin/python3 -S
import csv, sys
from pathlib import Path
from zlib import crc32

def touch(path, keep=False):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not (keep and path.exists()):
        path.write_text("x")

stage, *arguments = sys.argv[1:]
options = {}
for flag, value in zip(arguments, arguments[1:]):
    if flag.startswith("--"):
        options.setdefault(flag.partition("=")[0], []).append(flag.partition("=")[2] or value)
first = {flag: values[0] for flag, values in options.items()}
SUFFIXES = {
    "tile": (".h5", ".geojson", ".jpg"), "features": (".h5",), "score": (".h5",),
    "heatmap": (".png", ".geojson", ".csv", ".tiles.jpg"), "refine": (".png", ".csv"),
    "embed": (".h5",), "join": (".h5",),
}
FOLDERS = {
    "tile": "--out-dir", "features": "--bags", "score": "--scores", "heatmap": "--out-dir",
    "refine": "--out-dir", "embed": "--vectors", "join": "--out",
}
if arguments[:1] == ["join"]:
    stage = "join"
if "--table" in options:
    number, parts = map(int, first["--part"].split("of"))
    with open("configs/datasets/toy.csv") as file:
        slides = [row["slide"] for row in csv.DictReader(file)]
    mine = [slide for slide in slides if (crc32(slide.encode()) >> 12) % parts + 1 == number]
    for folder, table in zip(options[FOLDERS[stage]], options["--table"]):
        for slide in mine:
            for suffix in SUFFIXES[stage]:
                touch(f"{folder}/{slide}{suffix}", keep=True)
        Path(table).parent.mkdir(exist_ok=True)
        rows = "".join(f"{slide},x\\n" for slide in mine)
        Path(table).write_text("slide,made_from\\n" + rows)
elif stage == "bags":
    folder = Path(first["--bags"])
    bags = [f"{path.stem},{path.stat().st_mtime_ns}" for path in sorted(folder.glob("*.h5"))]
    Path(first["--out"]).write_text("\\n".join(["slide,digest", *bags]))
elif stage == "heads":
    for folder in arguments[1:]:
        if folder.startswith("--"):
            break
        touch(f"{folder}/MODEL_CARD.md")
elif stage == "train":
    for seed in options["--seed"]:
        for fold in options["--fold"]:
            folder = first["--out"].replace("{seed}", seed).replace("{fold}", fold)
            for name in ("head.safetensors", "last.safetensors", "recipe.json", "history.json"):
                touch(f"{folder}/{name}", keep=True)
elif stage == "fewshot":
    for suffix in ("csv", "svg"):
        touch(f"{first['--out']}/fewshot.{suffix}")
elif stage in ("evaluate", "baseline"):
    for name in ("predictions.csv", "predictions_patients.csv", "metrics.json"):
        touch(f"{first['--out']}/{name}")
elif stage == "compare":
    for suffix in ("json", "csv", "md", "tex"):
        touch(f"{first['--out']}/comparison.{suffix}")
elif stage == "score":
    Path(first["--scores"]).mkdir(parents=True, exist_ok=True)
elif stage == "summary":
    print("3 in, 3 out")
else:
    touch(first["--out"])
    if "--settings" in first:
        Path(first["--config"]).write_text(first["--settings"])
"""


@dataclass
class Study:
    """A folder with a dataset called `toy`, and snakemake in it."""

    folder: Path
    path: str

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*SNAKEMAKE, *arguments]
        if "--config" in arguments and not any("slides_per_job" in word for word in arguments):
            command.append(ONE_SLIDE_PER_JOB)
        # Most tests are of other jobs.
        if "--config" in arguments and not any("baseline" in word for word in arguments):
            command.append("baseline=none")
        environment = {**os.environ, "PATH": self.path, "COLUMNS": "200"}
        return subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,  # seconds; a score job of each slide imports torch
        )

    def planned(self, *config: str) -> dict[str, int]:
        """Number of jobs of each rule that a dry run plans."""
        return self.planned_and_shown(*config)[0]

    def planned_and_shown(self, *config: str) -> tuple[dict[str, int], str]:
        """Those numbers, and the dry run's output with the jobs' commands."""
        done = self.snakemake("-n", "-p", "--config", "dataset=toy", *config)
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        lines = output.splitlines()
        if "Job stats:" not in lines:
            return {}, output
        rows = [line.split() for line in lines[lines.index("Job stats:") + 3 :]]
        table = rows[: next(i for i, row in enumerate(rows) if row[:1] == ["total"])]
        return {name: int(count) for name, count in table if name != "all"}, output

    def write_table(self, slides: dict[str, str]) -> None:
        # So few slides cannot be divided: the table names the splits of one fold.
        rows = "".join(
            f"{name},{name}.tif,{label},{'val' if number == 1 else 'train'}\n"
            for number, (name, label) in enumerate(slides.items())
        )
        (self.folder / "configs/datasets/toy.csv").write_text("slide,path,label,split\n" + rows)
        for name in slides:
            file = self.folder / f"data/toy/{name}.tif"
            if not file.exists():
                file.write_text("a slide")


def study_in(folder: Path) -> Study:
    """A study with the fake `mil` of its own folder before the real one."""
    return Study(folder, f"{folder / 'bin'}:{os.environ['PATH']}")


def new_study(folder: Path) -> Study:
    """Three slides, none of them tiled yet."""
    (folder / "bin").mkdir()
    fake = folder / "bin/mil"
    fake.write_text(FAKE_MIL)
    fake.chmod(0o755)
    (folder / "configs/datasets").mkdir(parents=True)
    (folder / "configs/datasets/toy.yaml").write_text("classes: [normal, tumour]\n")
    (folder / "data/toy").mkdir(parents=True)
    study = study_in(folder)
    study.write_table({"a": "normal", "b": "tumour", "c": "tumour"})
    return study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return new_study(tmp_path)


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that has run to its end, with one head; not to be changed."""
    study = new_study(tmp_path_factory.mktemp("finished"))
    done = study.snakemake("--config", "dataset=toy", "head=abmil")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 in, 3 out" in done.stderr
    return study.folder


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Study:
    """A finished study of the test's own: a copy, times and Snakemake's records included."""
    shutil.copytree(finished_once, tmp_path / "study", symlinks=True)
    return study_in(tmp_path / "study")
