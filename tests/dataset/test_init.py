"""A folder of slides and a spreadsheet become a dataset, or one line says why not."""

import re
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from openpyxl import Workbook
from tifffile import imwrite

from mil.dataset.init import init
from mil.errors import DatasetError
from mil.io.slides import SlideReader
from mil.io.tables import Slide, read_csv, read_dataset, scan
from mil.io.tables.label_options import LabelOptions
from mil.io.tables.paths import locate, locate_annotation
from mil.tasks import load_dataset
from tests.messages import one_line

LABELS = "slide,label\na,normal\nb,tumour\nc,normal\n"
ASAP = "<?xml version='1.0'?>\n<ASAP_Annotations><Annotations/></ASAP_Annotations>"


@pytest.fixture(scope="session")
def tiff(tmp_path_factory) -> Path:
    """A slide that OpenSlide opens, 0.5 um/px."""
    path = tmp_path_factory.mktemp("tiff") / "slide.tif"
    pixels = np.full((64, 64, 3), 200, np.uint8)
    imwrite(
        path,
        pixels,
        tile=(64, 64),
        photometric="rgb",
        resolution=(2e4, 2e4),
        resolutionunit="CENTIMETER",
    )
    return path


class Desk:
    """A folder of slides, a spreadsheet, and a folder for the result."""

    def __init__(self, folder: Path, tiff: Path) -> None:
        self.slides = folder / "slides"
        self.out = folder / "out"
        self.tiff = tiff
        self.folder = folder
        self.slides.mkdir()
        self.labels = folder / "labels.csv"

    def put(self, *names: str) -> None:
        for name in names:
            (self.slides / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.tiff, self.slides / name)

    def sheet(self, text: str) -> None:
        self.labels.write_text(text, encoding="utf-8")

    def workbook(self, *rows: list[object], zeros: str = "") -> None:
        book = Workbook()
        for row in rows:
            book.active.append(row)
        if zeros:
            book.active[zeros].number_format = "000"
        self.labels = self.folder / "labels.xlsx"
        book.save(self.labels)

    def init(self, **options: object):
        return init(
            "mine", **{"slides": self.slides, "labels": self.labels, "out": self.out, **options}
        )

    def read(self, **options: object) -> list[Slide]:
        """Init, then what the workflow reads."""
        self.init(**options)
        dataset, slides = read_dataset(str(self.out / "mine.yaml"))
        assert all(locate(slide, Path(dataset.slides_dir), dataset).is_file() for slide in slides)
        return slides

    def labelled(self, **options: object) -> dict[str, str]:
        return {slide.slide: slide.label for slide in self.read(**options)}

    def refused(self, **options: object) -> str:
        """The message, after nothing is seen to be written."""
        with one_line(DatasetError) as caught:
            self.init(**options)
        assert not self.out.exists()
        return str(caught.value)


@pytest.fixture
def desk(tmp_path, tiff) -> Desk:
    return Desk(tmp_path, tiff)


@pytest.fixture
def abc(desk) -> Desk:
    """Three slides with labels."""
    desk.put("a.tif", "b.tif", "c.tif")
    desk.sheet(LABELS)
    return desk


def test_the_plain_case(abc):
    report = abc.init()
    assert (abc.out / "mine.csv").read_text() == (
        "slide,path,label\na,a.tif,normal\nb,b.tif,tumour\nc,c.tif,normal\n"
    )
    dataset = load_dataset(str(abc.out / "mine.yaml"))
    assert (dataset.title, dataset.classes, dataset.positive) == (
        "mine",
        ["normal", "tumour"],
        "tumour",
    )
    assert dataset.slides_dir == str(abc.slides)
    assert report.num_slides == 3
    assert report.counts == {"normal": 2, "tumour": 1}
    assert report.num_patients == 3
    assert not report.without_row + report.without_slide + report.without_label + report.unreadable
    assert "no column for the patient" in str(report)
    with SlideReader(abc.slides / "a.tif") as reader:
        assert reader.resolution().mpp == pytest.approx(0.5)


def test_every_key_is_explained(abc):
    abc.init()
    lines = (abc.out / "mine.yaml").read_text().splitlines()
    comments = " ".join(line for line in lines if line.startswith("#"))
    for key in type(load_dataset(str(abc.out / "mine.yaml"))).model_fields:
        assert f" {key}" in comments, key


def test_slides_at_any_depth_hidden_files_left_out(desk, tmp_path):
    desk.put("a.tif", "x/b.tif", "x/y/c.tif", ".hidden.tif", ".trash/d.tif")
    (desk.slides / "notes.txt").write_text("not a slide")
    (desk.slides / "x/up").symlink_to(desk.slides)
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    shutil.copy(desk.tiff, elsewhere / "e.tif")
    (desk.slides / "disk").symlink_to(elsewhere)
    desk.sheet(LABELS + "e,tumour\n")
    assert [slide.path for slide in desk.read()] == ["a.tif", "disk/e.tif", "x/b.tif", "x/y/c.tif"]
    assert desk.init(force=True).without_row == []


def test_what_openslide_does_not_open_gets_a_row_all_the_same(abc):
    (abc.slides / "b.tif").write_text("a text file renamed")
    (abc.slides / "d.svs").write_bytes(b"")
    (abc.slides / "e.vsi").write_bytes(b"other vendor")
    shutil.copy(abc.tiff, abc.slides / "f.scan")
    abc.sheet(LABELS + "d,normal\ne,normal\nf.scan,tumour\n")
    report = abc.init()
    assert report.unreadable == ["b.tif", "d.svs", "e.vsi"]
    assert [row["slide"] for row in read_csv(report.csv)] == ["a", "b", "c", "d", "e", "f.scan"]


def test_rows_of_one_file_that_differ_in_their_scene_are_several_slides(desk):
    desk.put("a.tif", "b.tif")
    desk.sheet("slide,label,Scene\na,n,Left lung\nA.tif,t,1\nb.tif,n,\n")
    slides = desk.read()
    assert [(row.slide, row.path, row.scene, row.label) for row in slides] == [
        ("a_Left lung", "a.tif", "Left lung", "n"),
        ("a_1", "a.tif", "1", "t"),
        ("b", "b.tif", "", "n"),
    ]
    desk.sheet("slide,label,scene\na,n,1\na,t,1\nb.tif,n,\n")
    with one_line(DatasetError, match="slide a.tif stands on line 2 and on line 3; keep one"):
        desk.init(force=True)


def test_a_mirax_slide_is_its_mrxs_file(desk):
    (desk.slides / "a").mkdir()
    (desk.slides / "a.mrxs").write_bytes(b"\xff\xd8\xff")
    (desk.slides / "a" / "Data0000.dat").write_bytes(b"0")
    (desk.slides / "a" / "Slidedat.ini").write_text("[GENERAL]")
    desk.put("b.tif")
    desk.sheet("slide,label\na,tumour\nb,normal\n")
    report = desk.init()
    assert [row["path"] for row in read_csv(report.csv)] == ["a.mrxs", "b.tif"]
    assert report.without_row == []


def test_a_dicom_series_is_one_slide(desk, monkeypatch):
    series = {
        "s1/1.dcm": None,
        "s1/2.dcm": "A",
        "s1/3.dcm": "A",
        "s2/only.dcm": "B",
        "m/1.dcm": "C",
        "m/2.dcm": "D",
    }

    class Opened:
        def __init__(self, path: Path) -> None:
            uid = series[path.relative_to(desk.slides).as_posix()]
            if uid is None:
                raise scan.openslide.OpenSlideError("broken")
            self.properties = {"dicom.SeriesInstanceUID": uid}

        def __enter__(self):
            return self

        def __exit__(self, *args):
            pass

        @staticmethod
        def detect_format(path):
            return "dicom"

    monkeypatch.setattr(scan.openslide, "OpenSlide", Opened)
    for name in series:
        (desk.slides / name).parent.mkdir(exist_ok=True)
        (desk.slides / name).touch()
    slides = scan.find_slides(desk.slides)
    assert [(slide.slide, str(slide.path), slide.readable) for slide in slides] == [
        ("m_1", "m/1.dcm", True),
        ("2", "m/2.dcm", True),
        ("s1_1", "s1/1.dcm", False),
        ("s1", "s1/2.dcm", True),
        ("only", "s2/only.dcm", True),
    ]
    desk.sheet("slide,label\ns1,t\ns2,n\nm/1.dcm,n\nm,n\n")
    assert [slide.path for slide in desk.read()] == ["m/1.dcm", "s1/2.dcm", "s2/only.dcm"]
    assert desk.init(force=True).without_slide == ["m"]  # a folder of two series is neither


def test_a_dicom_series_of_which_nothing_opens_is_one_slide(desk):
    desk.put("b.tif")
    (desk.slides / "s").mkdir()
    for number in range(3):
        (desk.slides / "s" / f"{number}.dcm").write_bytes(b"cut")
    desk.sheet("slide,label\ns,t\nb,n\n")
    report = desk.init()
    assert report.unreadable == ["s/0.dcm"]
    assert [row["slide"] for row in read_csv(report.csv)] == ["b", "s"]


def test_same_name_in_two_folders(desk):
    desk.put("x/a.tif", "y/A.tif", "a.svs", "y/b.tif", "c.tif", "c.svs", "d.tif", "x/D.tif")
    slides = {str(slide.path): slide.slide for slide in scan.find_slides(desk.slides)}
    assert slides == {
        "a.svs": "a",
        "x/a.tif": "x_a",
        "y/A.tif": "y_A",
        "y/b.tif": "b",
        "c.svs": "c.svs",
        "c.tif": "c.tif",
        "d.tif": "d",
        "x/D.tif": "x_D",
    }
    desk.sheet("slide,label\nx/a,n\ny_a,t\na.svs,n\nb,t\n")
    assert desk.labelled() == {"a": "n", "x_a": "n", "y_A": "t", "b": "t"}


def test_a_name_without_folder_is_of_the_slide_without_folder(desk):
    desk.put("a.tif", "x/a.tif")
    desk.sheet("slide,label\na,n\nx/a,t\n")
    assert desk.labelled() == {"a": "n", "x_a": "t"}


def test_an_ambiguous_name_is_refused(desk):
    desk.put("x/a.tif", "y/a.tif")
    desk.sheet("slide,label\na,n\n")
    assert "line 2: slide 'a' could be x/a.tif or y/a.tif" in desk.refused()


def test_names_that_cannot_be_ids(desk):
    desk.put("|a|.tif", "b: 2*.tif", "-c.tif", "d..e.tif", "x" * 200 + ".tif", "o'f.ome.tif")
    desk.sheet("slide,label\n|a|,n\nb: 2*,t\n-c,n\nd..e.tif,t\no'f,n\n" + "x" * 200 + ",t\n")
    assert desk.labelled() == {
        "_a_": "n",
        "b_ 2_": "t",
        "_c": "n",
        "d_e": "t",
        "o_f": "n",
        "x" * 187 + "_end": "t",
    }


def test_spellings_of_a_name(desk):
    desk.put("a.tif", "B.tif", "x/c.tif", "TCGA-1.F6E9.tif", "e.tif", "f.tif")
    desk.sheet(
        "slide,label\nA.TIF,n\nb,t\n/old/disk/c.svs,n\nTCGA-1.F6E9,t\nC:\\scans\\e.tif,n\nfeatures/f.h5,t\n"
    )
    assert desk.labelled() == {"a": "n", "B": "t", "c": "n", "TCGA-1.F6E9": "t", "e": "n", "f": "t"}


TABLES = {
    "ours": ("slide,patient,label", ""),
    "CLAM": ("slide_id,case_id,label", ""),
    "CLAM as pandas writes it": (",slide_id,case_id,label", "0,"),
    "TRIDENT": ("wsi,case_id,label", ""),
    "STAMP": ("FILENAME,PATIENT,label", ""),
    "slideflow": ("slide,patient,category", ""),
    "by hand": ("File name,Patient ID,Diagnosis", ""),
}


@pytest.mark.parametrize(("header", "before"), TABLES.values(), ids=TABLES.keys())
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_others(abc, header, before, separator):
    text = f"{header}\n{before}a,p1,normal\n{before}b,p2,tumour\n{before}c,p2,normal\n"
    abc.sheet("\ufeff" + text.replace(",", separator))
    assert [(slide.slide, slide.patient, slide.label) for slide in abc.read()] == [
        ("a", "p1", "normal"),
        ("b", "p2", "tumour"),
        ("c", "p2", "normal"),
    ]


def test_columns_named_by_the_user(abc):
    abc.sheet("slide,label,MSI,scan,who\nx,y,0,a,p\nx,y,1,b,p\nx,y,0,c,q\n")
    slides = abc.read(slide_column="scan", label_column="MSI", patient_column="who")
    assert [(slide.slide, slide.patient, slide.label) for slide in slides] == [
        ("a", "p", "0"),
        ("b", "p", "1"),
        ("c", "q", "0"),
    ]
    assert slides[0].subgroups == {"sheet_slide": "x", "sheet_label": "y"}


def test_optional_columns_and_subgroups(abc):
    (abc.slides / "a.geojson").write_text("{}")
    abc.sheet(
        "slide;label;Split;MPP;annotation;scanner\na;normal;Training;0,25;;X\nb;tumour;validation;0.5;a.geojson;\n"
        "c;normal;test;;;Z\n"
    )
    slides = abc.read()
    assert [(slide.split, slide.mpp, slide.annotation) for slide in slides] == [
        ("train", 0.25, "a.geojson"),
        ("val", 0.5, "a.geojson"),
        ("test", None, ""),
    ]
    assert [slide.subgroups for slide in slides] == [
        {"scanner": "X"},
        {"scanner": ""},
        {"scanner": "Z"},
    ]


def test_a_path_column_of_the_sheet_is_replaced(abc):
    abc.sheet("slide,path,label\na,old/a.tif,n\nb,old/b.tif,t\nc,old/c.tif,t\n")
    assert [(slide.path, slide.subgroups) for slide in abc.read()] == [
        ("a.tif", {}),
        ("b.tif", {}),
        ("c.tif", {}),
    ]


def test_zeros_of_ids_stay(desk):
    desk.put("001.tif", "1.tif")
    desk.sheet("slide,patient,label\n001,01,n\n1,1,t\n")
    assert [(slide.slide, slide.patient, slide.label) for slide in desk.read()] == [
        ("001", "01", "n"),
        ("1", "1", "t"),
    ]


def test_xlsx(desk):
    desk.put("001.tif", "2.tif", "003.tif", "4.5.tif")
    desk.workbook(
        ["slide", "patient", "label", "taken", "age"],
        ["001", "07", 0, datetime(2020, 1, 2), 50],
        [],
        [2, 8.0, 1.0, None, 51.5],
        [3, "x", 1, None, None],
        [4.5, "y", 0],
        zeros="A5",
    )
    slides = desk.read()
    assert [(slide.slide, slide.patient, slide.label) for slide in slides] == [
        ("001", "07", "0"),
        ("003", "x", "1"),
        ("2", "8", "1"),
        ("4.5", "y", "0"),
    ]
    assert slides[0].subgroups == {"taken": "2020-01-02", "age": "50"}
    assert slides[2].subgroups == {"taken": "", "age": "51.5"}


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".xlsx", b"slide,label\na,n\n"),
        (".xls", b"slide,label\na,n\n"),
        (".xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
        (".csv", "slide,метка\na,опухоль\n".encode("cp1251")),
        (".csv", b"slide,label\na,n\x00\n"),
        (".csv", b"<html><table><tr><td>slide</td></tr></table></html>"),
        (".csv", b'slide,label\na,"n\nb,t\n'),
    ],
)
def test_spreadsheets_that_cannot_be_read(abc, suffix, content):
    abc.labels = abc.folder / f"bad{suffix}"
    abc.labels.write_bytes(content)
    assert re.search("save it as|write it twice", abc.refused())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("slide,label\n", "the table has no rows"),
        ("", "the table has no rows"),
        ("slide,label,label\na,n,n\n", "'label' is there twice"),
        ("slide,label\na,n\nb,t, really\n", "line 3 has more cells"),
        (
            "slide,label,diagnosis\na,n,x\nb,t,x\n",
            "the label could be in 'label' or 'diagnosis'; say which with",
        ),
        (
            "wsi,filename,label\na,a,n\n",
            "the slide could be in 'wsi' or 'filename'; say which with --slide-column",
        ),
        (
            "slide,case_id,subject,label\na,p,p,n\n",
            "the patient could be in 'case_id' or 'subject'",
        ),
        (
            "slide,grade,sex,id\na,1,f,1\nb,2,m,2\n",
            "it could be one of: grade, sex, id; say which with --label-column",
        ),
        ("name,label\na,n\n", "no column for the slide; it could be one of: name; say which"),
        (
            "slide,label\nz,n\ny,t\n",
            "column 'slide' has such as 'z', the folder has such as 'a.tif'",
        ),
        (
            "slide,label\na,n\nb,t\nA.tif,n\n",
            "slide a.tif stands on line 2 and on line 4; keep one",
        ),
        ("slide,label\na,\nb,NA\n", "no slide has a label in column 'label'"),
        ("slide,label\na,n\nb,t\nc,u\n", "column 'label': 3 labels for 3 slides (n, t, u, ...)"),
        ("slide,label\na,Tumour\nb,n\nc,tumour\n", "differ in case only (Tumour, tumour)"),
        ("slide,label\na,N\nb,n\n", "differ in case only (N, n)"),
        (
            "slide,label,patient,split\na,n,p,train\nb,t,p,test\n",
            "labels.csv: patient p is in two splits",
        ),
        (
            "slide,label,split\na,n,trian\nb,t,test\n",
            "labels.csv: line 2: slide a: no split named 'trian'",
        ),
        ("slide,label,mpp\na,n,40x\nb,t,\n", "labels.csv: line 2: slide a: mpp '40x'"),
        ("slide,label,annotation\na,n,no.xml\nb,t,\n", "slide a: no annotation"),
    ],
)
def test_spreadsheets_that_are_refused(abc, text, words):
    abc.sheet(text)
    assert words in abc.refused()


def test_a_mistake_names_the_users_file_not_ours(abc):
    abc.sheet("slide,label,mpp\na,n,40x\nb,t,\n")
    assert abc.refused().startswith(f"{abc.labels}: line 2: slide a")


def test_options_that_are_refused(abc):
    assert "did you mean 'label'" in abc.refused(label_column="lable")
    assert "--positive: no label named 'tumor'; did you mean 'tumour'" in abc.refused(
        positive="tumor"
    )
    assert "no such file" in abc.refused(labels=abc.folder / "none.csv")
    assert "no such folder" in abc.refused(slides=abc.folder / "none")
    with pytest.raises(DatasetError, match="letters, digits"):
        init("../mine", slides=abc.slides, labels=abc.labels, out=abc.out)


def test_no_slides(desk):
    (desk.slides / "readme.txt").write_text("empty")
    desk.sheet(LABELS)
    assert "no slides in this folder or below it; its files are: .txt" in desk.refused()


def test_more_than_twenty_labels(desk):
    desk.put(*(f"{i}.tif" for i in range(22)))
    desk.sheet("slide,label\n" + "".join(f"{i},L{min(i, 20)}\n" for i in range(22)))
    assert "21 labels for 22 slides" in desk.refused()


def test_survival_of_two_columns(abc):
    abc.sheet("slide,OS.time,OS\na,12,1\nb,30.5,0\nc,8,1\n")
    report = abc.init(label_options=LabelOptions(task="survival_cox"))
    assert (abc.out / "mine.csv").read_text() == (
        "slide,path,label\na,a.tif,12\nb,b.tif,30.5+\nc,c.tif,8\n"
    )
    dataset = load_dataset(str(abc.out / "mine.yaml"))
    assert (dataset.task, dataset.classes, dataset.positive) == ("survival_cox", [], None)
    assert "3 slides of 3 patients (survival_cox, event 2); 0 with annotation" in str(report)
    assert "label from 'OS.time and OS'" in str(report)


def test_more_numbers_than_classes_may_be_are_labels_of_a_regression(desk):
    desk.put(*(f"{i}.tif" for i in range(22)))
    desk.sheet("slide,label\n" + "".join(f"{i},{i}.5\n" for i in range(22)))
    assert "--task regression" in desk.refused()
    labels = desk.labelled(label_options=LabelOptions(task="regression"))
    assert labels["3"] == "3.5"
    assert len(labels) == 22


def test_a_label_that_is_no_number_is_refused_with_its_line(abc):
    abc.sheet("slide,label\na,1\nb,two\nc,3\n")
    refused = abc.refused(label_options=LabelOptions(task="regression"))
    assert "line 3: slide b: label 'two'; a number is needed" in refused


def test_the_proposed_command_repeats_the_task(abc):
    abc.sheet("Bild,label\na.svs,1\nb.svs,2\nc.svs,3\n")
    refused = abc.refused(label_options=LabelOptions(task="regression"))
    assert refused.endswith("--task regression --slide-column Bild")


def test_left_over_on_both_sides(abc):
    abc.put("d.tif", "e.tif", "x/f.tif")
    abc.sheet(LABELS + "ghost,normal\nspook.svs,tumour\ne,\n")
    report = abc.init()
    assert report.without_row == ["d.tif", "x/f.tif"]
    assert report.without_slide == ["ghost", "spook.svs"]
    assert report.without_label == ["e.tif"]
    assert [row["slide"] for row in read_csv(report.csv)] == ["a", "b", "c"]
    assert "slides without a row in the table, left out (2): d.tif, x/f.tif" in str(report)
    assert "rows without a slide, left out (2): ghost, spook.svs" in str(report)


def test_long_lists_are_shortened_in_the_report(abc):
    abc.sheet(LABELS + "".join(f"g{i},normal\n" for i in range(9)))
    assert "left out (9): g0, g1, g2 and 6 more" in str(abc.init())


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        ("1 0", ["0", "1"]),
        ("positive negative", ["negative", "positive"]),
        ("Cancer Normal", ["Normal", "Cancer"]),
        ("malignant benign", ["benign", "malignant"]),
        ("yes no", ["no", "yes"]),
        ("MSIH nonMSIH", ["nonMSIH", "MSIH"]),
        ("B A", ["A", "B"]),
        ("10 9", ["9", "10"]),
    ],
)
def test_order_of_classes(abc, labels, order):
    first, second = labels.split()
    abc.sheet(f"slide,label\na,{first}\nb,{second}\nc,{first}\n")
    report = abc.init()
    dataset = load_dataset(str(report.yaml))
    assert dataset.classes == order
    assert dataset.positive == report.positive == order[-1]


def test_the_positive_class_comes_last(abc):
    abc.sheet("slide,label\na,x\nb,y\nc,y\n")
    report = abc.init(positive="x")
    dataset = load_dataset(str(report.yaml))
    assert (dataset.classes, dataset.positive) == (["y", "x"], "x")


def test_annotations(desk):
    desk.put("in/a.tif", "in/b.tif", "in/c.tif", "in/d.tif", "in/e.tif", "in/f.tif")
    beside = desk.slides / "in"
    inside = desk.slides / "annotations"
    outside = desk.folder / "annotations"
    for folder in (inside, outside):
        folder.mkdir()
    (beside / "a.xml").write_text(ASAP)
    (outside / "a.xml").write_text(ASAP)
    (inside / "b.geojson").write_text("{}")
    (outside / "C.XML").write_text(ASAP)
    (beside / "d.xml").write_text("<Annotations MicronsPerPixel='0.5'/>")  # Aperio's
    (beside / "e.xml").write_text("<Annotations/>")
    (inside / "e.geojson").write_text("{}")
    halo = "<Annotations><Annotation Name='T'><Regions><Region Type='Polygon'/></Regions>"
    (inside / "f.annotations").write_text(f"{halo}</Annotation></Annotations>")
    desk.sheet("slide,label\na,n\nb,t\nc,n\nd,t\ne,n\nf,t\n")
    report = desk.init()
    dataset, slides = read_dataset(str(report.yaml))
    assert {slide.slide: slide.annotation for slide in slides} == {
        "a": "in/a.xml",
        "b": "annotations/b.geojson",
        "c": str(outside / "C.XML"),
        "d": "",
        "e": "annotations/e.geojson",
        "f": "annotations/f.annotations",
    }
    assert report.foreign == ["in/d.xml", "in/e.xml"]
    assert report.num_annotated == 5
    assert locate_annotation(slides[2], Path(dataset.slides_dir), dataset) == outside / "C.XML"


def test_an_annotation_for_two_slides_is_nobodys_unless_it_is_near(desk):
    desk.put("x/a.tif", "y/a.tif", "z/a.tif", "w/a.tif")
    for name in ("annotations/a.xml", "annotations/y_a.xml", "z/a.xml", "w/annotations/a.xml"):
        (desk.slides / name).parent.mkdir(exist_ok=True)
        (desk.slides / name).write_text(ASAP)
    desk.sheet("slide,label\nx/a,n\ny/a,t\nz/a,n\nw/a,n\n")
    assert {slide.slide: slide.annotation for slide in desk.read()} == {
        "w_a": "w/annotations/a.xml",
        "x_a": "",
        "y_a": "annotations/y_a.xml",
        "z_a": "z/a.xml",
    }


def test_overwrites_only_with_force(abc):
    first = abc.init()
    before = first.yaml.read_bytes(), first.csv.read_bytes()
    abc.sheet("slide,label\na,x\nb,y\nc,y\n")
    with pytest.raises(DatasetError, match=r"mine\.yaml: exists already; .* --force"):
        abc.init()
    first.yaml.unlink()
    with pytest.raises(DatasetError, match=r"mine\.csv: exists already"):
        abc.init()
    assert first.csv.read_bytes() == before[1]
    assert list(abc.init(force=True).counts) == ["x", "y"]


def test_never_overwrites_the_spreadsheet(abc):
    abc.labels = abc.labels.rename(abc.folder / "mine.csv")
    with pytest.raises(DatasetError, match="would replace it"):
        abc.init(out=abc.folder, force=True)
    assert abc.labels.read_text() == LABELS


def test_a_failed_overwrite_leaves_the_old_dataset(abc):
    first = abc.init()
    before = first.yaml.read_bytes(), first.csv.read_bytes()
    abc.sheet("slide,label,mpp\na,n,40x\nb,t,\n")
    with pytest.raises(DatasetError):
        abc.init(force=True)
    assert (first.yaml.read_bytes(), first.csv.read_bytes()) == before
    assert sorted(abc.out.iterdir()) == [first.csv, first.yaml]


def test_odd_characters_in_the_folders_name(abc):
    odd = abc.folder / 'my "slides": #1 [x] é'
    abc.slides.rename(odd)
    assert load_dataset(str(abc.init(slides=odd).yaml)).slides_dir == str(odd)


def test_braces_of_a_path_are_refused_as_the_workflow_would(abc):
    odd = abc.folder / "{x}"
    abc.slides.rename(odd)
    message = abc.refused(slides=odd)
    assert "{x}/a.tif: the workflow takes { } in a path for wildcards; rename it" in message


def test_one_label_is_enough_to_look_at_slides(abc):
    abc.sheet("slide,label\na,n\nb,n\n")
    report = abc.init()
    assert report.counts == {"n": 2}
    assert "none can be trained on them" in str(report)


def test_names_that_a_program_cut_off_at_the_last_dot(desk):
    desk.put("a.ome.tif", "b.OME.TIFF", "c.tif")
    desk.sheet("slide,label\na.ome,normal\nb.ome,tumour\nc,normal\n")
    assert desk.labelled() == {"a": "normal", "b": "tumour", "c": "normal"}
