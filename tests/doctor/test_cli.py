"""`mil doctor` as its users meet it: the table, the JSON, the exit code."""

import json
import re

import pytest
from typer.testing import CliRunner

from mil.cli import app
from mil.doctor import encoders, faults, stage
from mil.doctor.show import show
from mil.encoders.availability import WeightsStatus
from mil.io.bags.advice import ADVICE
from tests.doctor.slides import cut_slide, write_dataset
from tests.encoders.hub import play
from tests.synthetic import glass, tissue_slide, write_slide

ROW = 1280 * 2 + 9  # bytes a tile of the default encoder


def doctor(*arguments):
    return CliRunner().invoke(app, ["doctor", *map(str, arguments)])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Bags would go to a folder that is not there yet."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_a_dataset_that_is_ready(tmp_path):
    for name in ("a", "b"):
        tissue_slide(tmp_path / f"{name}.tif", (1024, 768), 0.5)
    done = doctor(
        write_dataset(tmp_path, ["a,a.tif,a", "b,b.tif,a"]), "--json", tmp_path / "out/d.json"
    )
    assert done.exit_code == 0, done.output
    assert done.output.endswith("\nReady.\n")
    finding = json.loads((tmp_path / "out/d.json").read_text())
    assert (finding["format"], finding["version"], finding["ready"], finding["faults"]) == (
        "mil.doctor",
        1,
        True,
        [],
    )
    assert [(s["slide"], s["state"], s["advice"]) for s in finding["slides"]] == [
        ("a", "ok", ""),
        ("b", "ok", ""),
    ]
    assert finding["slides"][0]["size_mm"] == pytest.approx([0.512, 0.384])
    assert finding["slides"][0]["mpp_said"] == {
        "openslide": pytest.approx(0.5),
        "tiff tags": pytest.approx(0.5),
    }
    assert [level["decoder"] for level in finding["slides"][0]["levels"]] == ["JPEG", "JPEG"]
    count = sum(slide["tilings"]["224px_0.5mpp"]["num_tiles"] for slide in finding["slides"])
    assert finding["tiles"] == {"224px_0.5mpp": count}
    assert count >= 8
    assert finding["encoders"][0]["bags_bytes"] == finding["bags_bytes"] == count * ROW + 2 * 8192
    assert finding["free_bytes"] > 0
    (rate,) = finding["rates"]  # both slides have the same format
    assert (rate["format"], rate["num_tiles"]) == ("generic-tiff in JPEG", count / 2)
    assert finding["seconds_to_read_on_one_core"] == pytest.approx(count / rate["tiles_per_s"])


@pytest.mark.slow
def test_each_state_has_its_line_and_what_to_do(tmp_path):
    tissue_slide(tmp_path / "good.tif", (1024, 768), 0.5)
    tissue_slide(tmp_path / "nompp.tif", mpp=None)
    write_slide(tmp_path / "empty.tif", glass((1024, 768)), 0.5)
    (tmp_path / "text.tif").write_text("no")
    cut_slide(tmp_path / "cut.tif", 0.6)
    names = ["good", "nompp", "empty", "text", "cut", "gone"]
    yaml = write_dataset(tmp_path, [f"{name},{name}.tif,a" for name in names])
    done = doctor(yaml, "--json", tmp_path / "d.json")
    assert done.exit_code == 1
    for line in (
        "unreadable (1): copy it again from its source, or convert it; then check its checksum",
        "  text  not a slide that OpenSlide reads, or cut short",
        f"no_mpp (1): {ADVICE['no_mpp']}",
        "  nompp  no pixel size in OpenSlide's properties, TIFF tags or vendor's text; of 1024 x "
        "768 px, it may be an overview",
        f"  gone  no file {tmp_path / 'gone.tif'}",
        "no_tissue (1): run `--until tile` and look at its QC image in tile/*/grid; if there is "
        "tissue, lower tile.min_tissue or correct the outline; else leave the slide out",
        "corrupt_regions (1): copy it again from its source",
        "Not ready: 1 of 6 slides missing; 4 of 6 slides unusable.",
    ):
        assert line in done.output.splitlines()
    assert re.search(
        r"^good +ok +generic-tiff +JPEG +1024 x 768 +0.5 x 0.4 +1 4 +0.5 +openslide",
        done.output,
        re.M,
    )
    assert (
        "slides   1 of 6 ok, 1 no_mpp, 1 no_tissue, 1 unreadable, 1 corrupt_regions, 1 missing\n"
        in done.output
    )
    states = {
        slide["slide"]: slide["state"]
        for slide in json.loads((tmp_path / "d.json").read_text())["slides"]
    }
    assert states == {
        "good": "ok",
        "nompp": "no_mpp",
        "empty": "no_tissue",
        "text": "unreadable",
        "cut": "corrupt_regions",
        "gone": "missing",
    }


def test_weights_that_cannot_be_had(tmp_path, monkeypatch):
    tissue_slide(tmp_path / "a.tif", (1024, 768), 0.5)
    yaml = write_dataset(tmp_path, ["a,a.tif,a"])
    gated = WeightsStatus("gated", False, "ask on its page")
    monkeypatch.setattr(
        encoders,
        "weights_status",
        lambda name, _: gated if name == "uni" else WeightsStatus("file", True, ""),
    )
    done = doctor(yaml, "--encoder", "uni", "--encoder", "resnet18", "--no-tissue")
    assert done.exit_code == 1
    assert "weights  uni: gated, ask on its page; licence: CC-BY-NC-ND-4.0\n" in done.output
    assert "tiles    at most 12 of 224px 0.5mpp\n" in done.output
    assert done.output.endswith("Not ready: the weights of uni are not available.\n")


def test_weights_of_a_slide_encoder_that_cannot_be_had(tmp_path, monkeypatch):
    hub = play(monkeypatch, tmp_path / "hub")
    tissue_slide(tmp_path / "a.tif", (1024, 768), 0.5)
    yaml = write_dataset(tmp_path, ["a,a.tif,a"])
    names = [part for name in ("mean", "abmil", "madeleine") for part in ("--slide-encoder", name)]
    done = doctor(yaml, *names, "--no-tissue", "--json", tmp_path / "d.json")
    assert done.exit_code == 1
    assert "weights  madeleine: not reachable, MahmoodLab/madeleine cannot be" in done.output
    assert done.output.endswith("Not ready: the weights of madeleine are not available.\n")
    hub.answers["/MahmoodLab/madeleine/resolve/"] = b"weights"
    done = doctor(yaml, *names, "--no-tissue", "--json", tmp_path / "d.json")
    assert done.exit_code == 0, done.output
    (finding,) = json.loads((tmp_path / "d.json").read_text())["slide_encoders"]
    assert (finding["slide_encoder"], finding["weights"]) == ("madeleine", "reachable")
    wrong = doctor(yaml, "--slide-encoder", "madelein", "--no-tissue")
    assert "did you mean 'madeleine'" in str(wrong.exception)


def test_an_unknown_encoder_is_said_at_once(tmp_path):
    done = doctor(write_dataset(tmp_path, ["a,a.tif,a"]), "--encoder", "resnt18")
    assert done.exit_code == 1
    assert "did you mean 'resnet18'" in str(done.exception)


def test_slides_are_looked_for_where_the_user_says(tmp_path):
    yaml = write_dataset(tmp_path, ["a,a.tif,a"])
    tissue_slide(tmp_path / "other/a.tif", (1024, 768), 0.5)
    assert doctor(yaml).exit_code == 1
    assert doctor(yaml, "--slides-dir", tmp_path / "other").exit_code == 0


def test_the_tables_pixel_size_and_masks_are_used(tmp_path):
    tissue_slide(tmp_path / "a.tif", (1024, 768), None)
    (tmp_path / "bad.geojson").write_text("{")
    tissue_slide(tmp_path / "b.tif", (1024, 768), 0.5)
    header = "slide,path,label,mpp,tissue"
    yaml = write_dataset(tmp_path, ["a,a.tif,a,0.5,", "b,b.tif,a,,bad.geojson"], header)
    done = doctor(yaml, "--json", tmp_path / "d.json")
    first, second = json.loads((tmp_path / "d.json").read_text())["slides"]
    assert (first["state"], first["mpp"], first["mpp_source"]) == ("ok", 0.5, "table")
    assert (second["state"], done.exit_code) == ("bad_mask", 1)
    assert "bad.geojson" in second["reason"]


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    tissue_slide(tmp_path / "a.tif", (1024, 768), 0.5)
    monkeypatch.setattr(stage, "free_bytes", lambda folder: 10_000)
    done = doctor(write_dataset(tmp_path, ["a,a.tif,a"]))
    assert done.exit_code == 1
    assert done.output.endswith("Not ready: the bags do not fit on the disk.\n")


def test_names_that_a_run_could_not_use_are_faults(tmp_path, monkeypatch):
    tissue_slide(tmp_path / "a.tif", (1024, 768), 0.5)
    dataset = write_dataset(tmp_path, ["語語,a.tif,a"])
    renamed = dataset.rename(tmp_path / "2024.yaml")
    dataset.with_suffix(".csv").rename(tmp_path / "2024.csv")
    # As an encrypted folder has it.
    monkeypatch.setattr(faults.os, "pathconf", lambda folder, name: 60)
    done = doctor(renamed, "--no-tissue")
    assert done.exit_code == 1
    assert done.output.splitlines()[-1] == (
        "Not ready: dataset name '2024': YAML reads it as a number, not as a text; such as "
        "'study_2024'; rename its yaml and csv; slide ids over 2 bytes are too long for files on "
        "the disk of results/2024 (語語)."
    )


def test_urls_and_paths_that_a_run_would_refuse_are_faults(tmp_path):
    rows = ["a,a.tif,file:///etc/passwd,a", "b,b{x}.tif,http://host/b.tif,a"]
    done = doctor(write_dataset(tmp_path, rows, "slide,path,url,label"), "--no-tissue")
    assert done.exit_code == 1
    verdict = done.output.splitlines()[-1]
    assert "b{x}.tif: the workflow takes { } in a path for wildcards; rename it" in verdict
    assert "slide a: url file:///etc/passwd: leads out of the dataset's folder" in verdict


def test_annotations_that_would_stop_a_run_are_faults(tmp_path):
    for name in "abc":
        tissue_slide(tmp_path / f"{name}.tif", (512, 512), 0.5)
    (tmp_path / "damaged.xml").write_text("<open>")
    (tmp_path / "mask.png").touch()
    rows = ["a,a.tif,damaged.xml,a", "b,b.tif,mask.png,a", "c,c.tif,not_there.xml,a"]
    done = doctor(write_dataset(tmp_path, rows, "slide,path,annotation,label"), "--no-tissue")
    assert done.exit_code == 1
    verdict = done.output.splitlines()[-1]
    assert verdict.startswith("Not ready: annotations of b are no outlines, such as ")
    assert verdict.endswith("`region`; annotations of 2 of 3 slides unreadable.")


def test_an_annotation_to_be_fetched_is_refused_by_its_ending_too(tmp_path):
    tissue_slide(tmp_path / "a.tif", (512, 512), 0.5)
    rows = ["a,a.tif,a.png,http://host/a.png,a"]
    header = "slide,path,annotation,annotation_url,label"
    done = doctor(write_dataset(tmp_path, rows, header), "--no-tissue")
    assert "annotations of a are no outlines, such as " in done.output.splitlines()[-1]


def test_a_warning_about_many_slides_is_one_paragraph(tmp_path):
    names = [f"s{i:02}" for i in range(12)]
    for number, name in enumerate(names):
        tissue_slide(tmp_path / f"{name}.tif", (256, 256), 1.0, seed=number)
    rows = [f"{name},{name}.tif,a" for name in names]
    done = doctor(write_dataset(tmp_path, rows), "--no-tissue")
    warning = "  12 slides: its finest level has 1 µm/px: tiles of 0.5 µm/px are enlarged 2 times"
    at = done.output.splitlines().index(warning)
    assert done.output.splitlines()[at + 1] == f"    {', '.join(names)}"
    assert done.output.count("enlarged") == 1


def test_many_slides_to_fetch_are_one_paragraph(tmp_path):
    rows = [f"s{i:02},s{i:02}.tif,demo:mini_01.tif,a" for i in range(12)]
    done = doctor(write_dataset(tmp_path, rows, "slide,path,url,label"))
    assert done.exit_code == 1
    assert "--until fetch --config dataset=set slides_dir=" in done.output
    assert "  s00, s01, s02, s03, s04, s05, s06, s07, s08, s09, s10, s11\n" in done.output
    assert done.output.endswith("Not ready: 12 of 12 slides missing.\n")
    assert "reading" not in done.output


def test_looking_on_more_threads_finds_the_same(tmp_path):
    for i in range(3):
        tissue_slide(tmp_path / f"{i}.tif", (512, 512), 0.5, seed=i)
    yaml = str(write_dataset(tmp_path, [f"{i},{i}.tif,a" for i in range(3)]))
    runs = [
        stage.run(
            yaml, slides_dir=None, encoders=[], json=None, threads=threads, tissue=True
        ).as_json()["slides"]
        for threads in (1, 3)
    ]
    assert runs[0] == runs[1]
    assert [slide["slide"] for slide in runs[0]] == ["0", "1", "2"]


@pytest.mark.parametrize("width", [80, 120, None])
def test_nothing_is_cut_off_at_any_width(tmp_path, width):
    long = "TCGA-A1-A0SB-01Z-00-DX1.B34C267B-CAAA-4AB6-AD5C-276C26F997A1"
    tissue_slide(tmp_path / "a.tif", mpp=None)
    yaml = str(write_dataset(tmp_path, [f"{long},a.tif,a"]))
    shown = show(
        stage.run(yaml, slides_dir=None, encoders=[], json=None, threads=1, tissue=True), width
    )
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= (width or 1000)
    squeezed = re.sub(r"\s", "", shown)
    assert squeezed.count("generic-tiff") == 2
    if width is None:
        assert (
            f"  {long}  no pixel size in OpenSlide's properties, TIFF tags or vendor's text; "
            in shown
        )


@pytest.mark.slow
def test_joined_encoders_are_inspected_at_each_of_their_tilings(tmp_path):
    tissue_slide(tmp_path / "a.tif", (2048, 1536), 0.5)
    dataset = write_dataset(tmp_path, ["a,a.tif,a"])
    name = "efficientnet_lite0@0.5+efficientnet_lite0@1"
    done = doctor(dataset, "--encoder", name, "--json", tmp_path / "d.json")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "d.json").read_text())
    fine, coarse = (found["tiles"][f"224px_{mpp}mpp"] for mpp in ("0.5", "1"))
    assert fine > coarse > 0
    [joined] = found["joined"]
    assert (joined["encoder"], joined["dim"]) == (name, 2560)
    assert joined["bags_bytes"] == fine * (2560 * 2 + 9) + 8192
    assert [encoder["tiling"] for encoder in found["encoders"]] == ["224px_0.5mpp", "224px_1mpp"]
    sizes = sum(encoder["bags_bytes"] for encoder in found["encoders"])
    assert found["bags_bytes"] == sizes + joined["bags_bytes"]
    assert done.output.count("weights ") == 1
    line = rf"\njoined +{re.escape(name)}: features of 2560 numbers, side by side\n"
    assert re.search(line, done.output)
