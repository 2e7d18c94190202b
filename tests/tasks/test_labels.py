"""The grammar of labels and of classes, task by task."""

import pytest

from mil.config import DatasetConfig, checked
from mil.errors import ConfigError
from mil.statistics.text import column_title
from mil.tasks import load_dataset, unfitted_task
from mil.tasks._labels import number_of
from mil.tasks._survival import survival_label, survival_of
from mil.tasks.multilabel import classes_of
from tests.messages import one_line

CLASSES = ["a", "b"]
WITH_CLASSES = ("classification", "multilabel", "ordinal")


def checked_label(task, classes, label):
    return unfitted_task(task, classes if task in WITH_CLASSES else []).checked_label(label)


def is_positive(task, positive, label):
    classes = ["a", "b", positive] if task in WITH_CLASSES else []
    return unfitted_task(task, classes, positive).is_positive(label)


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        ("classification", ["a", "b"]),
        ("ordinal", ["a"]),
        ("multilabel", ["", "a", "a;b", " b ; a "]),
        ("regression", ["0", "-1.5", "1e3"]),
        ("survival_discrete", ["27.5", "27.5+", "0", "3 +"]),
        ("survival_cox", ["27.5", "0+"]),
    ],
)
def test_what_a_label_may_be(task, labels):
    for label in labels:
        written = checked_label(task, CLASSES, label)
        assert checked_label(task, CLASSES, written) == written


@pytest.mark.parametrize(
    ("task", "label", "message"),
    [
        ("classification", "c", "the dataset's classes are: a, b"),
        ("classification", "", "the dataset's classes are: a, b"),
        ("ordinal", "a;b", "the dataset's classes are: a, b"),
        ("multilabel", "a;c", "the dataset's classes are: a, b"),
        ("multilabel", "a;a", "a class is named twice"),
        ("regression", "", "a number is needed"),
        ("regression", "nan", "a number is needed"),
        ("regression", "inf", "a number is needed"),
        ("regression", "1_0", "a number is needed"),
        ("regression", "1,500", "a number is needed"),
        ("survival_cox", "", "a time is needed"),
        ("survival_cox", "+", "a time is needed"),
        ("survival_cox", "-1", "a time is needed"),
        ("survival_cox", "nan+", "a time is needed"),
        ("survival_discrete", "5++", "a time is needed"),
        ("survival_discrete", "dead", "a time is needed"),
    ],
)
def test_what_it_may_not_be(task, label, message):
    with pytest.raises(ValueError, match=message):
        checked_label(task, CLASSES, label)


def test_values():
    assert number_of("1e2") == 100
    assert (survival_of("27.5"), survival_of("27.5 +")) == ((27.5, True), (27.5, False))
    assert classes_of(" b;;a ") == ["b", "a"]


@pytest.mark.parametrize(
    ("event", "label"),
    [
        ("1", "7"),
        ("0", "7+"),
        ("True", "7"),
        ("no", "7+"),
        ("1.0", "7"),
        ("1:DECEASED", "7"),
        ("0:LIVING", "7+"),
    ],
)
def test_two_cells_make_one_label(event, label):
    assert survival_label("7", event) == label


@pytest.mark.parametrize("event", ["", "2", "dead", "nan"])
def test_an_event_is_one_or_nought(event):
    with pytest.raises(ValueError, match="is neither 1"):
        survival_label("7", event)


def test_a_time_does_not_say_what_the_event_says():
    with pytest.raises(ValueError, match="marks censoring"):
        survival_label("7+", "1")


def test_one_way_of_writing_for_each_label():
    assert [
        checked_label("multilabel", CLASSES, label) for label in ("b; a", "a;b", " ;a;", "")
    ] == [
        "a;b",
        "a;b",
        "a",
        "",
    ]
    assert checked_label("survival_cox", CLASSES, "3 +") == "3+"
    assert checked_label("classification", ["x y"], "x y") == "x y"


def test_columns_as_people_read_them():
    assert [column_title(column) for column in ("p_a_b", "log_risk", "predicted")] == [
        "p(a_b)",
        "log risk",
        "predicted",
    ]


def test_which_slides_are_positive():
    assert is_positive("classification", "a;b", "a;b")
    assert is_positive("multilabel", "b", "a;b")
    assert not is_positive("multilabel", "b", "")
    assert not is_positive("regression", "", "1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("", r"classes are needed: .* \(task: classification\)"),
        ("task: regression\nclasses: [a]", r"classes must be empty \(task: regression\)"),
        ("task: survival_cox\nclasses: [a]", "classes must be empty"),
        ("task: ordinal\nclasses: [a]", "at least two classes"),
        ("task: multilabel\nclasses: [a, macro]", "cannot be named 'macro'"),
        ("task: multilabel\nclasses: ['a;b']", "cannot be empty or contain ';'"),
    ],
)
def test_classes_go_with_the_task(tmp_path, settings, message):
    path = tmp_path / "d.yaml"
    path.write_text(f"title: x\n{settings}\n")
    with one_line(ConfigError, match=rf"d\.yaml: .*{message}"):
        load_dataset(str(path))


def test_an_unknown_task_is_refused_with_all_that_there_are():
    with pytest.raises(ConfigError, match=r"task: Input should be .*'survival_discrete', not 's'"):
        checked(DatasetConfig, {"task": "s"}, "d.yaml")
