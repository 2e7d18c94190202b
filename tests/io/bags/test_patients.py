"""Slides of one patient as one bag."""

import numpy as np
import pytest
import torch

from mil.errors import DatasetError, FormatError
from mil.graph import spatial_graph
from mil.io.bags import read_bag
from mil.io.bags.patients import (
    FoldBag,
    check_labels,
    concatenate_bags,
    is_early,
    read_concatenated,
    read_fold_bags,
)
from tests.synthetic import bag_file

COARSE = {"mpp": 0.5}  # of the second slide, whose tiles are 224 pixels wide, not 448


@pytest.fixture
def bags(tmp_path):
    bag_file(tmp_path / "a.h5", "a", np.full((2, 3), 1), np.array([[4480, 896], [4928, 896]]))
    bag_file(
        tmp_path / "b.h5",
        "b",
        np.full((3, 3), 2),
        np.array([[100, 50], [324, 50], [100, 274]]),
        valid=np.array([True, False, True]),
        **COARSE,
    )
    return [tmp_path / "a.h5", tmp_path / "b.h5"]


def test_bags_are_laid_end_to_end(bags):
    """The second slide begins 16 tiles right of the first one's last, at the first one's scale."""
    bag = read_concatenated(bags, "p")
    assert (bag.slide, bag.state, bag.side_level0_px) == ("p", "ok", 448)
    np.testing.assert_array_equal(bag.features[:, 0], [1, 1, 2, 2, 2])
    np.testing.assert_array_equal(bag.valid, [True, True, True, False, True])
    right = 448 + 16 * 448
    np.testing.assert_array_equal(
        bag.coords, [[0, 0], [448, 0], [right, 0], [right + 448, 0], [right, 448]]
    )
    assert bag.identity == read_bag(bags[0]).identity


def test_no_neighbour_is_on_another_slide(bags):
    graph = spatial_graph(torch.from_numpy(read_concatenated(bags, "p").coords))
    pairs = {
        (s, t)
        for s, t in zip(graph.sources.tolist(), graph.targets.tolist(), strict=True)
        if s != t
    }
    assert pairs == {(0, 1), (1, 0), (2, 3), (3, 2), (2, 4), (4, 2), (3, 4), (4, 3)}


def test_one_slide_stays_as_it_is(bags):
    one = read_concatenated(bags[1:], "p")
    alone = read_bag(bags[1])
    assert one.slide == "b"
    np.testing.assert_array_equal(one.coords, alone.coords)
    assert one.mpp_level0 == 0.5


def test_what_one_slide_does_not_know_the_whole_does_not(bags):
    parts = [read_bag(path) for path in bags]
    object.__setattr__(parts[1], "coords", None)
    assert concatenate_bags(parts, "p").coords is None


def test_bags_that_do_not_belong_together(bags, tmp_path):
    bag_file(tmp_path / "wide.h5", "wide", np.ones((1, 4)))
    with pytest.raises(FormatError, match=r"wide\.h5: 4 features per tile, but 3 in a\.h5"):
        read_concatenated([bags[0], tmp_path / "wide.h5"], "p")
    bag_file(tmp_path / "other.h5", "other", np.ones((1, 3)), encoder={"encoder": "another"})
    with pytest.raises(FormatError, match=r"other\.h5: encoder is another, but tiny in a\.h5"):
        read_concatenated([bags[0], tmp_path / "other.h5"], "p")
    bag_file(tmp_path / "lost.h5", "lost", np.ones((0, 3)), state="no_tissue", reason="glass")
    with pytest.raises(
        FormatError, match=r"lost\.h5: the bag has no tiles \(its state is no_tissue\)"
    ):
        read_concatenated([bags[0], tmp_path / "lost.h5"], "p")


def folds(path, *lines, bag=True):
    header = "fold,slide,patient,label,split" + (",bag" if bag else "")
    (path / "folds.csv").write_text("\n".join([header, *lines]))
    return path / "folds.csv"


def test_the_bags_of_a_folds_file(tmp_path):
    early = read_fold_bags(
        folds(tmp_path, "0,a,p,x,train,p", "0,c,q,y,test,q", "0,b,p,x,train,p", "1,a,p,x,test,p")
    )
    assert early == [
        FoldBag(0, "p", ("a", "b"), "p", "x", "train"),
        FoldBag(0, "q", ("c",), "q", "y", "test"),
        FoldBag(1, "p", ("a",), "p", "x", "test"),
    ]
    assert early[0].paths(tmp_path) == [tmp_path / "a.h5", tmp_path / "b.h5"]
    assert is_early(early)
    late = read_fold_bags(folds(tmp_path, "0,a,p,x,train", "0,b,p,y,train", bag=False))
    assert [(one.name, one.slides, one.label) for one in late] == [
        ("a", ("a",), "x"),
        ("b", ("b",), "y"),
    ]
    assert not is_early(late)


@pytest.mark.parametrize("second", ["0,b,p,y,train,p", "0,b,p,x,val,p"])
def test_a_bag_of_two_labels_or_splits_is_refused(tmp_path, second):
    with pytest.raises(
        FormatError, match="fold 0: slides of bag p differ in label or split; run `mil split` again"
    ):
        read_fold_bags(folds(tmp_path, "0,a,p,x,train,p", second))


def written(folder, *rows):
    path = folder / "f.csv"
    path.write_text("\n".join(["fold,slide,patient,label,split", *rows]))
    return path


def test_a_patient_in_two_splits_leaks(tmp_path):
    path = written(tmp_path, "0,a,p,x,train", "0,b,p,x,test", "1,a,p,x,test", "1,b,p,x,test")
    with pytest.raises(
        DatasetError,
        match="fold 0: patient p is in two splits: slide a in train, slide b in test; such",
    ):
        read_fold_bags(path)
    assert (
        len(read_fold_bags(written(tmp_path, "0,a,p,x,train", "1,a,p,x,test", "1,b,p,x,test"))) == 3
    )


def test_a_slide_stands_there_once(tmp_path):
    with pytest.raises(FormatError, match="fold 0: slide a stands there twice"):
        read_fold_bags(written(tmp_path, "0,a,p,x,train", "0,a,p,x,train"))


def test_a_label_that_is_none_of_the_tasks_is_one_line(tmp_path):
    path = written(tmp_path, "0,a,p,x,train", "0,b,q,,test")
    bags = read_fold_bags(path)
    check_labels(bags[:1], path, "classification", ["x", "y"])
    with pytest.raises(DatasetError) as told:
        check_labels(bags, path, "classification", ["x", "y"])
    assert str(told.value) == (
        f"{path}: fold 0: b has the label ''; the dataset's classes are: x, y; run `mil split` "
        "again"
    )
    with pytest.raises(DatasetError, match="a number is needed"):
        check_labels(bags, path, "regression", [])
