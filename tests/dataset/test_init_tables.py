"""`mil dataset init` on spreadsheets with faults: all of them, and the command that mends them."""

import unicodedata
from pathlib import Path

import pytest
from openpyxl import Workbook

from mil.dataset.init import init
from mil.errors import DatasetError
from mil.io.tables import Slide, read_dataset
from mil.io.tables.paths import locate, locate_annotation, locate_masks
from tests.messages import one_line


class Desk:
    """A folder of slides, which OpenSlide does not open, and a spreadsheet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.slides = folder / "slides"
        self.labels = folder / "labels.csv"
        self.slides.mkdir()

    def put(self, *names: str) -> None:
        for name in names:
            (self.slides / name).write_bytes(b"no slide")

    def init(self, text: str | None = None, **options: object):
        if text is not None:
            self.labels.write_text(text, encoding="utf-8")
        return init(
            "mine", slides=self.slides, labels=self.labels, out=self.folder / "out", **options
        )

    def read(self, text: str | None = None, **options: object) -> list[Slide]:
        self.init(text, force=True, **options)
        return read_dataset(str(self.folder / "out" / "mine.yaml"))[1]


@pytest.fixture
def desk(tmp_path) -> Desk:
    desk = Desk(tmp_path)
    desk.put("a.svs", "b.svs", "c.svs", "d.svs")
    return desk


def test_accents_written_apart_are_equal(desk):
    apart = unicodedata.normalize("NFD", "Gómez_1")
    desk.put(f"{apart}.svs", "se\u00adrös.svs")
    slides = desk.read("slide,label\nGómez_1,n\nserös,t\na,n\n")
    assert [slide.slide for slide in slides] == ["Gómez_1", "a", "serös"]
    dataset, _ = read_dataset(str(desk.folder / "out" / "mine.yaml"))
    # The table holds composed names, yet the files are found.
    files = {slide.slide: locate(slide, desk.slides, dataset) for slide in slides}
    assert all(file.is_file() for file in files.values())
    assert files["Gómez_1"].name == f"{apart}.svs"


def test_names_by_pattern_and_masks_are_found_in_either_form(desk):
    apart = unicodedata.normalize("NFD", "Müller")
    for folder in ("tissue", "annotations"):
        (desk.slides / folder).mkdir()
        (desk.slides / folder / f"{apart}.geojson").write_text("{}")
    desk.put(f"{apart}.svs")
    dataset, _ = read_dataset("configs/datasets/demo_mini.yaml")
    patterns = {
        "slide_paths": ["{slide}.svs"],
        "annotation_paths": ["annotations/{slide}.geojson"],
    }
    dataset = dataset.model_copy(update=patterns)
    slide = Slide("Müller", "p", "n")
    assert locate(slide, desk.slides, dataset).name == f"{apart}.svs"
    assert locate_annotation(slide, desk.slides, dataset).is_file()
    masks = locate_masks([slide], desk.slides, dataset)
    assert masks["Müller"]["tissue"].is_file()


def test_labels_that_differ_in_nothing_visible_are_one_class(desk):
    text = "slide,label\na,serös\nb,sero\u0308s\nc,ser\u00adös\nd,mucinous\u00a0\n"
    assert desk.init(text).counts == {"mucinous": 1, "serös": 3}


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ("0 0.0 1 1.0", {"0": 2, "1": 2}),
        ("0 1e0 1 01", {"0": 1, "1": 3}),
        ("00 01 01 00", {"00": 2, "01": 2}),
        ("0,5 0.5 1 1", {"0.5": 2, "1": 2}),
    ],
)
def test_equal_numbers_are_one_class(desk, labels, classes):
    rows = "".join(f"{name};{label}\n" for name, label in zip("abcd", labels.split(), strict=True))
    report = desk.init("slide;label\n" + rows)
    assert report.counts == classes
    assert ("equal numbers are one class" in str(report)) == ("00" not in labels)


def test_look_alikes_are_shown_with_escapes_and_mapped_by_relabel(desk):
    text = "slide,label\na,Cerous\nb,\u0421erous\nc,Cerous\nd,non\u2011tumour\n"
    with one_line(DatasetError) as caught:
        desk.init(text)
    assert "labels that look alike ('Cerous', '\\u0421erous'); write them the same" in str(
        caught.value
    )
    assert str(caught.value).endswith("--relabel '\u0421erous=Cerous'")
    assert desk.init(text, relabel=["\u0421erous=Cerous"]).counts == {"Cerous": 3, "non‑tumour": 1}


def test_relabel(desk):
    text = "slide,label\na,-\nb,+\nc,-\nd,+\n"
    assert desk.init(text, relabel=["-=neg", "+=pos"]).counts == {"neg": 2, "pos": 2}
    report = desk.init(text, force=True)
    assert report.counts == {"+": 2}
    assert "labels that count as empty: '-'; if not: --relabel OLD=NEW" in str(report)
    assert report.without_label == ["a.svs", "c.svs"]
    with one_line(DatasetError, "--relabel: no label named 'x'"):
        desk.init(text, relabel=["x=y"], force=True)
    for option in ("x", "x=", "x=NA"):
        with one_line(DatasetError, "write OLD=NEW"):
            desk.init(text, relabel=[option], force=True)


def test_all_faults_and_the_command_that_mends_them(desk):
    text = (
        "Studie 7\n\nBild;Diagnose;Fall\na.svs;Tumor;1\nb.svs;TUMOR;2\nc.svs;normal;\n"
        "c.svs;normal;3\nd.svs;Tumor;3\n"
    )
    with pytest.raises(DatasetError) as caught:
        desk.init(text)
    first, *faults, command = str(caught.value).splitlines()
    assert first == f"{desk.labels}: 5 faults:"
    assert [fault.strip(" -").partition(";")[0] for fault in faults] == [
        "no column for the slide",
        "no column for the label",
        "slide c.svs stands on line 6 and on line 7",
        "labels that differ in case only (TUMOR, Tumor)",
        "1 of 4 slides have no patient in column 'Fall' (c)",
    ]
    assert command == (
        f"try: mil dataset init mine --slides {desk.slides} --labels {desk.labels} "
        "--slide-column Bild --label-column Diagnose --patient-column Fall --relabel TUMOR=Tumor"
    )
    mended = text.replace("c.svs;normal;\n", "")
    options = {"slide_column": "Bild", "label_column": "Diagnose", "relabel": ["TUMOR=Tumor"]}
    report = desk.init(mended, **options)
    assert report.counts == {"normal": 1, "Tumor": 3}
    assert "the header is line 3; 1 lines above it left out" in str(report)
    assert "if 'Fall' has them" in str(report)


@pytest.mark.parametrize("header", ["fichier,diagnostic", "archivo,clase", "Datei-Name,Befund"])
def test_columns_in_other_languages_are_proposed(desk, header):
    slide, label = header.split(",")
    with pytest.raises(DatasetError) as caught:
        desk.init(f"{header}\na,x\nb,y\nc,x\nd,y\n")
    assert str(caught.value).endswith(f"--slide-column {slide} --label-column {label}")


def test_the_column_of_slides_is_proposed_by_its_cells(desk):
    with one_line(DatasetError, "column 'Ref' names slides of the folder: --slide-column Ref"):
        desk.init("slide,Ref,label\nx1,a,n\nx2,b,t\nx3,c,n\n")
    with one_line(DatasetError, "--slide-column Ref$"):
        desk.init("no,Ref,label\n1,a,n\n2,b,t\n3,c,n\n")


def test_a_table_of_which_no_row_can_be_read(desk):
    with one_line(DatasetError, "line 2 has more cells than the header; put text with a comma"):
        desk.init("slide,label\na,n,x\nb,t,y\n")


def test_a_table_without_header_is_named_so(desk):
    with one_line(DatasetError, "the first line is no header, for 'a' is a slide; write one"):
        desk.init("a,n\nb,t\nc,n\n")


def test_patients_merged_in_excel_stay_together_and_are_told(desk):
    book = Workbook()
    for row in (["patient", "slide", "label"], ["p", "a", "n"], [None, "b", "n"], ["q", "c", "t"]):
        book.active.append(row)
    book.active.merge_cells("A2:A3")
    desk.labels = desk.folder / "labels.xlsx"
    book.save(desk.labels)
    report = desk.init()
    assert (report.num_slides, report.num_patients) == (3, 2)
    assert "1 cells filled from merged cells (A2:A3)" in str(report)
    # The same table saved as csv has lost the merging.
    desk.labels = desk.folder / "labels.csv"
    with one_line(DatasetError, r"1 of 3 slides have no patient in column 'patient' \(b\)"):
        desk.init("patient,slide,label\np,a,n\n,b,n\nq,c,t\n", force=True)


@pytest.mark.parametrize("word", ["NA", "NULL", "None", "#VALUE!", "-"])
def test_strangers_without_patient_are_not_one_patient(desk, word):
    text = f"slide,patient,label\na,p,n\nb,{word},t\nc,{word},t\nd,q,n\n"
    with one_line(DatasetError, "2 of 4 slides have no patient"):
        desk.init(text)
    report = desk.init(text.replace(",p,", f",{word},").replace(",q,", f",{word},"))
    assert report.num_patients == 4
    assert "no column for the patient" in str(report)
