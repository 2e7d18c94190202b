"""What a division keeps in proportion, task by task."""

import pytest

from mil.config import DatasetConfig
from mil.split.folds import make_folds
from mil.split.strata import stratified
from mil.tasks import task_of
from tests.split.cohorts import divide, slide, write_study

CLASSES = {"classification": ["a", "b"], "ordinal": ["a", "b"], "multilabel": ["a", "b", "c"]}


def strata(task, *labels):
    settings = DatasetConfig(task=task, classes=CLASSES.get(task, []))
    divided = stratified(
        [slide(f"s{i}", label=label) for i, label in enumerate(labels)], task_of(settings)
    )
    return [row.label for row in divided]


@pytest.mark.parametrize(
    ("task", "labels", "expected"),
    [
        ("classification", ["a", "b", "a"], ["a", "b", "a"]),
        ("ordinal", ["b", "a"], ["b", "a"]),
        ("multilabel", ["a;b", "b; a", "", "c"], ["a;b", "a;b", "", "c"]),
        ("regression", ["1", "2", "3", "4", "5", "6", "7", "8e0"], list("00112233")),
        ("regression", ["2", "2", "2", "2"], list("0000")),
        # Events at 1, 2, 8, 9 and three censored times, each cut at its own median.
        (
            "survival_cox",
            ["9", "1", "3+", "2", "8", "1+", "7+"],
            ["True 1", "True 0", "False 0", "True 0", "True 1", "False 0", "False 1"],
        ),
        ("survival_discrete", ["1+", "2+"], ["False 0", "False 1"]),
    ],
)
def test_the_stratum_of_each_label(task, labels, expected):
    assert strata(task, *labels) == expected


def test_what_a_split_may_lack():
    of = {
        task: task_of(DatasetConfig(task=task, classes=CLASSES.get(task, []))).content
        for task in ("classification", "multilabel", "regression", "survival_cox")
    }
    assert of["classification"]("a") == {"a"}
    assert of["multilabel"]("a; c") == {"a", "c"}
    assert of["regression"]("3") == set()
    assert (of["survival_cox"]("3"), of["survival_cox"]("3+")) == ({"event"}, set())


@pytest.mark.parametrize("folds", [1, 4])
def test_numbers_are_divided_over_their_range(tmp_path, folds):
    table = "slide,label\n" + "".join(f"s{i},{i}.5\n" for i in range(32))
    write_study(tmp_path, table, classes="[]\ntask: regression")
    rows, notes = divide(tmp_path, folds=folds)
    assert notes == "32 in, 32 out"
    for fold in range(folds):
        tested = [float(r["label"]) for r in rows if (r["fold"], r["split"]) == (str(fold), "test")]
        assert [sum(8 * q < value < 8 * q + 8 for value in tested) for q in range(4)] == [
            2,
            2,
            2,
            2,
        ]


def test_rare_sets_of_classes_go_where_they_fall(tmp_path):
    """Every slide is tested once, though each set of classes has fewer patients than folds."""
    labels = ["a", "a;b", "a;c", "b", "b;c", "c", "a;b;c", "", "a", "b", "c", "a;b"]
    table = "slide,label\n" + "".join(f"s{i},{label}\n" for i, label in enumerate(labels))
    write_study(tmp_path, table, classes="[a, b, c]\ntask: multilabel")
    rows, _ = divide(tmp_path, folds=4)
    assert sorted(r["slide"] for r in rows if r["split"] == "test") == sorted(
        f"s{i}" for i in range(12)
    )


def test_a_split_without_events_is_told(tmp_path):
    table = "slide,label,split\na,3,train\nb,4+,train\nc,2+,val\nd,5,test\n"
    write_study(tmp_path, table, classes="[]\ntask: survival_cox")
    assert divide(tmp_path)[1].splitlines()[1:] == [
        "note: fold 0: no val slides with label event; the epoch is chosen on what there is"
    ]


def test_every_label_is_insisted_on_only_for_classes():
    slides = [slide(f"s{i}", label="rare" if i == 0 else "usual") for i in range(9)]
    names = make_folds(slides, 3, val_share=0.2, test_share=0.2, seed=0, every_label=False)
    assert sorted(sum(fold[i] == "test" for fold in names) for i in range(9)) == [1] * 9
