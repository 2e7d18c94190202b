"""CAMELYON16's table against what is published, and its slides in every known tree."""

from collections import Counter
from pathlib import Path

import pytest

from mil.io.tables import read_dataset
from mil.io.tables.paths import locate, locate_annotation

CONFIGS = Path(__file__).parents[2] / "configs/datasets"
DATASET, SLIDES = read_dataset(str(CONFIGS / "camelyon16.yaml"))
BY_ID = {slide.slide: slide for slide in SLIDES}


def kind(slide: str) -> str:
    return slide.partition("_")[0]


def flat(slide: str) -> tuple[str, str]:
    return f"images/{slide}.tif", f"annotations/{slide}.xml"


def mirror(slide: str) -> tuple[str, str]:
    if kind(slide) == "test":
        return f"testing/images/{slide}.tif", f"testing/lesion_annotations/{slide}.xml"
    return f"training/{kind(slide)}/{slide}.tif", f"training/lesion_annotations/{slide}.xml"


def of_2016(slide: str) -> tuple[str, str]:
    name = slide.capitalize()
    if kind(slide) == "test":
        return f"Testset/Images/{name}.tif", f"Testset/Ground_Truth/Annotations/{name}.xml"
    return (
        f"TrainingData/Train_{kind(slide).capitalize()}/{name}.tif",
        f"TrainingData/Ground_Truth/XML/{name}.xml",
    )


def in_one_folder(slide: str) -> tuple[str, str]:
    return f"{slide}.tif", f"{slide}.xml"


def test_counts():
    assert len(SLIDES) == len(BY_ID) == 399
    assert Counter(map(kind, BY_ID)) == {"normal": 159, "tumor": 111, "test": 129}
    assert Counter(slide.split for slide in SLIDES) == {"train": 216, "val": 54, "test": 129}
    test = Counter(slide.label for slide in SLIDES if slide.split == "test")
    assert test == {"normal": 80, "tumour": 49}
    assert Counter(
        (kind(slide.slide), slide.label) for slide in SLIDES if slide.split == "val"
    ) == {
        ("normal", "normal"): 32,
        ("tumor", "tumour"): 22,
    }


def test_labels_follow_the_names_of_the_training_slides():
    for slide in SLIDES:
        if slide.split != "test":
            assert slide.label == {"normal": "normal", "tumor": "tumour"}[kind(slide.slide)]
        assert (slide.split == "test") == (kind(slide.slide) == "test")
        assert slide.patient == slide.slide


def test_classes():
    assert DATASET.classes == ["normal", "tumour"]
    assert DATASET.positive_class == "tumour"
    assert DATASET.licence == "CC0-1.0"


def test_slides_that_do_not_exist_are_not_there():
    assert not {"normal_086", "test_049"} & set(BY_ID)
    assert {"normal_160", "tumor_111", "test_130"} <= set(BY_ID)
    assert not {"normal_161", "tumor_112", "test_131"} & set(BY_ID)


@pytest.mark.parametrize(
    ("slide", "label", "split"),
    [
        ("test_001", "tumour", "test"),
        ("test_003", "normal", "test"),
        ("test_122", "tumour", "test"),
        ("test_123", "normal", "test"),
        ("normal_010", "normal", "val"),
        ("normal_152", "normal", "val"),
        ("normal_001", "normal", "train"),
        ("tumor_001", "tumour", "val"),
        ("tumor_002", "tumour", "train"),
        ("tumor_109", "tumour", "val"),
    ],
)
def test_single_slides(slide, label, split):
    assert (BY_ID[slide].label, BY_ID[slide].split) == (label, split)


def test_odd_slides_have_a_note():
    notes = {slide.slide: slide.subgroups["notes"] for slide in SLIDES if slide.subgroups["notes"]}
    assert notes["tumor_111"] == "formerly normal_086"
    assert {"normal_027", "normal_045"} == {
        slide for slide, note in notes.items() if "no tissue" in note
    }
    partial = [slide for slide, note in notes.items() if "not exhaustively" in note]
    assert len(partial) == 21
    assert {"test_114", "tumor_010", "tumor_092", "tumor_110"} <= set(partial)
    assert len(notes) == 24


@pytest.mark.parametrize("layout", [flat, mirror, of_2016, in_one_folder])
def test_every_known_tree_is_found(tmp_path, layout):
    for slide in BY_ID:
        picture, annotation = (tmp_path / part for part in layout(slide))
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.touch()
        if BY_ID[slide].label == "tumour":
            annotation.parent.mkdir(parents=True, exist_ok=True)
            annotation.touch()
    # What lies beside the slides on AWS and is called like them.
    for slide in ("normal_001", "tumor_001"):
        for folder in ("masks", "background_tissue"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{slide}.tif").touch()
    for slide in SLIDES:
        picture, annotation = (tmp_path / part for part in layout(slide.slide))
        assert locate(slide, tmp_path, DATASET) == picture
        assert locate_annotation(slide, tmp_path, DATASET) == (
            annotation if slide.label == "tumour" else None
        )


def test_a_missing_slide_is_looked_for_in_awss_layout(tmp_path):
    assert locate(BY_ID["test_002"], tmp_path, DATASET) == tmp_path / "images/test_002.tif"


def test_says_how_to_get_them():
    assert DATASET.size == "about 701 GB in 399 files"
    assert (
        "aws s3 cp --no-sign-request --recursive s3://camelyon-dataset/CAMELYON16/images/ "
        "DIR/images/" in DATASET.get
    )
    assert "masks/" in DATASET.get
    assert "--config dataset=camelyon16 slides_dir=DIR" in DATASET.get


def test_slides_and_annotations_are_those_of_the_public_bucket():
    bucket = "s3://camelyon-dataset/CAMELYON16"
    for slide in SLIDES:
        assert slide.url == f"{bucket}/images/{slide.slide}.tif"
        annotation = f"{bucket}/annotations/{slide.slide}.xml"
        assert slide.annotation_url == (annotation if slide.label == "tumour" else "")


def test_mini_is_a_dozen_of_them_with_both_classes_in_each_split():
    mini, slides = read_dataset(str(CONFIGS / "camelyon16_mini.yaml"))
    assert slides == [BY_ID[slide.slide] for slide in slides]
    counts = Counter((slide.split, slide.label) for slide in slides)
    assert counts == {
        ("train", "normal"): 3,
        ("train", "tumour"): 3,
        ("val", "normal"): 1,
        ("val", "tumour"): 1,
        ("test", "normal"): 2,
        ("test", "tumour"): 2,
    }
    assert mini.slide_paths == DATASET.slide_paths
    assert mini.annotation_paths == DATASET.annotation_paths
    assert mini.classes == DATASET.classes
    # Where the whole dataset has them.
    assert mini.folder("camelyon16_mini") == DATASET.folder("camelyon16")
