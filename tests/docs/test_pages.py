"""The documentation: pages whose code is run, and files that the code refers to."""

import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from mil.cli import app
from tests.docs.pages import ROOT, examples_of, run_page

TILING = "224px_0.5mpp"
ENCODER = "efficientnet_lite0"
NAMED = re.compile(r"\bdocs/[\w/-]+\.md\b")


def mil(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output


def mini_study() -> None:
    """The files of `snakemake --config dataset=demo_mini` that the page uses, in this folder."""
    names = [f"mini_0{number}" for number in range(1, 9)]
    made = f"results/demo_mini/features/{TILING}/{ENCODER}"
    for name in names:
        slide = f"data/demo_mini/{name}.tif"
        tiles = f"results/demo_mini/tile/{TILING}/{name}.h5"
        mil("fetch", "--url", f"demo:{name}.tif", "--out", slide)
        mil("tile", "--slide", slide, "--out", tiles)
        mil("features", "--slide", slide, "--tiles", tiles, "--out", f"{made}/{name}.h5")
    study = ("--dataset", "demo_mini", "--bags", made)
    mil("split", *study, "--tiles", f"results/demo_mini/tile/{TILING}", "--out", "folds.csv")
    head = f"results/demo_mini/train/{TILING}/{ENCODER}/abmil/seed1_fold0of1"
    mil("train", *study, "--folds", "folds.csv", "--out", head)
    scores = f"results/demo_mini/score/{TILING}/{ENCODER}/abmil"
    mil("score", "--head-dir", head, "--bags", made, "--scores", scores)
    evaluated = f"results/demo_mini/evaluate/{TILING}/{ENCODER}/abmil"
    mil("evaluate", *study, "--scores", scores, "--folds", "folds.csv", "--out", evaluated)


@pytest.mark.slow
def test_the_notebook_page_prints_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mini_study()
    # In an interpreter of its own: a reader's calls are not type-checked as those of tests.
    script = "from tests.docs.pages import run_page; run_page('docs/start/notebook.md')"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert (tmp_path / "notebook/attention.png").stat().st_size > 10_000


def test_the_blocks_of_a_page_are_found_with_their_output():
    first, *others = examples_of("docs/start/notebook.md")
    assert "import mil\n" in first.code
    assert "µm/px" in first.output
    assert len(others) == 7


def test_a_page_that_shows_something_else_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.docs.pages.ROOT", tmp_path)
    page = "```python\nprint(1 + 1)\n```\n\n```text\n{}\n```\n"
    (tmp_path / "right.md").write_text(page.format("2"))
    run_page("right.md")
    (tmp_path / "wrong.md").write_text(page.format("3"))
    with pytest.raises(AssertionError, match=r"wrong\.md, line 2: shows\n3\nbut printed\n2"):
        run_page("wrong.md")


def test_every_page_that_code_and_settings_name_exists():
    files = [
        path
        for folder in ("mil", "configs", "workflow", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".yaml", ".smk", ".j2"}
    ]
    named = {
        (page, path.relative_to(ROOT))
        for path in files
        for page in NAMED.findall(path.read_text(encoding="utf-8"))
    }
    missing = [f"{path}: {page}" for page, path in sorted(named) if not (ROOT / page).exists()]
    assert not missing
