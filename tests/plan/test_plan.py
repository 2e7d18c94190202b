"""What a run is made of, before anything runs."""

import os
import re
import sys
from itertools import chain
from pathlib import Path
from subprocess import run

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mil.config import Config, load_config, load_encoders
from mil.errors import ConfigError, DatasetError
from mil.heatmap.sheet import ENDING
from mil.io.annotations import SUFFIXES
from mil.io.tables import read_csv
from mil.io.tables.paths import ANNOTATIONS
from mil.plan.flags import size_flags, split_flags, state_flags
from mil.plan.make import make_plan
from mil.plan.parts import refresh_tables
from mil.plan.plan import SHEET, TILING
from tests.messages import one_line
from tests.synthetic import bag_file

TABLE = """slide,label,path,split,annotation,url
a,normal,a.tif,train,,
b,tumour,b.tif,test,b's regions.xml,
c,tumour,c.tif,val,,https://example.org/c.tif
"""


@pytest.fixture
def study(tmp_path, monkeypatch) -> Path:
    """A dataset of three slides, the last fetchable; its folder is the working directory."""
    (tmp_path / "configs/datasets").mkdir(parents=True)
    (tmp_path / "configs/datasets/toy.yaml").write_text("classes: [normal, tumour]\n")
    (tmp_path / "configs/datasets/toy.csv").write_text(TABLE)
    (tmp_path / "data/toy").mkdir(parents=True)
    for name in ("a.tif", "b.tif"):
        (tmp_path / "data/toy" / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(**settings):
    return make_plan({"dataset": "toy", **settings})


def test_slides_on_the_disk_have_tile_sheets(study):
    assert SHEET == ENDING
    assert plan().sheets == {"a": SHEET, "b": SHEET}  # c is still to be fetched
    assert plan(heatmap={"slides": "test"}).sheets == {"b": SHEET}
    assert plan(heatmap={"sheet": 0}).sheets == {}


def test_where_things_are(study):
    checked = plan()
    assert checked.slides_dir == Path("data/toy")
    assert checked.files == {name: Path(f"data/toy/{name}.tif") for name in "abc"}
    assert checked.missing == {}  # c can be fetched
    assert checked.fetchable == {"c.tif": ("https://example.org/c.tif", "")}
    assert checked.table == Path("configs/datasets/toy.csv")
    assert plan(slides_dir="data/toy/../toy").slides_dir == Path("data/toy/../toy")


@pytest.mark.parametrize(
    ("old", "new", "subject"),
    [("b.tif", "b{x}.tif", "slide b"), ("b's regions", "b{r}", "annotation of slide b")],
)
def test_a_path_that_the_workflow_takes_for_a_pattern_is_refused(study, old, new, subject):
    table = study / "configs/datasets/toy.csv"
    assert old in table.read_text(encoding="utf-8")
    table.write_text(table.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with one_line(DatasetError, match=rf"toy.csv: {subject}: .* for wildcards"):
        plan(allow_missing=True)


def test_an_image_as_annotation_is_refused_before_anything_is_computed(study):
    assert set(ANNOTATIONS) == set(SUFFIXES)
    table = study / "configs/datasets/toy.csv"
    table.write_text(table.read_text().replace("b's regions.xml", "b's mask.PNG"))
    with one_line(
        DatasetError, match=r"toy.csv: annotations of b are no outlines, such as .*b's mask.PNG;"
    ):
        plan()


def test_joined_encoders_are_made_of_bags_at_several_tilings(study):
    name = "resnet18@0.5+resnet18@1"
    checked = plan(encoder=["resnet18", "resnet18@1.0+resnet18@0.5"])
    assert checked.config.encoder == ["resnet18", name]
    # Its tiles are those of the finer one, so that all that follows sees one encoder.
    assert checked.tilings == {"resnet18": "224px_0.5mpp", name: "224px_0.5mpp"}
    assert checked.joined == {
        name: [("resnet18", "224px_0.5mpp"), ("resnet18", "224px_1mpp")],
    }
    assert checked.extracted == checked.joined[name]
    assert [str(path) for path in checked.bags_dirs.values()] == [
        "results/toy/features/224px_0.5mpp/resnet18",
        "results/toy/features/224px_1mpp/resnet18",
    ]
    assert state_flags(checked).endswith(
        f"--tiles results/toy/tile/224px_0.5mpp --bags results/toy/features/224px_0.5mpp/{name}"
    )
    assert plan(encoder="resnet18").joined == {}
    assert plan(encoder="resnet18").extracted == [("resnet18", "224px_0.5mpp")]


def test_a_file_elsewhere_on_this_machine_is_fetched_only_if_the_run_allows_it(study):
    table = study / "configs/datasets/toy.csv"
    table.write_text(table.read_text().replace("https://example.org/c.tif", "file:///etc/passwd"))
    with one_line(DatasetError, match="^slide c: url file:///etc/passwd: leads out of"):
        plan()
    assert plan(trust_urls=True).fetchable == {"c.tif": ("file:///etc/passwd", "")}


def test_a_slides_folder_that_the_workflow_takes_for_a_pattern_is_refused(study):
    with one_line(DatasetError, match=r"^slides_dir: data/\{x\}: the workflow takes"):
        plan(slides_dir="data/{x}", allow_missing=True)


def test_a_missing_slide_stops_unless_it_may_be_missing(study):
    (study / "data/toy/b.tif").unlink()
    with pytest.raises(DatasetError, match="1 of 3 slides are not in data/toy"):
        plan()
    assert plan(allow_missing=True).missing == {"b": Path("data/toy/b.tif")}


def test_the_tiling_is_the_encoders_unless_the_run_says_otherwise(study):
    entry = load_encoders()["resnet18"]
    assert plan(encoder="resnet18").tilings == {"resnet18": f"{entry.tile_px}px_{entry.mpp:g}mpp"}
    assert plan(encoder="resnet18", tile={"size_px": 96, "mpp": 1.25}).tilings == {
        "resnet18": "96px_1.25mpp"
    }


def test_paths_and_flags_of_each_encoder_and_head(study):
    checked = plan(encoder=["resnet18", "efficientnet_lite0"], head=["abmil", "acmil"])
    assert checked.for_each_head("{dataset}/{tiling}/{encoder}/{head}/{slide}") == [
        f"toy/224px_0.5mpp/{encoder}/{head}/{{slide}}"
        for encoder in ("resnet18", "efficientnet_lite0")
        for head in ("abmil", "acmil")
    ]
    assert state_flags(checked) == (
        "--tiles results/toy/tile/224px_0.5mpp --bags results/toy/features/224px_0.5mpp/resnet18 "
        "--tiles results/toy/tile/224px_0.5mpp --bags "
        "results/toy/features/224px_0.5mpp/efficientnet_lite0"
    )


def test_a_published_slide_encoder_takes_the_features_of_its_encoder_alone(study):
    entry = study / "configs/slide_encoders/chief.yaml"
    entry.parent.mkdir()
    entry.write_text(
        "encoder: resnet18\ntile_um: 112\ndim: 8\nparameters: 8\nweights: random\nlicence: none\n"
    )
    pattern = "{tiling}/{encoder}/{slide_encoder}"
    two = plan(encoder=["resnet18", "resnet50"], slide_encoder=["chief", "mean"])
    assert two.for_each_slide_encoder(pattern) == [
        "224px_0.5mpp/resnet18/chief",
        "224px_0.5mpp/resnet18/mean",
        "224px_0.5mpp/resnet50/mean",
    ]
    with one_line(ConfigError, match="of resnet18, not of resnet50; add resnet18 to encoder"):
        plan(encoder="resnet50", slide_encoder="chief")
    with one_line(
        ConfigError, match=r"takes tiles of 112 µm, those of this run are 224 .*mpp: 0.5"
    ):
        plan(encoder="resnet18", slide_encoder="chief", tile={"mpp": 1})
    for name in "abcd":
        bag_file(study / f"bags/{name}.h5", name, np.ones((2, 4)), encoder={"encoder": "other"})
    with one_line(ConfigError, match="not of other; bags would have to hold bags by resnet18"):
        plan(bags="bags", slide_encoder="chief")
    for name in "abcd":
        header = {"target_mpp": 0.25, "encoder": {"encoder": "resnet18"}}
        bag_file(study / f"bags/{name}.h5", name, np.ones((2, 4)), **header)
    with one_line(ConfigError, match=r"bags/a\.h5: its tiles are 56 µm wide.* and without bags"):
        plan(bags="bags", slide_encoder="chief")
    # As of tools that cut tiles larger than what the encoder sees.
    entry.write_text(entry.read_text() + "cropped: {224: 448}\n")
    assert plan(bags="bags", slide_encoder="chief").slide_encoders_of("resnet18") == ["chief"]


def test_which_slides_are_drawn(study):
    assert plan().heatmap_slides == ["a", "b", "c"]
    assert plan(heatmap={"slides": "test"}).heatmap_slides == ["b"]


def test_parts_of_a_stage_hold_every_slide_once(study):
    rows = "".join(f"s{n:02d},{('normal', 'tumour')[n % 2]}\n" for n in range(60))
    (study / "configs/datasets/toy.csv").write_text("slide,label\n" + rows)
    parts = plan(allow_missing=True).members
    sizes = {stage: len(members) for stage, members in parts.items()}
    assert sizes == {"tile": 4, "features": 8, "score": 1, "heatmap": 2}
    for members in parts.values():
        slides = sorted(chain.from_iterable(members.values()))
        assert slides == [f"s{n:02d}" for n in range(60)]
    of_features = plan(allow_missing=True).parts("features")
    upstream = {name: of_features.names(slides) for name, slides in parts["heatmap"].items()}
    assert sorted(chain.from_iterable(upstream.values())) == sorted(of_features.names())
    assert all(len(names) == 4 for names in upstream.values())


@pytest.fixture
def two_parts(tmp_path) -> Path:
    """Folder of two slides' outputs, each a part whose table is newer than them."""
    (tmp_path / "parts").mkdir()
    for name in ("a.png", "a.csv", "b.png", "b.csv"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1, 1))
    for part, slide in (("1of2", "a"), ("2of2", "b")):
        (tmp_path / f"parts/{part}.csv").write_text(f"slide,made_from\n{slide},then\n")
    return tmp_path


def refreshed(folder: Path) -> dict[str, str]:
    """Digest of the slide of each part that has a table."""
    refresh_tables(folder, {"1of2": ["a"], "2of2": ["b"]}, (".png", ".csv"))
    tables = {path.stem: read_csv(path) for path in (folder / "parts").iterdir()}
    return {part: rows[0]["made_from"] for part, rows in tables.items()}


def test_tables_stay_as_long_as_their_outputs_do(two_parts):
    assert refreshed(two_parts) == {"1of2": "then", "2of2": "then"}
    refresh_tables(two_parts / "absent", {"1of2": ["a"]}, (".png",))


def test_a_part_with_some_of_its_outputs_is_to_be_completed(two_parts):
    members = {"1of2": ["a"], "2of2": ["b", "c"]}
    assert refresh_tables(two_parts, members, (".png",)).incomplete == [
        two_parts / "parts/2of2.csv"
    ]
    # Still so when the run that removed the table was killed.
    assert len(refresh_tables(two_parts, members, (".png",)).incomplete) == 1
    # All outputs of a part were deleted, as to make room: nothing asks for them.
    (two_parts / "b.png").unlink()
    assert refresh_tables(two_parts, members, (".png",)).incomplete == []


def test_one_of_two_endings_is_enough(two_parts):
    (two_parts / "a.csv").rename(two_parts / "a.csv.gz")
    refresh_tables(two_parts, {"1of2": ["a"], "2of2": ["b"]}, (".png", (".csv", ".csv.gz")))
    assert {path.stem for path in (two_parts / "parts").iterdir()} == {"1of2", "2of2"}
    (two_parts / "a.csv.gz").unlink()
    refresh_tables(two_parts, {"1of2": ["a"], "2of2": ["b"]}, (".png", (".csv", ".csv.gz")))
    assert {path.stem for path in (two_parts / "parts").iterdir()} == {"2of2"}


def test_a_part_that_lost_an_output_has_no_table(two_parts):
    (two_parts / "a.csv").unlink()
    assert refreshed(two_parts) == {"2of2": "then"}


def test_nor_has_one_with_a_slide_that_lacks_its_further_output(two_parts):
    members = {"1of2": ["a"], "2of2": ["b"]}
    (two_parts / "a.tiles.jpg").touch()
    os.utime(two_parts / "a.tiles.jpg", (1, 1))
    further = {"a": ".tiles.jpg", "b": ".tiles.jpg"}
    refresh_tables(two_parts, members, (".png", ".csv"), further)
    assert [path.stem for path in (two_parts / "parts").iterdir()] == ["1of2"]


def test_a_part_with_a_damaged_output_has_no_table(two_parts):
    Image.new("RGB", (99, 99)).save(two_parts / "b.png")
    content = (two_parts / "b.png").read_bytes()
    (two_parts / "b.png").write_bytes(content[:-20] + b"x" + content[-19:])
    # A slide's table may be edited: nothing tells that it is damaged.
    (two_parts / "a.csv").write_text("x")
    Image.new("RGB", (9, 9)).save(two_parts / "a.png")
    os.utime(two_parts / "b.png", (2**31, 2**31))
    members = {"1of2": ["a"], "2of2": ["b"]}
    refreshed = refresh_tables(two_parts, members, (".png", ".csv"))
    assert refreshed.damaged == [two_parts / "b.png"]
    assert refreshed.incomplete == [two_parts / "parts/2of2.csv"]
    assert [path.stem for path in (two_parts / "parts").iterdir()] == ["1of2"]


def test_the_digest_of_a_replaced_output_is_taken_over(two_parts):
    picture = Image.new("RGB", (2, 2))
    picture.save(two_parts / "b.png", pnginfo=text_chunk("made_from", "now"))
    os.utime(two_parts / "b.png", (2**31, 2**31))
    assert refreshed(two_parts) == {"1of2": "then", "2of2": "now"}


def text_chunk(name: str, text: str) -> PngInfo:
    chunks = PngInfo()
    chunks.add_text(name, text)
    return chunks


def test_a_tilings_name_says_its_size():
    assert size_flags("224px_0.5mpp") == "--size-px 224 --target-mpp 0.5"
    assert size_flags("96px_1e-05mpp") == "--size-px 96 --target-mpp 1e-05"


CENTRES = "slide,label,path,centre\na,normal,a.tif,x\nb,tumour,b.tif,y's\nc,tumour,b2.tif,x\n"


def test_the_number_of_folds_is_what_the_file_or_the_column_says(study):
    assert plan().config.folds == 1
    assert plan().split_files == []
    assert split_flags(plan()) == "--seed 0 --val-share 0.2 --test-share 0.25 --fusion late"
    for k in range(11):
        (study / f"my splits/splits_{k}.csv").parent.mkdir(exist_ok=True)
        (study / f"my splits/splits_{k}.csv").write_text("train,val,test\na,b,c\n")
    checked = plan(split={"file": "my splits"}, fusion="early")
    assert checked.config.folds == 11
    assert checked.split_files == [f"my splits/splits_{k}.csv" for k in range(11)]
    assert split_flags(checked).endswith("--fusion early --file 'my splits'")
    (study / "configs/datasets/toy.csv").write_text(CENTRES)
    checked = plan(split={"by": "centre"}, allow_missing=True)
    assert checked.config.folds == 2
    assert split_flags(checked).endswith("--by centre")


def test_a_division_that_cannot_be_is_known_before_anything_runs(study):
    (study / "s.csv").write_text("slide,split\na,train\nb,test\n")
    with pytest.raises(
        DatasetError, match=r"s.csv: 1 slides of the table are in no split \(c\)\. Mend the file or"
    ):
        plan(split={"file": "s.csv"})
    assert plan(split={"file": "s.csv"}, allow_missing=True).config.folds == 1
    with pytest.raises(DatasetError, match=r"split\.by: no column named 'centre'"):
        plan(split={"by": "centre"})
    with pytest.raises(
        DatasetError, match=r"split\.file: s\{a\}\.csv: the workflow takes \{ \} in a path"
    ):
        plan(split={"file": "s{a}.csv"})
    with pytest.raises(ConfigError, match=r"folds: 4, but s\.csv gives 1"):
        plan(split={"file": "s.csv"}, allow_missing=True, folds=4)
    (study / "configs/datasets/toy.csv").write_text(TABLE.replace("tumour", "normal"))
    with pytest.raises(DatasetError, match="all 3 slides of the table have the label 'normal'"):
        plan()
    (study / "configs/datasets/toy.csv").write_text(
        "slide,patient,label,path\na,p,normal,a.tif\nb,p,tumour,b.tif\n"
    )
    with pytest.raises(
        DatasetError, match=r"patient p has two labels: normal .* but fusion=early makes one bag"
    ):
        plan(fusion="early")


def test_more_folds_than_patients_are_refused_before_anything_is_embedded(study):
    rows = [
        f"s{i},p{i // 2},{('normal', 'tumour')[i // 2 % 2]},{'test' if i > 11 else ''}"
        for i in range(14)
    ]
    (study / "configs/datasets/toy.csv").write_text("\n".join(["slide,patient,label,split", *rows]))
    assert plan(folds=3, allow_missing=True).config.folds == 3
    with pytest.raises(
        DatasetError, match="cannot divide the patients into 4 parts: only 3 with label 'normal'"
    ):
        plan(folds=4, allow_missing=True)
    with pytest.raises(
        DatasetError, match="cannot divide 6 patients into 7 parts; add slides, take fewer folds"
    ):
        plan(folds=7, allow_missing=True)
    (study / "configs/datasets/toy.yaml").write_text(
        "task: multilabel\nclasses: [normal, tumour]\n"
    )
    assert plan(folds=4, allow_missing=True).config.folds == 4  # rare labels fall where they fall


def test_splits_that_cannot_be_drawn_are_refused_before_anything_is_embedded(study):
    table = study / "configs/datasets/toy.csv"
    table.write_text("slide,label,path\na,normal,a.tif\nb,tumour,b.tif\nc,tumour,c.tif\n")
    with one_line(
        DatasetError,
        match=r"toy\.csv: cannot divide the patients into 2 parts: only 1 with label 'normal'; "
        "add slides, or name the splits in the csv's column `split`$",
    ):
        plan()


@pytest.fixture
def bags(study) -> Path:
    for name in ("a", "b", "c", "stranger"):
        bag_file(
            study / "my bags" / f"{name}.h5",
            name,
            np.ones((2, 4)),
            encoder={"encoder": "uni.v9"},
            tile_px=96,
        )
    return study / "my bags"


def test_precomputed_bags_set_encoder_and_tiling_whatever_the_run_sets(bags):
    checked = plan(bags="my bags", encoder="nobody", tile={"size_px": 17})
    assert checked.tilings == {"uni.v9": "96px_0.5mpp"}
    assert checked.precomputed_bags == {name: f"my bags/{name}.h5" for name in "abc"}
    assert state_flags(checked) == "--bags 'my bags'"
    assert checked.fetchable == {}
    assert (checked.masks, checked.missing) == ({}, {})


def test_heads_of_the_baseline_are_looked_at_for_damage_too(bags, monkeypatch):
    monkeypatch.setattr("mil.plan.plan.damaged_heads", lambda folders: list(map(str, folders)))
    few = {"seeds": 1, "folds": 1, "head": "abmil"}
    damaged = plan(bags="my bags", baseline="linear_probe", **few).damaged_heads
    folder = "results/toy/train/96px_0.5mpp/uni.v9"
    assert damaged == [f"{folder}/{name}/seed1_fold0of1" for name in ("abmil", "linear_probe")]


def test_finer_maps_of_joined_bags_are_refused_before_the_run(bags):
    finer = {"heatmap": {"stride": 0.5}}
    # The run's `encoder` does not count beside bags.
    assert plan(bags="my bags", encoder="uni+uni@1", **finer).tilings == {"uni.v9": "96px_0.5mpp"}
    encoder = {"encoder": "uni@0.5+uni@1"}
    bag_file(bags / "a.h5", "a", np.ones((2, 4)), encoder=encoder, tile_px=96)
    with pytest.raises(ConfigError, match=r"finer maps are of one encoder.*bags of one encoder"):
        plan(bags="my bags", **finer)
    assert plan(bags="my bags").tilings == {"uni@0.5+uni@1": "96px_0.5mpp"}


def test_without_precomputed_bags_an_unknown_encoder_is_refused(study):
    with pytest.raises(ConfigError, match="no encoder named 'nobody'"):
        plan(encoder="nobody")
    assert plan().precomputed_bags == {}
    assert load_config({}) == Config(bags=None)
    with pytest.raises(ConfigError, match="bags: String should have at least 1 character"):
        plan(bags="")


def test_of_slides_and_annotations_only_those_that_are_there(bags, study):
    (study / "data/toy/a.tif").unlink()
    checked = plan(bags="my bags")
    assert checked.files == {"b": Path("data/toy/b.tif")}
    assert checked.annotations == {}
    (study / "data/toy/b's regions.xml").touch()
    assert plan(bags="my bags").annotations == {"b": Path("data/toy/b's regions.xml")}
    assert plan(bags="my bags", slides_dir="nowhere").files == {}


def test_only_the_first_bag_is_opened(bags):
    for name in ("b", "c", "stranger"):
        (bags / f"{name}.h5").write_text("not a bag")
    assert plan(bags="my bags").tilings == {"uni.v9": "96px_0.5mpp"}
    (bags / "a.h5").unlink()
    with pytest.raises(DatasetError, match=r"bags: my bags/b\.h5: not an HDF5 file"):
        plan(bags="my bags", allow_missing=True)


def test_slides_without_a_bag(bags):
    (bags / "b.h5").unlink()
    with pytest.raises(
        DatasetError,
        match=r"1 of 3 slides have no bag in my bags\n.*\n1 bags there are of no slide",
    ):
        plan(bags="my bags")
    checked = plan(bags="my bags", allow_missing=True)
    assert checked.missing == {"b": Path("my bags/b.h5")}
    assert (list(checked.precomputed_bags), checked.heatmap_slides) == (["a", "c"], ["a", "c"])


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("224px_0.5mpp", True),
        ("256px_unknownmpp", True),
        ("unknownpx_unknownmpp", True),
        ("96px_1e+02mpp", True),
        ("px_mpp", False),
        ("../224px_0.5mpp", False),
        ("224px_0.5mpp/x", False),
    ],
)
def test_how_a_tilings_folder_is_called(name, good):
    assert bool(re.fullmatch(TILING, name)) == good


def test_a_run_on_slides_needs_no_hdf5():
    heavy = "{'h5py', 'torch', 'numpy', 'openslide'}"
    code = f"import sys, mil.plan; print(sorted({heavy} & set(sys.modules)))"
    assert (
        run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
