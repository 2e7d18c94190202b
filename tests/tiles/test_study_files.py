"""Files of a slide are found in a study by its name and the recipe of the heads."""

from pathlib import Path

import pytest

from mil.errors import DatasetError, FormatError
from mil.tiles.study_files import files_of_study, find_results, name_of
from tests.messages import one_line

TILING = "224px_0.5mpp"


@pytest.fixture
def study(tmp_path, monkeypatch) -> Path:
    """Results of a toy study with two recipes; the slides a and b, of which b is gone."""
    (tmp_path / "configs/datasets").mkdir(parents=True)
    (tmp_path / "configs/datasets/toy.yaml").write_text("classes: [normal, tumour]\n")
    (tmp_path / "configs/datasets/toy.csv").write_text(
        "slide,label,path\na,normal,a.tif\nb,tumour,b.tif\n"
    )
    results = tmp_path / "results/toy"
    for folder in (
        f"tile/{TILING}",
        f"features/{TILING}/enc",
        f"score/{TILING}/enc/abmil",
        f"score/{TILING}/enc/acmil",
        f"split/{TILING}/enc",
    ):
        (results / folder).mkdir(parents=True)
        for slide in "ab":
            (results / folder / f"{slide}.h5").touch()
    (results / f"split/{TILING}/enc/folds1.csv").touch()
    (tmp_path / "data/toy").mkdir(parents=True)
    (tmp_path / "data/toy/a.tif").touch()
    monkeypatch.chdir(tmp_path)
    return results


def files(slide: str, *, head: str = "abmil", needs_scores: bool = True, **changes):
    settings = {"results": None, "encoder": "", "slides_dir": None, **changes}
    return files_of_study(slide, head=head, needs_scores=needs_scores, **settings)


def test_by_name_and_recipe(study):
    found = files("a")
    assert found.slide == Path("data/toy/a.tif")
    assert found.tiles == Path(f"results/toy/tile/{TILING}/a.h5")
    assert found.bag == Path(f"results/toy/features/{TILING}/enc/a.h5")
    assert found.score == Path(f"results/toy/score/{TILING}/enc/abmil/a.h5")
    assert found.folds == Path(f"results/toy/split/{TILING}/enc/folds1.csv")


def test_by_file_a_slide_may_lie_anywhere(study, tmp_path):
    moved = tmp_path / "elsewhere/b.tif"
    moved.parent.mkdir()
    moved.touch()
    assert files(str(moved))[:2] == (moved, Path(f"results/toy/tile/{TILING}/b.h5"))
    # By the rule of ids, which leaves out what no file's name can have everywhere.
    quoted = moved.with_name('"b".ome.tif')
    quoted.touch()
    with one_line(FormatError, match="of slide _b_;"):
        files(str(quoted))
    assert (name_of(str(quoted)), name_of("b")) == ("_b_", "b")


def test_tiles_alone_need_no_recipe(study):
    assert files("a", head="", needs_scores=False)[1:] == (
        Path(f"results/toy/tile/{TILING}/a.h5"),
        None,
        None,
        None,
    )


def test_folds_of_several_divisions_are_not_guessed(study):
    (study / f"split/{TILING}/enc/folds5.csv").touch()
    assert files("a").folds is None


@pytest.mark.parametrize(
    ("slide", "changes", "error", "reason"),
    [
        ("a", {"head": ""}, DatasetError, "has 2 sets of scores .*choose one with --head"),
        ("c", {}, FormatError, "holds no scores by abmil of slide c"),
        ("b", {}, DatasetError, "b.tif: the slide is not on this disk"),
        ("../a", {}, DatasetError, "cannot be the name of a slide"),
        ("a", {"results": Path("lost")}, DatasetError, "lost: no such folder"),
    ],
)
def test_what_is_not_clear_is_asked(study, slide, changes, error, reason):
    with one_line(error, match=reason):
        files(slide, **changes)


def test_several_studies_are_named(study):
    (study.parent / "other").mkdir()
    with one_line(DatasetError, match=r"there are other, toy\); name one with --results"):
        find_results(None)


def test_bags_that_lie_elsewhere_must_be_named(study):
    (study / f"features/{TILING}/enc/a.h5").unlink()
    with one_line(FormatError, match="whose bags lie elsewhere; give --bag and --score"):
        files("a")
