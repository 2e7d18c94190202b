"""`mil plan DATASET --cost`: hand-computed numbers, and unknown ones that stay unknown."""

import json

import pytest
import yaml

from mil.errors import MilError
from mil.plan.bench_files import with_bench_files
from mil.plan.cost import cost_table
from mil.plan.cost_facts import CostOptions, read_doctor

MACHINE = {
    "title": "a rented machine",
    "cores": 8,
    "gpus": 2,
    "tile_core_s": {"value": 36, "source": "measured"},
    "read_tiles_per_s": {"value": 100, "source": "measured"},
    "encoders": {
        "uni": {"device": "gpu", "tiles_per_s": 250, "source": "measured"},
        "resnet18": {"device": "cpu", "tiles_per_s": 10, "source": "measured"},
    },
    "download_mb_per_s": {"value": 50, "source": "offer"},
    "currency": "EUR",
    "price_core_hour": {"value": 0.05, "source": "offer"},
    "price_gpu_hour": {"value": 2, "source": "offer"},
    "price_egress_gb": {"value": 0.09, "source": "offer"},
    "price_disk_gb_month": {"value": 0.02, "source": "offer"},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A dataset of 100 slides of 360 GB, and a machine."""
    monkeypatch.chdir(tmp_path)
    datasets = tmp_path / "configs/datasets"
    datasets.mkdir(parents=True)
    rows = "".join(f"s{number},{'ab'[number % 2]}\n" for number in range(100))
    (datasets / "mine.csv").write_text("slide,label\n" + rows)
    (datasets / "mine.yaml").write_text("classes: [a, b]\nsize: about 360 GB in all\n")
    write_machine(tmp_path, MACHINE)
    return tmp_path


def write_machine(folder, content):
    (folder / "rented.yaml").write_text(yaml.safe_dump(content))


def numbers(text):
    """The number of each row, by its name."""
    table = text.partition("rates:")[0].splitlines()[1:]
    cells = [[cell for cell in line.split("  ") if cell] for line in table]
    return {name: number.strip() for name, number, *_ in cells}


def table(**options):
    return cost_table("mine", CostOptions(machine="rented.yaml", **options))


def test_every_number_follows_from_its_formula(folder):
    text = table(encoders=["uni", "resnet18"], tiles=9000)
    found = numbers(text)
    assert found["slides, size"] == "360 GB"
    assert found["download"] == "2 h"  # 360 000 MB at 50 MB/s are 7200 s
    assert found["egress"] == "32.4 EUR"  # 360 × 0.09
    assert found["slides on disk"] == "7.2 EUR a month"  # 360 × 0.02
    assert found["tile"] == "1 core h"  # 100 × 36 s
    assert found["uni: tiles of 224px_0.5mpp"] == "900000"
    assert found["uni: read"] == "2.5 core h"  # 900 000 / 100 per s
    assert found["uni: encode"] == "1 GPU h"  # 900 000 / 250 per s
    assert found["uni: bags on disk"] == "1.85 GB"  # 900 000 × 2057 bytes
    assert found["uni: tile and features"] == "0.625 h"  # 1 / 8 + max(2.5 / 8, 1 / 2)
    assert found["uni: price of computing"] == "2.17 EUR"  # 3.5 × 0.05 + 1 × 2
    assert found["resnet18: encode"] == "25 core h"
    assert found["resnet18: tile and features"] == "3.56 h"  # (1 + 2.5 + 25) / 8
    assert found["resnet18: price of computing"] == "1.43 EUR"  # 28.5 × 0.05
    assert "tiles_per_s of uni 250 (gpu): measured" in text


def test_what_nobody_measured_is_unknown_by_name(folder):
    text = table(encoders=["phikon"])
    found = numbers(text)
    assert found["phikon: encode"] == found["phikon: bags on disk"] == "unknown"
    assert "rate of phikon on the machine (mil bench features --encoder phikon)" in text
    assert "tiles of 224px_0.5mpp: mil doctor DATASET --json FILE" in text
    write_machine(folder, {"title": "bare", "cores": 1})
    found = numbers(table(encoders=["uni"], tiles=10))
    unknown = {name for name, number in found.items() if number == "unknown"}
    assert {"download", "egress", "tile", "uni: read", "uni: encode"} <= unknown
    assert found["uni: tiles of 224px_0.5mpp"] == "1000"


def write_bench(path, title, row):
    content = {"format": "mil.bench", "title": title, "machine": {"cores": 4}, "rows": [row]}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.slow
def test_rates_of_bench_files_are_those_of_one_core(folder):
    row = {"encoder": "uni", "device": "cpu, bf16", "encoder_tiles/s": 8, "reading_tiles/s": 400}
    features = write_bench(folder / "f.json", "mil bench features, threads: 4", row)
    tile = write_bench(folder / "t.json", "mil bench tile, tiles of 224 px", {"cpu_s": 72.0})
    options = CostOptions(encoders=["uni"], bench=[features, tile], tiles=9000)
    found = numbers(cost_table("mine", options))
    assert found["tile"] == "2 core h"
    assert found["uni: read"] == "2.5 core h"
    assert found["uni: encode"] == "125 core h"  # 900 000 / (8 / 4) per s


def test_a_size_of_each_slide_is_not_that_of_all(folder):
    yaml_file = folder / "configs/datasets/mine.yaml"
    yaml_file.write_text("classes: [a, b]\nsize: 100 of 399 files, of some 1.5 GB each\n")
    assert numbers(table(encoders=["uni"], tiles=9))["slides, size"] == "150 GB"


@pytest.mark.slow
def test_tiles_and_sizes_of_mil_doctor_are_scaled_to_all_slides(folder):
    slide = {
        "state": "ok",
        "size_bytes": 2 * 10**9,
        "tilings": {"224px_0.5mpp": {"num_tiles": 500}},
    }
    report = {"format": "mil.doctor", "slides": [slide, slide, {"state": "missing"}]}
    (folder / "doctor.json").write_text(json.dumps(report))
    found = numbers(table(encoders=["uni"], doctor=folder / "doctor.json"))
    assert found["slides, size"] == "200 GB"
    assert found["uni: tiles of 224px_0.5mpp"] == "50000"


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (CostOptions(), "needs the rates of a machine"),
        (CostOptions(machine="nowhere"), "no machine named 'nowhere'"),
    ],
)
def test_a_wrong_name_is_one_line(folder, options, fault):
    with pytest.raises(MilError, match=fault) as error:
        cost_table("mine", options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("read", [read_doctor, lambda path: with_bench_files(None, [path])])
@pytest.mark.parametrize(
    "content", ["[", "{}", '{"format": "mil.bench", "machine": {}, "rows": [], "title": "x"}']
)
def test_another_file_is_one_line(tmp_path, read, content):
    wrong = tmp_path / "x.json"
    wrong.write_text(content)
    with pytest.raises(MilError, match=r"x\.json") as error:
        read(wrong)
    assert "\n" not in str(error.value)


def test_joined_encoders_cost_what_each_costs_and_their_bags(folder):
    found = numbers(table(encoders=["uni@0.5+uni@1"], tiles=1000))
    assert found["uni@0.5: tiles of 224px_0.5mpp"] == "100000"
    assert found["uni@1: tiles of 224px_1mpp"] == "100000"
    one = float(found["uni@1: bags on disk"].split()[0])
    both = float(found["uni@0.5+uni@1: bags on disk"].split()[0])
    assert both == pytest.approx(2 * one, rel=0.01)
