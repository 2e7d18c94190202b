"""Heads of a job: which there are, in which order, and where."""

from pathlib import Path

from mil.train.runs import HeadRun, head_runs


def test_heads_of_one_fold_follow_one_another():
    runs = head_runs(Path("{a}/seed{seed}_fold{fold}"), [1, 2], [3, 0])
    assert runs == [
        HeadRun(1, 3, Path("{a}/seed1_fold3")),
        HeadRun(2, 3, Path("{a}/seed2_fold3")),
        HeadRun(1, 0, Path("{a}/seed1_fold0")),
        HeadRun(2, 0, Path("{a}/seed2_fold0")),
    ]


def test_seed_1_of_fold_0_is_trained_unless_others_are_named():
    assert head_runs(Path("head"), [], []) == [HeadRun(1, 0, Path("head"))]
