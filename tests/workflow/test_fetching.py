"""CAMELYON16 in one command, against a public bucket on the loopback interface.

The bucket has the layout of the real one; its slides are those of the demo in its smallest form.
"""

import csv
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mil.config.base import SHIPPED
from mil.fetch.download import READ_BYTES
from mil.fetch.stage import run
from tests.fetch.s3 import Line, bucket_with, environment, line_to
from tests.workflow.conftest import SNAKEMAKE

# Slides of CAMELYON16's subset `mini`, and the demo's slides of the same label and split.
SLIDES = {
    "normal_001": "mini_05",
    "normal_021": "mini_08",
    "tumor_002": "mini_01",
    "tumor_003": "mini_02",
    "normal_102": "mini_03",
    "tumor_071": "mini_07",
    "test_001": "mini_06",
    "test_003": "mini_04",
}
ANNOTATED = ("tumor_002", "tumor_003", "tumor_071", "test_001")
ABSENT = "tumor_072"
FOLDER = "224px_0.5mpp/efficientnet_lite0"
CONFIG = ("--config", "dataset=camelyon16", "subset=mini", "heatmap={slides: test}")
STREAMING = "fetch={keep: false, slots: 1}"
PREFIX = "CAMELYON16"
QUICK = "name: mean\nlosses: {cross_entropy: 1.0}\ntrain: {epochs: 2}\n"


@dataclass
class Bucket:
    """The bucket, and the line that leads to it."""

    files: dict[str, bytes]
    endpoint: str
    line: Line

    @property
    def slides(self) -> list[str]:
        return [key for key in self.files if key.startswith(f"{PREFIX}/images/")]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory) -> Iterator[Bucket]:
    folder = tmp_path_factory.mktemp("drawn")
    files = {}
    for name, drawn in SLIDES.items():
        run(f"demo:{drawn}.tif", folder / f"{drawn}.tif")
        files[f"{PREFIX}/images/{name}.tif"] = (folder / f"{drawn}.tif").read_bytes()
    for name in ANNOTATED:
        run(f"demo:{SLIDES[name]}.xml", folder / "a.xml")
        files[f"{PREFIX}/annotations/{name}.xml"] = (folder / "a.xml").read_bytes()
    # What lies beside the slides, and is called like them.
    files[f"{PREFIX}/masks/normal_001_mask.tif"] = b"mask"
    with bucket_with("camelyon-dataset", files) as server, line_to(server) as (endpoint, line):
        yield Bucket(files, endpoint, line)


def new_folder(folder: Path, *further: str) -> Path:
    """A folder whose subset `mini` has the rows of the slides that the bucket has."""
    datasets = SHIPPED / "configs/datasets"
    (folder / "configs/datasets").mkdir(parents=True)
    for name in ("camelyon16.yaml", "camelyon16_mini.yaml"):
        (folder / "configs/datasets" / name).write_bytes((datasets / name).read_bytes())
    with (datasets / "camelyon16_mini.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "configs/datasets/camelyon16_mini.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row for row in rows if row["slide"] in {*SLIDES, *further})
    (folder / "configs/heads").mkdir()
    (folder / "configs/heads/quick.yaml").write_text(QUICK)
    return folder


def snakemake(folder: Path, bucket: Bucket, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [*SNAKEMAKE, *arguments],
        cwd=folder,
        env={**environment(bucket.endpoint), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,  # seconds: of a run that hangs
    )
    return done.returncode, done.stdout + done.stderr


def bags(folder: Path) -> dict[str, bytes]:
    """Tiles and bags of a run, by slide."""
    results = folder / "results/camelyon16_mini"
    files = [
        *results.glob("tile/224px_0.5mpp/*.h5"),
        *results.glob("tile/224px_0.5mpp/*.jpg"),
        *results.glob(f"features/{FOLDER}/*.h5"),
    ]
    return {str(file.relative_to(results)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def whole(bucket, tmp_path_factory) -> tuple[Path, str]:
    """A run from an empty folder to its report, over a line that is cut twice."""
    folder = new_folder(tmp_path_factory.mktemp("whole"))
    bucket.line.forget()
    bucket.line.cuts += [200_000, 300_000]
    code, output = snakemake(folder, bucket, *CONFIG, "head=quick")
    assert code == 0, output
    return folder, output


@pytest.mark.slow
def test_from_an_empty_folder_to_heatmaps(bucket, whole):
    folder, output = whole
    total = sum(len(content) for key, content in bucket.files.items() if "mask" not in key)
    assert f"fetch: 12 files to download, {total / 1e6:.1f} MB; " in output
    assert "8 in, 8 out" in output
    for key in bucket.files:
        file = folder / "data/camelyon16" / key.removeprefix(f"{PREFIX}/")
        assert ("mask" in key) != file.exists()
        if file.exists():
            assert file.read_bytes() == bucket.files[key]
    results = folder / "results/camelyon16_mini"
    metrics = json.loads((results / f"evaluate/{FOLDER}/quick/metrics.json").read_text())
    assert 0 <= metrics["test"]["auroc"]["value"] <= 1
    for slide in ("test_001", "test_003"):
        assert (results / f"heatmap/{FOLDER}/quick/{slide}.png").stat().st_size > 0
    assert (results / "report.html").exists()


@pytest.mark.slow
def test_what_was_fetched_before_a_cut_is_not_fetched_again(bucket, whole):
    cuts = [text for text in bucket.line.gets("images/") if "bytes=" in text]
    assert len(bucket.line.gets("images/")) == len(SLIDES) + 2
    assert len(cuts) == 2
    total = sum(len(content) for key, content in bucket.files.items() if "mask" not in key)
    assert total <= bucket.line.sent <= total + 2 * READ_BYTES


@pytest.mark.slow
def test_streamed(bucket, whole, tmp_path):
    """The same bags, one slide on the disk at a time; a slide that the bucket lacks is one line."""
    folder = new_folder(tmp_path / "streamed", ABSENT)
    slides = folder / "data/camelyon16"
    most = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.002):
            # Unlike `rglob`, it passes over folders that are removed meanwhile.
            names = [name for _, _, names in os.walk(slides) for name in names]
            most = max(most, sum(name.endswith(".tif") for name in names))

    watching = threading.Thread(target=watch)
    watching.start()
    bucket.line.forget()
    bucket.line.cuts += [200_000, 300_000]
    # Two jobs, which share the slot.
    arguments = (*CONFIG, STREAMING, "slides_per_job={features: 5}", "head=quick")
    code, output = snakemake(folder, bucket, *arguments, "--until", "stream", "--keep-going")
    ended.set()
    watching.join()
    # Its job fails, and no other.
    assert code == 1
    lines = [line for line in output.splitlines() if ABSENT in line and "404" in line]
    assert any(line.startswith(f"fetch {ABSENT}.tif: s3://") for line in lines)
    assert any(
        re.match(r"stream \dof\d failed: mil: stream: 1 of \d slides", line) for line in lines
    )
    assert most == 1
    assert list(slides.rglob("*.tif")) == []
    assert bags(folder) == bags(whole[0])
    assert len(bags(folder)) == 3 * len(SLIDES)
    new_folder(tmp_path / "rows")
    table = "configs/datasets/camelyon16_mini.csv"
    (tmp_path / "rows" / table).replace(folder / table)
    # Without that slide: every bag is there, and no slide is fetched for another head.
    bucket.line.forget()
    code, output = snakemake(folder, bucket, *arguments, "--until", "stream")
    assert code == 0, output
    logs = [log.read_text() for log in folder.glob("logs/*/stream/*.log")]
    assert any("slides are current" in log for log in logs)
    assert bucket.line.gets("images/") == []
    for config in ((*CONFIG, STREAMING), CONFIG):
        code, output = snakemake(
            folder, bucket, *config, "slides_per_job={features: 5}", "head=max", "-n", "-p"
        )
        assert code == 0, output
        assert "rule train:" in output
        assert not any(f"rule {name}:" in output for name in ("stream", "tile", "features"))
        assert "images/" not in output
