"""Flow of patients, slides and tiles: counts of every box, ranges over folds, escaped text."""

import pytest

from mil.io.bags import BagHeader, BagTally
from mil.io.bags.patients import FoldBag
from mil.io.bags.status import SlideState
from mil.report import flow
from mil.report.flow_section import notes_of
from mil.report.flow_svg import flow_svg

PATIENTS = {"a": "p", "b": "p", "c": "q", "d": "r", "e": "s"}


def state(slide: str, name: str = "ok", tiles: int = 0, unreadable: int = 0, reason: str = ""):
    header = BagHeader(slide=slide, encoder="tiny", state=name, reason=reason)
    return SlideState(slide, name, reason, False, BagTally(header, tiles, unreadable))


STATES = [
    state("a", tiles=10, unreadable=1),
    state("b", tiles=20),
    state("c", tiles=5),
    state("d", "no_tissue", reason="no <b>tissue</b>"),
    state("e", "unreadable"),
]


class Study:
    """What `flow` reads of a study."""

    def __init__(self, folds):
        self.slides = [SlideRow(slide, patient) for slide, patient in PATIENTS.items()]
        self.states_by_encoder = [STATES]
        self.bags_dirs = [type("Folder", (), {"name": "tiny"})]
        self.folds = [folds]


class SlideRow:
    def __init__(self, slide, patient):
        self.slide = slide
        self.patient = patient


def bag(fold: int, slide: str, split: str, label: str = "normal") -> FoldBag:
    return FoldBag(fold, slide, (slide,), PATIENTS[slide], label, split)


def flow_of(*folds: FoldBag) -> flow.Flow:
    (counted,) = flow.flows_of(Study(list(folds)))
    return counted


def test_every_box_counts_patients_slides_and_readable_tiles():
    counted = flow_of(bag(0, "a", "train"), bag(0, "b", "train", "tumour"))
    assert counted.table == flow.Group(4, 5)
    assert counted.usable == flow.Group(2, 3, 34)
    assert counted.unreadable_tiles == 1
    assert counted.unassigned == 1
    (train,) = counted.splits
    assert train.lines == ["1 patient", "2 slides", "29 tiles", "1 normal", "1 tumour"]
    assert [(one.state, one.slides, one.patients_lost) for one in counted.excluded] == [
        ("no_tissue", ["d"], 1),
        ("unreadable", ["e"], 1),
    ]
    assert "2 patients without any usable slide left the study." in notes_of(counted)


def test_a_patient_with_another_slide_is_not_lost():
    states = [state("a", tiles=1), state("b", "no_tissue")]
    (excluded,) = flow._excluded(states, PATIENTS)
    assert (excluded.patients, excluded.patients_lost) == (1, 0)


def test_slides_of_one_state_are_counted_together_whatever_their_reasons():
    study = Study([])
    lost = [state("d", "unreadable"), state("e", "unreadable", reason="cut short")]
    study.states_by_encoder = [[*STATES[:3], *lost]]
    (counted,) = flow.flows_of(study)
    assert len(counted.excluded) == 2
    assert counted.exclusions == ["2 slides: unreadable"]
    assert ">2 slides: unreadable<" in flow_svg(counted)


def test_several_folds_are_ranges_and_their_tests_are_counted_once():
    counted = flow_of(
        bag(0, "a", "train"),
        bag(0, "b", "train"),
        bag(0, "c", "test"),
        bag(1, "c", "train"),
        bag(1, "a", "test"),
        bag(1, "b", "test"),
    )
    train, test = counted.splits
    assert train.lines == ["in each fold:", "1 patient", "1 to 2 slides", "5 to 29 tiles"]
    assert test.union == flow.Group(2, 3, 34)
    (note,) = [note for note in notes_of(counted) if "Cross-validation" in note]
    assert "2 folds: over all folds 3 slides of 2 patients are test slides" in note


def test_encoders_with_equal_counts_are_drawn_once():
    study = Study([])
    study.states_by_encoder = [STATES, STATES, [*STATES[:1], state("b", tiles=7), *STATES[2:]]]
    study.bags_dirs = study.bags_dirs * 3
    study.folds = []
    assert [len(one.splits) for one in flow.flows_of(study)] == [0, 0]


def test_the_diagram_says_all_counts_and_escapes_names():
    evil = "<script>alert(1)</script>"
    svg = flow_svg(flow_of(bag(0, "a", "test", evil)))
    assert evil not in svg
    for text in ("slide table", "5 slides", "1 slide: no_tissue", "34 tiles", "in no split"):
        assert f">{text}<" in svg
    assert "1 tile of other slides: unreadable" in svg


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 slides"), (1, "1 slide"), (1234, "1,234 slides")]
)
def test_counts_as_people_read_them(number, text):
    assert flow.count(number, "slide") == text
