"""What a run fetches, streams and need not fetch again."""

from pathlib import Path

import pytest

from mil.errors import ConfigError, DatasetError
from mil.plan.make import make_plan
from tests.messages import one_line

TABLE = (
    "slide,url,annotation_url,label,split\n"
    "a,s3://b/a.tif,s3://b/a.xml,tumour,train\nb,s3://b/b.tif,,normal,train\n"
    "c,,,tumour,val\nd,,,normal,val\n"
)
YAML = """
classes: [normal, tumour]
slide_paths: ["i/{slide}.tif"]
annotation_paths: ["x/{slide}.xml"]
"""
TILING = "224px_0.5mpp"
BAGS = f"results/toy_mini/features/{TILING}/efficientnet_lite0"


@pytest.fixture
def study(tmp_path, monkeypatch) -> Path:
    """A dataset whose subset `mini` has slides in a bucket (a, b) and on the disk (c, d)."""
    (tmp_path / "configs/datasets").mkdir(parents=True)
    for name in ("toy", "toy_mini"):
        (tmp_path / f"configs/datasets/{name}.yaml").write_text(YAML)
        (tmp_path / f"configs/datasets/{name}.csv").write_text(TABLE)
    (tmp_path / "data/toy_mini/i").mkdir(parents=True)
    for name in "cd":
        (tmp_path / f"data/toy_mini/i/{name}.tif").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(*, subset: str = "mini", **settings):
    return make_plan({"dataset": "toy", "subset": subset, **settings})


def embed(
    slides: str, folders: tuple[str, ...] = (f"results/toy_mini/tile/{TILING}", BAGS)
) -> None:
    for folder in folders:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name in slides:
            Path(f"{folder}/{name}.h5").touch()


def test_files_go_where_the_patterns_of_the_dataset_have_them(study):
    run = plan()
    assert run.config.dataset == "toy_mini"
    assert run.fetchable == {
        "i/a.tif": ("s3://b/a.tif", ""),
        "i/b.tif": ("s3://b/b.tif", ""),
        "x/a.xml": ("s3://b/a.xml", ""),
    }
    assert run.annotations == {"a": Path("data/toy_mini/x/a.xml")}
    assert sorted(run.slides_to_read) == ["a", "b", "c", "d"]
    assert [file.as_posix() for _, file, _ in run.downloads] == [
        "data/toy_mini/i/a.tif",
        "data/toy_mini/i/b.tif",
        "data/toy_mini/x/a.xml",
    ]


def test_a_slide_of_an_older_tree_is_where_it_is(study):
    yaml = study / "configs/datasets/toy_mini.yaml"
    yaml.write_text(YAML.replace("i/{slide}.tif", 'i/{slide}.tif", "old/{slide}.tif'))
    (study / "data/toy_mini/old").mkdir()
    (study / "data/toy_mini/old/a.tif").touch()
    assert [url for url, _, _ in plan().downloads] == ["s3://b/b.tif", "s3://b/a.xml"]


def test_streamed_slides_are_no_inputs(study):
    run = plan(fetch={"keep": False})
    assert run.streaming
    assert list(run.fetchable) == ["x/a.xml"]
    assert sorted(run.slides_to_read) == ["c", "d"]
    assert len(run.downloads) == 3


def test_a_slide_with_its_bag_is_not_fetched_again(study):
    embed("abcd", (f"results/toy_mini/tile/{TILING}",))
    embed("acd", (BAGS,))
    run = plan()
    assert run.unneeded == {"a"}
    assert not run.streaming
    assert sorted(run.slides_to_read) == ["b", "c", "d"]
    assert [url for url, _, _ in run.downloads] == ["s3://b/b.tif", "s3://b/a.xml"]


def test_a_run_after_a_streamed_one_trains_on_its_bags(study):
    embed("abcd")
    assert plan().streaming
    # A run that kept its slides has tables of tiles; they were removed by hand.
    tables = study / f"results/toy_mini/tile/{TILING}/parts"
    tables.mkdir()
    (tables / "1of1.csv").touch()
    assert not plan().streaming


def test_nothing_is_downloaded_without_permission(study):
    settings = {"fetch": {"download": False}}
    with pytest.raises(DatasetError) as caught:
        plan(**settings)
    assert "2 of 4 slides are not in data/toy_mini" in str(caught.value)
    run = plan(**settings, allow_missing=True)
    assert run.downloads == []
    assert run.fetchable == run.annotations == {}
    assert not run.streaming


def test_unknown_subset(study):
    with one_line(ConfigError) as caught:
        plan(subset="maxi")
    assert "no subset of toy named 'maxi'" in str(caught.value)
    assert "there are: mini" in str(caught.value)
