"""The dataset of an import: labels of any tool's tables, a split, pixel sizes, and faults."""

import h5py
import pytest
from openpyxl import Workbook

from mil.io.bags import read_bag
from mil.io.tables import read_csv, read_dataset
from tests.interop.layouts import (
    CLAM_TABLE,
    bags,
    import_dataset,
    put_text,
    write_acmil,
    write_clam,
    write_stamp,
    write_trident,
)
from tests.synthetic import tissue_slide

IDS = ("001", "002", "003", "004")


@pytest.fixture
def job(tmp_path):
    """Four slides of TRIDENT, whose ids are numbers with zeros before them."""
    for seed, slide in enumerate(IDS):
        write_trident(tmp_path / "job", slide, seed=seed)
    return tmp_path / "job"


@pytest.mark.parametrize(
    "table",
    [
        CLAM_TABLE,
        CLAM_TABLE.replace("slide_id", "wsi")
        .replace("001", "001.svs")
        .replace("004", "deep/er/004.ome.tif"),
        CLAM_TABLE.replace("slide_id", "FILENAME")
        .replace("case_id", "PATIENT")
        .replace(",label", ",target"),
        CLAM_TABLE.replace("slide_id", "slide").replace("case_id", "patient").replace(",", ";"),
    ],
)
def test_any_tools_table(job, table):
    code, output, rows = import_dataset(job, "--labels", put_text(job.parent / "labels.csv", table))
    assert code == 0, output
    assert {slide: (row.patient, row.label) for slide, row in rows.items()} == {
        "001": ("p1", "tumor"),
        "002": ("p1", "tumor"),
        "003": ("p2", "normal"),
        "004": ("p3", "normal"),
    }
    assert "dataset set: 4 slides (normal 2, tumor 2)" in output
    config, _ = read_dataset(str(job.parent / "sets/set.yaml"))
    assert (config.classes, config.positive) == (["normal", "tumor"], "tumor")
    assert read_csv(job.parent / "sets/set.csv")[0].keys() == {
        "slide",
        "patient",
        "label",
    }  # nothing that is not known


def test_a_run_on_an_imported_dataset_needs_no_further_setting(job):
    table = put_text(job.parent / "labels.csv", CLAM_TABLE)
    code, output, _ = import_dataset(job, "--labels", table)
    assert code == 0, output
    config, _ = read_dataset(str(job.parent / "sets/set.yaml"))
    assert config.bags == str((job.parent / "bags").resolve())
    assert output.endswith(f"--config dataset={job.parent / 'sets/set.yaml'}\n")


SURVIVAL_TABLE = """\
slide_id,case_id,grade,OS_MONTHS,OS_STATUS,stain
001,p1,low,"12,5",1:DECEASED,x
002,p1,low,"12,5",1:DECEASED,y
003,p2,high,30,0:LIVING,x
004,p3,mid,7,1,y
"""


def test_times_and_events_become_the_label_of_survival(job):
    table = put_text(job.parent / "labels.csv", SURVIVAL_TABLE)
    code, output, rows = import_dataset(job, "--labels", table, "--task", "survival_cox")
    assert code == 0, output
    assert [rows[slide].label for slide in IDS] == ["12.5", "12.5", "30+", "7"]
    # The event is no subgroup, since it is part of the label.
    assert rows["001"].subgroups == {"grade": "low", "stain": "x"}
    assert "dataset set: 4 slides (survival_cox, event 3)" in output
    config, _ = read_dataset(str(job.parent / "sets/set.yaml"))
    assert (config.task, config.classes, config.positive) == ("survival_cox", [], None)


def test_a_time_without_its_event_is_no_label(job):
    text = SURVIVAL_TABLE.replace("30,0:LIVING", "30,NA")
    table = put_text(job.parent / "labels.csv", text)
    code, output, rows = import_dataset(job, "--labels", table, "--task", "survival_discrete")
    assert code == 0, output
    assert sorted(rows) == ["001", "002", "004"]
    assert "1 bags without a label, left out of the dataset: 003" in output


def test_times_of_stamps_patients_are_theirs(tmp_path):
    for slide in ("a", "b"):
        write_stamp(tmp_path / "job", slide)
    slides = put_text(tmp_path / "slides.csv", "PATIENT,FILENAME\np1,a.h5\np2,b.h5\n")
    clini = put_text(tmp_path / "clini.csv", "PATIENT,days,dead\np1,100,0\np2,50,1\n")
    options = ("--labels", clini, "--slide-table", slides, "--task", "survival_cox")
    columns = ("--time-column", "days", "--event-column", "dead")
    code, output, rows = import_dataset(tmp_path / "job", *options, *columns)
    assert code == 0, output
    assert {slide: row.label for slide, row in rows.items()} == {"a": "100+", "b": "50"}


def test_numbers_and_ordered_classes_are_labels_of_their_tasks(job):
    table = put_text(job.parent / "labels.csv", SURVIVAL_TABLE)
    months = ("--label-column", "OS_MONTHS", "--task", "regression")
    code, output, rows = import_dataset(job, "--labels", table, *months)
    assert code == 0, output
    assert [rows[slide].label for slide in IDS] == ["12.5", "12.5", "30", "7"]
    assert "dataset set: 4 slides (regression)" in output
    grades = ("--label-column", "grade", "--task", "ordinal", "--classes", "low, mid, high")
    code, output, _ = import_dataset(job, "--labels", table, *grades)
    assert code == 0, output
    assert "4 slides (ordinal, low 2, mid 1, high 1)" in output
    config, _ = read_dataset(str(job.parent / "sets/set.yaml"))
    assert (config.classes, config.positive) == (["low", "mid", "high"], "high")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--task", "survival"), "--task: no task named 'survival'"),
        (("--task", "ordinal"), "give --classes LOW,MIDDLE,HIGH"),
        (("--task", "regression", "--classes", "a,b"), "leave out --classes"),
        (("--task", "ordinal", "--classes", "low,high,low"), "--classes: low stands there twice"),
        (
            ("--task", "survival_cox", "--label-column", "grade", "--time-column", "OS_MONTHS"),
            "in place of --time-column and --event-column",
        ),
        (("--classes", "a,b"), "--positive names the last"),
        (("--time-column", "OS_MONTHS"), "not of the task classification"),
        (
            ("--task", "regression", "--label-column", "grade"),
            "line 2: slide 001: label 'low'; a number is needed",
        ),
        (
            ("--task", "regression", "--label-column", "OS_MONTHS", "--positive", "7"),
            "--positive: labels of the task regression are numbers",
        ),
        (
            ("--task", "survival_cox", "--event-column", "stain"),
            "line 2: event 'x' is neither 1 (the event came) nor 0 (censored)",
        ),
        (
            ("--task", "ordinal", "--classes", "low,high", "--label-column", "grade"),
            "line 5: slide 004: label 'mid'; the dataset's classes are: low, high",
        ),
    ],
)
def test_labels_that_are_not_of_the_task_write_nothing(job, options, line):
    table = put_text(job.parent / "labels.csv", SURVIVAL_TABLE)
    code, output, rows = import_dataset(job, "--labels", table, *options)
    assert (code, rows) == (1, {})
    assert line in output
    assert not (job.parent / "bags").exists()


def test_stamps_two_tables(tmp_path):
    for slide in ("x/001", "y/002"):
        write_stamp(tmp_path / "out", slide)
    book = Workbook()
    for row in (["PATIENT", "KRAS", "age"], ["01", "mut", 60], ["02", "wt", 70]):
        book.active.append(row)
    book.save(tmp_path / "clini.xlsx")
    slides = put_text(
        tmp_path / "slides.csv", "PATIENT,FILENAME\n01,x/001.h5\n02,y/002.h5\n02,y/gone.h5\n"
    )
    options = ("--labels", tmp_path / "clini.xlsx", "--label-column", "KRAS", "--mpp", 0.25)
    code, output, _ = import_dataset(tmp_path / "out", *options)
    assert (code, "give the table of their slides too: --slide-table FILE" in output) == (1, True)
    code, output, rows = import_dataset(
        tmp_path / "out", *options, "--slide-table", slides, "--positive", "mut"
    )
    assert code == 0, output
    assert {slide: (row.patient, row.label, row.mpp) for slide, row in rows.items()} == {
        "001": ("01", "mut", 0.25),
        "002": ("02", "wt", 0.25),
    }
    assert "1 rows of the table without a bag: y/gone.h5" in output


def test_all_columns_of_both_of_stamps_tables_are_kept(tmp_path):
    for slide in ("a", "b"):
        write_stamp(tmp_path / "out", slide)
    clini = put_text(tmp_path / "clini.csv", "PATIENT,label,site,age\np,x,Ulm,60\nq,y,Bonn,70\n")
    slides = put_text(tmp_path / "slides.csv", "PATIENT,FILENAME,scanner\np,a.h5,one\nq,b.h5,two\n")
    code, output, rows = import_dataset(
        tmp_path / "out", "--labels", clini, "--slide-table", slides
    )
    assert code == 0, output
    assert rows["a"].subgroups == {"scanner": "one", "site": "Ulm", "age": "60"}
    assert rows["b"].subgroups == {"scanner": "two", "site": "Bonn", "age": "70"}
    assert (rows["a"].label, rows["b"].patient) == ("x", "q")


def test_our_columns_of_a_table_are_ours_after_the_import_too(job):
    table = put_text(
        job.parent / "labels.csv",
        "slide,label,Split,mpp,annotation,path,site\n001,a,training,0.5,x.xml,p,s\n"
        '002,b,TEST,"0,25",,q,s\n003,a,Validation,0.5,,r,s\n004,b,train,0.5,,t,s\n',
    )
    code, output, rows = import_dataset(job, "--labels", table)
    assert code == 0, output
    assert [row.split for row in rows.values()] == ["train", "test", "val", "train"]
    assert [row.mpp for row in rows.values()] == [0.5, 0.25, 0.5, 0.5]
    assert rows["001"].annotation == "x.xml"
    assert rows["001"].subgroups == {"sheet_path": "p", "site": "s"}


def test_a_column_that_holds_no_splits_is_kept_under_another_name(job):
    table = put_text(
        job.parent / "labels.csv", "slide,label,split\n001,a,k1\n002,b,k2\n003,a,\n004,b,k1\n"
    )
    code, output, rows = import_dataset(job, "--labels", table)
    assert code == 0, output
    assert [row.subgroups["sheet_split"] for row in rows.values()] == ["k1", "k2", "", "k1"]
    assert {row.split for row in rows.values()} == {""}


def test_a_patient_in_two_splits_is_found_before_bags_are_written(job):
    table = put_text(
        job.parent / "labels.csv",
        "slide,patient,label,split\n001,p,a,train\n002,p,b,test\n003,q,a,train\n004,r,b,test\n",
    )
    code, output, _ = import_dataset(job, "--labels", table)
    assert (code, "patient p is in two splits" in output) == (1, True)
    assert not (job.parent / "bags").exists()


def test_a_patient_with_two_labels_has_none(tmp_path):
    write_stamp(tmp_path / "out", "a")
    clini = put_text(tmp_path / "clini.csv", "PATIENT,label\np,x\np,y\n")
    slides = put_text(tmp_path / "slides.csv", "PATIENT,FILENAME\np,a.h5\n")
    code, output, _ = import_dataset(tmp_path / "out", "--labels", clini, "--slide-table", slides)
    assert (code, "line 3: patient p has two labels; keep one" in output) == (1, True)


def test_acmils_labels_are_inside(tmp_path):
    path = write_acmil(tmp_path / "patch_feats_pretrain_ssl.h5", {"n1": 0, "t1": 1, "t2": 1})
    code, output, rows = import_dataset(path)
    assert code == 0, output
    assert {slide: row.label for slide, row in rows.items()} == {"n1": "0", "t1": "1", "t2": "1"}


def test_labels_are_asked_for(job):
    code, output, rows = import_dataset(job)
    assert (code, rows) == (1, {})
    assert output == "a dataset of bags of trident needs their labels; give --labels FILE"
    assert not (job.parent / "bags").exists()  # Reported before anything is written.


def test_ids_are_those_that_init_gives_the_slides(tmp_path):
    for name in ("A.ome", "UID.1.2", "O'Brien 1", "cafe\u0301"):
        write_trident(tmp_path / "job", name)
    table = put_text(
        tmp_path / "labels.csv",
        "slide,label\nA.ome.tif,x\nUID.1.2,y\nO'Brien 1.svs,x\ncafe\u0301.svs,y\n",
    )
    code, output, rows = import_dataset(tmp_path / "job", "--labels", table)
    assert code == 0, output
    assert sorted(rows) == ["A", "O_Brien 1", "UID.1.2", "caf\u00e9"]
    assert {path.stem for path in (tmp_path / "bags").glob("*.h5")} == set(rows)


def test_groups_whose_names_cannot_be_files_get_ids_that_can(tmp_path):
    path = write_acmil(tmp_path / "patch_feats_pretrain_ssl.h5", {"o'f": 0, "x.1": 1})
    code, output, rows = import_dataset(path)
    assert code == 0, output
    assert {slide: row.label for slide, row in rows.items()} == {"o_f": "0", "x.1": "1"}


def test_what_is_left_over_is_named(job):
    table = put_text(
        job.parent / "labels.csv", "slide,label,site\n001,a,x\n002,b,y\n003,,z\n099,a,z\n"
    )
    code, output, rows = import_dataset(job, "--labels", table)
    assert (code, sorted(rows)) == (0, ["001", "002"])
    assert "2 bags without a label, left out of the dataset: 004, 003" in output
    assert "1 rows of the table without a bag: 099" in output
    assert rows["002"].subgroups == {"site": "y"}


def test_no_dataset_of_half_the_files(job):
    (job / "20x_256px_0px_overlap/features_uni_v1/002.h5").write_bytes(b"cut")
    code, output, rows = import_dataset(
        job, "--labels", put_text(job.parent / "labels.csv", CLAM_TABLE)
    )
    assert (code, rows) == (1, {})
    assert "dataset set: not written, since not all files could be used" in output
    assert "now: snakemake" not in output


def test_nothing_is_overwritten_unasked(job, tmp_path):
    labels = put_text(tmp_path / "labels.csv", CLAM_TABLE)
    assert import_dataset(job, "--labels", labels)[0] == 0
    to = (
        "--out",
        tmp_path / "other",
        "--dataset",
        "set",
        "--datasets",
        tmp_path / "sets",
        "--labels",
        labels,
    )
    code, output = bags("import", job, *to)
    assert (
        code,
        "set.yaml: is there already; choose another name, or overwrite it with --force" in output,
    ) == (1, True)
    code, output = bags("import", job, "--out", tmp_path / "bags")
    assert (code, "has bags of 001, 002, 003 and 1 more already" in output) == (1, True)
    code, output = bags("export", tmp_path / "bags", "--to", "clam", "--out", tmp_path / "sets")
    assert (code, "sets: is not empty; choose another --out" in output) == (1, True)


@pytest.mark.parametrize(
    ("table", "options", "line"),
    [
        (
            "slide,label\n" + "".join(f"{i:03},{i}\n" for i in range(1, 5)),
            ("--positive", "9"),
            "no label named '9'",
        ),
        (
            "slide,outcome,grade\n001,a,b\n",
            ("--label-column", "x"),
            "--label-column: no column named 'x'",
        ),
        ("name,label\n001,a\n", (), "no column for the slide"),
        ("slide,label\nzzz,a\n", (), "no row names a slide of the folder"),
        ("slide,label\n001,a\n001.svs,b\n", (), "stands on line 2 and on line 3; keep one"),
    ],
)
def test_tables_that_do_not_fit(job, table, options, line):
    code, output, rows = import_dataset(
        job, "--labels", put_text(job.parent / "labels.csv", table), *options
    )
    assert (code, rows) == (1, {})
    assert line in output
    assert not (job.parent / "bags").exists()


def test_pixel_sizes_from_a_table(job):
    table = put_text(job.parent / "mpp.csv", "wsi,mpp\n001.svs,0.2472\n002.svs,\n003.svs,0.499\n")
    code, output = bags("import", job, "--out", job.parent / "bags", "--mpp-table", table)
    assert code == 0, output
    assert {slide: read_bag(job.parent / f"bags/{slide}.h5").mpp_level0 for slide in IDS} == {
        "001": 0.2472,
        "002": None,
        "003": 0.499,
        "004": None,
    }
    assert "not known for 2 of 4 bags: pixel size" in output
    assert "in 1 slides, most in 003: 0.499 µm, not 0.25" in output
    put_text(table, "wsi,mpp\n001,72\n")
    code, output = bags(
        "import", job, "--out", job.parent / "bags", "--mpp-table", table, "--force"
    )
    assert (code, "slide 001: mpp '72' is not a number of micrometres per pixel" in output) == (
        1,
        True,
    )
    put_text(table, "Scans of 2024\n\nRef;mpp\n001;0,2472\n002;0,25\n")
    options = ("--mpp-table", table, "--slide-column", "Ref", "--force")
    code, output = bags("import", job, "--out", job.parent / "bags", *options)
    assert code == 0, output
    assert read_bag(job.parent / "bags/001.h5").mpp_level0 == 0.2472
    put_text(table, "wsi,scale\n001,72\n")
    assert (
        "no column 'mpp'" in bags("import", job, "--out", job.parent / "b", "--mpp-table", table)[1]
    )


def test_pixel_sizes_from_the_slides(job, tmp_path):
    tissue_slide(tmp_path / "slides/001.tif", (256, 256), 0.2472)
    tissue_slide(tmp_path / "slides/002.tif", (256, 256), None)
    labels = put_text(tmp_path / "labels.csv", CLAM_TABLE)
    code, output, rows = import_dataset(
        job, "--slides-dir", tmp_path / "slides", "--labels", labels
    )
    assert code == 0, output
    assert read_bag(tmp_path / "bags/001.h5").mpp_level0 == pytest.approx(0.2472, rel=1e-3)
    assert read_bag(tmp_path / "bags/002.h5").mpp_level0 is None
    assert "no pixel size: 002 (no pixel size in OpenSlide's properties" in output
    assert "003 (no such slide)" in output
    assert rows["001"].mpp == pytest.approx(0.2472, rel=1e-3)
    assert read_dataset(str(tmp_path / "sets/set.yaml"))[0].slides_dir == str(tmp_path / "slides")


def test_bags_of_one_folder_are_of_one_encoder(job, tmp_path):
    write_clam(tmp_path / "clam")
    assert bags("import", job, "--out", tmp_path / "bags")[0] == 0
    code, output = bags(
        "import", tmp_path / "clam", "--out", tmp_path / "bags", "--encoder", "resnet50"
    )
    assert (code, "encoder is resnet50, but uni in the others" in output) == (1, True)
    code, output = bags("import", tmp_path / "clam", "--out", tmp_path / "b2")
    assert (code, output) == (
        1,
        "clam does not say which encoder made the features; name it with --encoder NAME",
    )


def test_a_slide_that_is_there_twice(job, tmp_path):
    other = job / "20x_256px_0px_overlap/features_conch"
    other.mkdir()
    (other / "001.h5").write_bytes(
        (job / "20x_256px_0px_overlap/features_uni_v1/001.h5").read_bytes()
    )
    code, output = bags("import", job, "--out", tmp_path / "bags")
    assert (
        code,
        "slide 001 is there twice" in output,
        "name the folder of one of them" in output,
    ) == (
        1,
        True,
        True,
    )


def test_files_of_two_tools(tmp_path):
    write_trident(tmp_path / "both", "a")
    write_stamp(tmp_path / "both", "b")
    code, output = bags("import", tmp_path / "both", "--out", tmp_path / "bags")
    assert (code, output) == (1, "files of stamp and trident together; name the folder of one")


def test_our_own_bags_are_not_imported(job, tmp_path):
    assert bags("import", job, "--out", tmp_path / "bags")[0] == 0
    output = bags("import", tmp_path / "bags", "--out", tmp_path / "again")[1]
    assert "is a bag already; there is nothing to import" in output


def test_saying_whose_it_is_does_not_make_features_of_coordinates(tmp_path):
    write_clam(tmp_path / "results")
    code, output = bags(
        "import",
        tmp_path / "results",
        "--from",
        "clam",
        "--out",
        tmp_path / "bags",
        "--encoder",
        "r",
    )
    assert (code, "1 of 1 bags from clam" in output) == (0, True)
    assert read_bag(tmp_path / "bags/a.h5").side_level0_px == 1024.0


def test_a_file_without_its_signs_is_read_as_what_the_user_says(tmp_path):
    path = write_trident(tmp_path / "job")
    with h5py.File(path, "r+") as file:
        for name in list(file["coords"].attrs):
            del file["coords"].attrs[name]
        del file["features"].attrs["encoder"]
    assert (
        "name it with --encoder NAME" in bags("import", path, "--out", tmp_path / "bags")[1]
    )  # as CLAM's
    assert bags("import", path, "--out", tmp_path / "bags", "--from", "trident")[0] == 0
    assert read_bag(tmp_path / "bags/a.h5").encoder == "uni"


def test_labels_of_an_import_are_read_as_init_reads_them(job):
    table = put_text(
        job.parent / "labels.csv",
        "Study 7\n\nsep\nslide;case_id;label\n001;p1;1,0\n002;p1;1\n003;p2;0\n004;NULL;-\n",
    )
    code, output, _ = import_dataset(job, "--labels", table)
    assert code == 0, output
    assert "equal numbers are one class: 1,0, 1 -> 1" in output
    assert "the header is line 4" in output
    assert "labels that count as empty: '-'" in output
    config, slides = read_dataset(str(job.parent / "sets/set.yaml"))
    assert (config.classes, [slide.slide for slide in slides]) == (
        ["0", "1"],
        ["001", "002", "003"],
    )


def test_faults_of_an_imports_labels_are_in_one_answer(job):
    text = "slide;case_id;label\n001;p1;Tumor\n002;p1;tumor\n003;;normal\n003;p3;normal\n004;p4;x\n"
    table = put_text(job.parent / "labels.csv", text)
    code, output, _ = import_dataset(job, "--labels", table)
    assert code == 1
    assert "3 faults" in output
    assert "003.h5 stands on line 4 and on line 5" in output
    assert "labels that differ in case only (Tumor, tumor)" in output
    assert "1 of 4 slides have no patient in column 'case_id' (003)" in output
    assert "try: mil bags import … --relabel tumor=Tumor" in output
    put_text(table, text.replace("003;;normal\n", ""))
    code, output, _ = import_dataset(job, "--labels", table, "--relabel", "Tumor=tumor")
    assert code == 0, output
    assert "normal 1, tumor 2" in output
