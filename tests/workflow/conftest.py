"""A toy study whose `mil` only touches its output files, so that plans are tested in seconds."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SNAKEMAKE = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "2"]

# Finds --out among its arguments and makes what that command makes; a card goes into
# the folders it is given.
FAKE_MIL = """#!/bin/bash
stage=$1; out=; outs=(); scores=; seeds=(); folds=()
if [ "$stage $2" = "heads card" ]; then
  shift 2; while [ "${1:0:2}" != "--" ]; do echo x > "$1/MODEL_CARD.md"; shift; done; exit
fi
while [ $# -gt 0 ]; do
  case "$1" in
    --out) out=$2; outs+=("$2"); shift;;
    --out=*) out=${1#--out=};;
    --scores) scores=$2;;
    --seed) seeds+=("$2");;
    --fold) folds+=("$2");;
  esac
  shift
done
case $stage in
  score) if [ -n "$scores" ]; then mkdir -p "$scores"; fi
    for out in "${outs[@]}"; do echo x > "$out"; done;;
  features) for out in "${outs[@]}"; do echo x > "$out"; done;;
  tile) for e in h5 geojson jpg; do echo x > "${out%.h5}.$e"; done
    echo x > "$(dirname "$out")/grid/$(basename "${out%.h5}").jpg";;
  train) for seed in "${seeds[@]}"; do for fold in "${folds[@]}"; do
      folder=${out//"{seed}"/$seed}; folder=${folder//"{fold}"/$fold}
      for f in head.safetensors last.safetensors recipe.json history.json; do
        if [ ! -e "$folder/$f" ]; then echo x > "$folder/$f"; fi
      done
    done; done;;
  evaluate) for f in predictions.csv predictions_patients.csv metrics.json; do
      echo x > "$out/$f"
    done;;
  compare) for e in json csv md tex; do echo x > "$out/comparison.$e"; done;;
  heatmap) for e in png geojson csv; do echo x > "${out%.png}.$e"; done;;
  summary) echo "3 in, 3 out";;
  *) echo x > "$out";;
esac
"""


@dataclass
class Study:
    """A folder with a dataset called `toy`, and snakemake in it."""

    folder: Path
    path: str

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*SNAKEMAKE, *arguments]
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
        done = self.snakemake("-n", "--config", "dataset=toy", *config)
        assert done.returncode == 0, done.stdout + done.stderr
        lines = (done.stdout + done.stderr).splitlines()
        if "Job stats:" not in lines:
            return {}
        rows = [line.split() for line in lines[lines.index("Job stats:") + 3 :]]
        table = rows[: next(i for i, row in enumerate(rows) if row[:1] == ["total"])]
        return {name: int(count) for name, count in table if name != "all"}

    def write_table(self, slides: dict[str, str]) -> None:
        rows = "".join(f"{name},{name}.tif,{label}\n" for name, label in slides.items())
        (self.folder / "configs/datasets/toy.csv").write_text("slide,path,label\n" + rows)
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
    assert "3 in, 3 out" in done.stdout
    return study.folder


@pytest.fixture
def finished(finished_once: Path, tmp_path: Path) -> Study:
    """A finished study of the test's own: a copy, times and Snakemake's records included."""
    shutil.copytree(finished_once, tmp_path / "study", symlinks=True)
    return study_in(tmp_path / "study")
