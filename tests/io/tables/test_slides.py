"""The slide table: what is read, and what is refused with which words."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snakemake.io import PeriodicityDetector

from mil.config import DatasetConfig
from mil.errors import DatasetError, FormatError
from mil.io.atomic import write_text
from mil.io.scores import score_path
from mil.io.tables import (
    Slide,
    id_of,
    read_csv,
    read_folds,
    read_slides,
    valid_id,
    write_csv,
)
from mil.text import clean, is_empty
from tests.messages import one_line

DATASET = DatasetConfig(classes=["normal", "tumour"])


def dataset(**changes: object) -> DatasetConfig:
    return DatasetConfig(**{"classes": ["normal", "tumour"], **changes})


def read(folder: Path, text: str, settings: DatasetConfig = DATASET) -> list[Slide]:
    (folder / "t.csv").write_text(text, encoding="utf-8")
    return read_slides(folder / "t.csv", settings)


def refused(folder: Path, text: str, settings: DatasetConfig = DATASET) -> str:
    with one_line(DatasetError) as caught:
        read(folder, text, settings)
    return str(caught.value)


def test_a_whole_row(tmp_path):
    text = (
        "slide,patient,path,label,split,mpp,annotation,checksum,sex\n"
        "a,p1,in/a.svs,tumour,Train,0.25,in/a.xml,md5:00,f\n"
    )
    assert read(tmp_path, text) == [
        Slide(
            slide="a",
            patient="p1",
            label="tumour",
            path="in/a.svs",
            split="train",
            mpp=0.25,
            annotation="in/a.xml",
            checksum="md5:00",
            subgroups={"sex": "f"},
        )
    ]


def test_the_least_row(tmp_path):
    assert read(tmp_path, "slide,label\na,normal\n") == [
        Slide(slide="a", patient="a", label="normal")
    ]


SURVIVAL = DatasetConfig(task="survival_cox")


@pytest.mark.parametrize(
    ("settings", "cell", "message"),
    [
        (
            DatasetConfig(task="multilabel", classes=["x", "y"]),
            "x;z",
            "label 'x;z'; the dataset's classes are: x, y",
        ),
        (
            DatasetConfig(task="ordinal", classes=["x", "y"]),
            "",
            " has no label; the dataset's classes are: x, y",
        ),
        (
            DatasetConfig(task="regression"),
            "NaN",
            "has no label ('NaN'); a number is needed, such as 27.5",
        ),
        (DatasetConfig(task="regression"), "", " has no label; a number is needed, such as 27.5"),
        (
            SURVIVAL,
            "-3",
            "label '-3'; a time is needed: 27.5 (the event came then) or 27.5+ (censored: "
            "no event until then)",
        ),
    ],
)
def test_a_label_that_its_task_does_not_know(tmp_path, settings, cell, message):
    text = f"slide,patient,label\na,p,{cell}\n"
    said = refused(tmp_path, text, settings)
    assert said.startswith(f"{tmp_path / 't.csv'}: line 2: slide a")
    assert said.endswith(message)


def test_labels_of_other_tasks(tmp_path):
    several = DatasetConfig(task="multilabel", classes=["x", "y"])
    assert [s.label for s in read(tmp_path, "slide,patient,label\na,p,x;y\nb,p,\n", several)] == [
        "x;y",
        "",
    ]
    assert [
        s.label for s in read(tmp_path, "slide,label\na,3.5\n", DatasetConfig(task="regression"))
    ] == ["3.5"]


def test_survival_in_two_columns(tmp_path):
    text = "slide,OS,dead,sex\na,12,1,f\nb,30.5,0,m\n"
    slides = read(
        tmp_path, text, SURVIVAL.model_copy(update={"columns": {"time": "OS", "event": "dead"}})
    )
    assert [(slide.label, slide.subgroups) for slide in slides] == [
        ("12", {"sex": "f"}),
        ("30.5+", {"sex": "m"}),
    ]
    assert [slide.label for slide in read(tmp_path, "slide,time,event\na,4,true\n", SURVIVAL)] == [
        "4"
    ]
    assert [slide.label for slide in read(tmp_path, "slide,label,time\na,4+,noon\n", SURVIVAL)] == [
        "4+"
    ]
    assert "line 2: slide a has no label; event 'maybe' is" in refused(
        tmp_path, "slide,time,event\na,4,maybe\n", SURVIVAL
    )
    assert "label '+'; a time is needed" in refused(tmp_path, "slide,time,event\na,,0\n", SURVIVAL)
    assert "no column 'event'" in refused(tmp_path, "slide,time\na,4\n", SURVIVAL)


def test_time_is_an_ordinary_column_elsewhere(tmp_path):
    (slide,) = read(tmp_path, "slide,label,time\na,normal,noon\n")
    assert slide.subgroups == {"time": "noon"}
    assert "no column named 'time'" in refused(
        tmp_path, "slide,label,t\na,normal,1\n", dataset(columns={"time": "t"})
    )


def test_ids_keep_their_zeros(tmp_path):
    (slide,) = read(tmp_path, "slide,patient,label\n007,0012,normal\n")
    assert (slide.slide, slide.patient) == ("007", "0012")


def test_byte_order_mark_blanks_and_empty_lines(tmp_path):
    slides = read(tmp_path, "\ufeffslide , label\n\n a , normal \n,\n b,tumour\n")
    assert [(slide.slide, slide.label) for slide in slides] == [("a", "normal"), ("b", "tumour")]


def test_subgroups_are_kept(tmp_path):
    slides = read(tmp_path, "slide,label,scanner,sex\na,normal,X,f\nb,tumour,,m\n")
    assert [slide.subgroups for slide in slides] == [
        {"scanner": "X", "sex": "f"},
        {"scanner": "", "sex": "m"},
    ]


def test_other_names_of_columns(tmp_path):
    clam = dataset(columns={"slide": "slide_id", "patient": "case_id"})
    (slide,) = read(tmp_path, "case_id,slide_id,label,age\np,s,normal,50\n", clam)
    assert slide == Slide(slide="s", patient="p", label="normal", subgroups={"age": "50"})


def test_no_file(tmp_path):
    with pytest.raises(
        DatasetError, match="no such slide table; it needs the columns slide, patient, label"
    ):
        read_slides(tmp_path / "t.csv", DATASET)


@pytest.mark.parametrize(("header", "missing"), [("slide,lable", "label"), ("id,label", "slide")])
def test_missing_column(tmp_path, header, missing):
    message = refused(tmp_path, f"{header}\na,normal\n")
    assert f"no column {missing!r}" in message
    assert f"the table has: {header.replace(',', ', ')}." in message
    assert f"columns: {{{missing}: ITS_NAME}}" in message


def test_a_mapping_must_hold(tmp_path):
    # Else every slide would silently be a patient of its own.
    text = "slide,case_id,label\na,p,normal\n"
    assert "no column 'case'" in refused(tmp_path, text, dataset(columns={"patient": "case"}))
    assert "did you mean 'patient'" in refused(
        tmp_path, text, dataset(columns={"patients": "case_id"})
    )


def test_same_column_twice(tmp_path):
    assert "'label' is there twice" in refused(tmp_path, "slide,label,label\na,normal,tumour\n")


def test_empty_tables(tmp_path):
    assert "no rows" in refused(tmp_path, "")
    assert "no rows" in refused(tmp_path, "slide,label\n")


def test_not_utf8(tmp_path):
    (tmp_path / "t.csv").write_bytes("slide,label\nä,normal\n".encode("latin-1"))
    assert [slide.slide for slide in read_slides(tmp_path / "t.csv", DATASET)] == ["ä"]
    (tmp_path / "t.csv").write_bytes("slide,label\nпрепарат,normal\n".encode("cp1251"))
    with pytest.raises(DatasetError, match="CSV UTF-8"):
        read_slides(tmp_path / "t.csv", DATASET)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89HDF\r\n\x1a\n\x00\x00", "not a CSV file in UTF-8"),
        (
            b"slide,label\na,normal\n",
            "line 2: not of a folds file, which has the columns fold, slide, split",
        ),
        (b"fold,slide,split\n0,a,train\nx,b,train\n", "line 3: not of a folds file"),
        (b"fold,slide,split\n0,a,trian\n", "line 2: not of a folds file"),
    ],
)
def test_what_is_no_folds_file_is_one_line(tmp_path, content, message):
    (tmp_path / "folds.csv").write_bytes(content)
    with pytest.raises(FormatError, match=rf"folds\.csv: {message}"):
        read_folds(tmp_path / "folds.csv")


def test_more_cells_than_columns(tmp_path):
    message = refused(tmp_path, "slide,notes,label\na,fine,normal\nb,blurred, old,tumour\n")
    assert "line 3 has more cells than the header" in message


def test_empty_columns_of_a_spreadsheet(tmp_path):
    assert read(tmp_path, "slide,label,,\na,normal,,,\n") == [
        Slide(slide="a", patient="a", label="normal")
    ]


@pytest.mark.parametrize(("first", "second"), [("a", "a"), ("Slide_1", "slide_1")])
def test_duplicate_id(tmp_path, first, second):
    message = refused(tmp_path, f"slide,label\n{first},normal\nx,normal\n{second},tumour\n")
    assert f"slide {second!r} stands on line 2 and on line 4" in message


BAD_IDS = [
    "../a",
    "a/b",
    "a\\b",
    ".a",
    "-a",
    "{}",
    "{",
    "a{b}",
    "*",
    "a?",
    "a..b",
    "a:b",
    "a|b",
]


@pytest.mark.parametrize("name", BAD_IDS)
def test_ids_that_cannot_be_file_names(tmp_path, name):
    assert f"line 2: slide id {name!r} cannot be a file name" in refused(
        tmp_path, f"slide,label\n{name},normal\n"
    )


@pytest.mark.parametrize("name", ["x" * 197 + "1", "語" * 74 + "1", "é" * 101 + "1"])
def test_ids_that_are_too_long_in_bytes(tmp_path, name):
    num_bytes = len(name.encode())
    message = refused(tmp_path, f"slide,label\n{name},normal\n")
    assert f"is too long for a file name ({num_bytes} bytes of at most 197)" in message


@pytest.mark.parametrize("name", ["0" * 20, "語" * 25, "a" + "ab" * 20, "1." * 20 + "1.1."])
def test_ids_that_snakemake_takes_for_a_circle(tmp_path, name):
    assert PeriodicityDetector().is_periodic(name)
    message = refused(tmp_path, f"slide,label\n{name},normal\n")
    assert "ends in a part that is repeated 20 times" in message
    assert id_of(PurePosixPath(f"{name}.svs")) == f"{name}_end"
    assert not PeriodicityDetector().is_periodic(f"{name}_end")


def test_the_longest_id_fits_with_every_ending_and_its_scratch_prefix(tmp_path):
    name = "語" * 65 + "12"
    assert valid_id(name)
    assert not valid_id(name + "x")
    for ending in (".h5", ".geojson.gz", ".branches.png", ".csv", ".jpg", ".log"):
        write_text(tmp_path / f"{name}{ending}", "fits")
    assert len(list(tmp_path.iterdir())) == 6


def test_an_id_that_cannot_be_comes_with_one_that_can(tmp_path):
    for name, proposal in (("o'f", "o_f"), ("a/b: c", "a_b_ c"), ("-a", "_a"), (".h", "_h")):
        assert refused(tmp_path, f"slide,label\n{name},normal\n").endswith(
            f"use letters, digits, _ and -, such as {proposal!r}"
        )


@pytest.mark.parametrize(
    ("file", "slide"),
    [
        ("A.svs", "A"),
        ("A.ome.tif", "A"),
        ("A.OME.TIFF", "A"),
        ("UID.1.2", "UID.1.2"),
        ("1.2.840.dcm", "1.2.840"),
        ("TCGA-1.F6E9.svs", "TCGA-1.F6E9"),
        ("O'Brien 1.svs", "O_Brien 1"),
        ("a*.tif", "a_"),
        ("-c.tif", "_c"),
        (".tif", "_tif"),
        ("d..e.tif", "d_e"),
        ("cafe\u0301.tif", "caf\u00e9"),  # accents written apart, as macOS does
        ("a\u200bb\ufeff.tif", "ab"),  # letters that nobody sees
        ("a\ufe0f\u3164.tif", "a"),  # of symbols and of Hangul
        ("u\u200b\u0308.tif", "\u00fc"),  # one between a letter and its accent
        ("a\u00a0b\u2009c.tif", "a b c"),  # blanks of web pages
        ("a.\u200b.b.tif", "a_b"),
        ("caf\udce9.tif", "caf_"),  # not UTF-8
        ("a\x7fb.svs", "a_b"),
        ("語" * 75 + "1.svs", "語" * 62 + "1"),
        ("x" * 250 + "1.svs", "x" * 186 + "1"),
    ],
)
def test_the_id_of_a_file(file, slide):
    assert id_of(PurePosixPath(file)) == slide
    assert valid_id(slide)
    # What a table that names it would say.
    assert clean(slide) == slide


def test_ids_that_never_come_from_a_csv():
    assert not valid_id("")
    assert not valid_id("a\n")
    assert not valid_id(" a")


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "TCGA-3C-AALI-01Z-00-DX1.F6E9A5DF",
        "1.2.840.10008",
        "å 1 (2)",
        "xy" + "x" * 19 + "y" * 19,
        ("ab" * 97 + "xy") + "z",
        "語" * 65 + "1",
    ],
)
def test_ids_that_can(tmp_path, name):
    assert [slide.slide for slide in read(tmp_path, f"slide,label\n{name},normal\n")] == [name]


def test_row_without_id(tmp_path):
    assert "line 2: slide id ''" in refused(tmp_path, "slide,label\n,normal\n")


def test_label_that_is_no_class(tmp_path):
    message = refused(tmp_path, "slide,label\na,tumor\n")
    assert message.endswith(
        "line 2: slide a: label 'tumor'; the dataset's classes are: normal, tumour"
    )
    assert "slide a has no label" in refused(tmp_path, "slide,label\na,\n")


def test_split_that_is_none(tmp_path):
    message = refused(tmp_path, "slide,label,split\na,normal,trian\n")
    assert "did you mean 'train'" in message


@pytest.mark.parametrize("other", ["test", ""])
def test_patient_in_two_splits(tmp_path, other):
    text = f"slide,patient,label,split\na,p,normal,train\nb,q,normal,test\nc,p,tumour,{other}\n"
    message = refused(tmp_path, text)
    assert f"patient p is in two splits: slide a in train, slide c in {other or 'none'}" in message


@pytest.mark.parametrize("column", ["path", "annotation", "tissue", "region"])
@pytest.mark.parametrize("value", ["../a.svs", "in/../../a.svs", "in\\..\\a.svs"])
def test_paths_that_leave_the_folder(tmp_path, column, value):
    message = refused(tmp_path, f"slide,label,{column}\na,normal,{value}\n")
    assert f"{column} {value!r} leaves the slides' folder" in message


def test_dots_inside_a_name_are_not_a_way_out(tmp_path):
    (slide,) = read(tmp_path, "slide,label,path\na,normal,in..side/a...svs\n")
    assert slide.path == "in..side/a...svs"


@pytest.mark.parametrize("path", ["", "/data/a.svs"])
def test_a_url_needs_a_place_to_save_to(tmp_path, path):
    message = refused(tmp_path, f"slide,label,path,url\na,normal,{path},https://host/a.svs\n")
    assert "url needs a path inside the slides' folder" in message


@pytest.mark.parametrize("mpp", ["0", "-0.25", "inf", "1,234", "40x", "1000"])
def test_mpp_nonsense(tmp_path, mpp):
    message = refused(tmp_path, f'slide,label,mpp\na,normal,"{mpp}"\n')
    assert f"line 2: slide a: mpp {mpp!r} is not a number of micrometres per pixel" in message


def test_mpp(tmp_path):
    text = 'slide,label,mpp\na,normal,0.2455\nb,normal,\nc,normal,1e0\nd,normal,"0,25"\n'
    assert [slide.mpp for slide in read(tmp_path, text)] == [0.2455, None, 1.0, 0.25]


# What a csv in UTF-8 can hold, in the form in which it is compared.
cells = (
    st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('\n",;'), max_size=12)
    .map(clean)
    .filter(lambda cell: cell == "" or not is_empty(cell))
)
ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
ids = ids.map(clean).filter(lambda name: valid_id(name) and not is_empty(name))
rows = st.builds(
    Slide,
    slide=ids,
    patient=cells.filter(bool),
    label=st.sampled_from(DATASET.classes),
    path=cells.filter(lambda path: ".." not in path),
    split=st.just("train"),
    mpp=st.none() | st.floats(0.01, 999),
    checksum=cells,
    subgroups=st.fixed_dictionaries({"sex": cells, "the site": cells}),
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(rows, min_size=1, max_size=6, unique_by=lambda slide: slide.slide.lower()))
def test_what_is_written_is_read(tmp_path_factory, slides):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    names = ("slide", "patient", "label", "path", "split", "mpp", "checksum")
    written = [
        {**{name: getattr(slide, name) for name in names}, **slide.subgroups} for slide in slides
    ]
    write_csv(path, written)
    assert read_slides(path, DATASET) == slides
    assert [row["slide"] for row in read_csv(path)] == [slide.slide for slide in slides]


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("old")
    with pytest.raises(ValueError, match="fields not in fieldnames"):
        write_csv(path, [{"a": 1}, {"b": 2}])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_ids_for_one_file(tmp_path):
    message = refused(tmp_path, "slide,path,label\na,x.tif,normal\nb,x.tif,tumour\n")
    assert "slides a and b have the same path x.tif; keep one" in message
    message = refused(tmp_path, "slide,path,label\na,in/x.tif,normal\nb,./in//x.tif,tumour\n")
    assert "slides a and b have the same path ./in//x.tif; keep one" in message


def test_the_scores_of_the_longest_id_are_found_by_it(tmp_path):
    name = "語" * 65 + "12"
    assert score_path(tmp_path, name) == tmp_path / f"{name}.h5"
