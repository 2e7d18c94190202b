"""`mil heads list` and `show`: every recipe and head, also those of other packages."""

import subprocess
import sys
from functools import partial

import pytest

from mil.catalogue.show import wrapped
from mil.config import head_names
from mil.config.recipes import recipe_files
from tests.interop.published import heads
from tests.plugged import GOOD, forget, imported, put


@pytest.fixture
def plug(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    yield partial(put, tmp_path)
    forget()


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")


def rows(output):
    """Recipes and heads, each by name."""
    recipes, head_rows = (part.splitlines()[1:] for part in output.split("\n\n"))
    return [{line.split()[0]: line for line in part} for part in (recipes, head_rows)]


def test_everything_is_listed_with_a_sentence_and_its_source(wide):
    recipes, head_rows = rows(heads("list")[1])
    assert set(recipes) == set(recipe_files())
    assert set(head_rows) == set(head_names())
    assert all(len(line.split()) > 4 for line in [*recipes.values(), *head_rows.values()])
    assert recipes["acmil_2024_10"].split()[1] == "acmil"
    assert "https://arxiv.org/abs/2311.07125, code since October 2024" in recipes["acmil_2024_10"]
    description, source = head_rows["abmil"].split("https://")
    assert (
        description.split(maxsplit=1)[1].strip()
        == "Attention pooling (ABMIL), gated or plain, Ilse et al. 2018"
    )
    assert source == "arxiv.org/abs/1802.04712"


def test_listing_starts_without_torch():
    code = (
        "import sys; from mil.catalogue.listing import heads_table; heads_table(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_heads_and_recipes_of_others_are_marked_and_not_imported(plug, tmp_path, monkeypatch, wide):
    plug("strange_listed", heads=("of_others", "abmil"))
    plug("strange_silent", "def broken", heads=("silent",))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "configs/heads"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(
        "# My own. More.\nname: of_others\nlosses: {cross_entropy: 1}\n"
    )
    (folder / "bad.yaml").write_text("name: acmil\nloses: {cross_entropy: 1}\n")
    recipes, head_rows = rows(heads("list")[1])
    assert "Sum of the tiles' logits, Someone et al. 2024 " in head_rows["of_others"]
    assert head_rows["of_others"].endswith("the package strange_listed, https://example.org/sum")
    assert head_rows["silent"].endswith("the package strange_silent")
    assert "unusable: head abmil is in mil and in strange_listed" in head_rows["abmil"]
    assert recipes["mine"].split(maxsplit=2)[2].startswith("My own. ")
    assert recipes["mine"].endswith("head of the package strange_listed")
    assert recipes["bad"].split(maxsplit=1)[1].startswith("unusable: losses: Field required")
    assert "no key named 'loses'; did you mean 'losses'?" in recipes["bad"]
    assert "acmil" in recipes
    assert not imported()


def section(output, title):
    """The lines under a title, each by its first word."""
    lines = output.split(f"  {title}", 1)[1].splitlines()[1:]
    block = lines[
        : next((i for i, line in enumerate(lines) if not line.startswith("    ")), len(lines))
    ]
    return {line.split()[0]: line for line in block}


def test_a_recipe_is_shown_with_its_head():
    said = heads("show", "acmil_2023_11")[1]
    assert said.startswith("recipe acmil_2023_11, ")
    assert "source: https://arxiv.org/abs/2311.07125, code of November 2023" in said
    losses = section(said, "losses\n")
    assert "Cosine similarity of the attention maps of two branches" in losses["branch_diversity"]
    assert section(said, "train")["epochs"].split(maxsplit=2)[1:] == [
        "100",
        "Number of passes over the training bags.",
    ]
    assert "(stochastic top-K instance masking, STKIM, eq. 9)" in said
    options = section(said, "options")
    assert (
        " ".join(options["mask_share"].split()) == "mask_share number >= 0, <= 1 0.5 (default 0.6)"
    )
    assert "STKIM: fraction of the K highest scores masked at each step (p), 0 to 1." in said


TAKES = {
    "abmil": {"cross_entropy", "attention_entropy", "attention_entropy_share"},
    "mean": {"cross_entropy"},
    "clam_sb": {
        "cross_entropy",
        "attention_entropy",
        "attention_entropy_share",
        "instance_cross_entropy",
    },
    "acmil": {
        "cross_entropy",
        "branch_cross_entropy",
        "branch_diversity",
        "attention_entropy",
        "attention_entropy_share",
    },
}


@pytest.mark.parametrize("name", TAKES)
def test_losses_are_those_that_reach_the_head(name):
    assert set(section(heads("show", name)[1], "losses it can take")) == TAKES[name]


def test_a_loss_that_a_head_does_not_give_is_marked(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "name: mean\nlosses: {cross_entropy: 1, sufficiency: 0.1}\n"
    )
    losses = section(heads("show", tmp_path / "mine.yaml")[1], "losses")
    assert losses["sufficiency"].split(maxsplit=2)[1:] == [
        "0.1",
        "nothing: this head does not give what it needs",
    ]
    assert (
        losses["cross_entropy"].split(maxsplit=2)[2].startswith("Cross-entropy of the bag logits")
    )


def test_a_list_of_choices_names_them():
    output = heads("show", "graph_select")[1]
    choices = "auto | spatial_first | none or list of spatial | knn | lsh | minibatch"
    assert f"    graph            {choices}  spatial_first (default auto)\n" in output


@pytest.mark.parametrize(
    ("line", "broken"),
    [
        ("    top   5   tiles that count", ["    top   5   tiles that", "              count"]),
        ("  some words that are said of it", ["  some words that are said", "  of it"]),
        ("short", ["short"]),
        ("", [""]),
    ],
)
def test_what_does_not_fit_a_line_goes_on_under_its_column(line, broken):
    assert wrapped(line, 26) == broken


@pytest.mark.parametrize("name", head_names())
def test_every_head_can_be_shown(name):
    code, output = heads("show", name)
    assert code == 0, output
    assert f"head {name}, mil/heads/{name}.py" in output
    assert "cross_entropy" in section(output, "losses it can take")


def test_a_head_of_another_package_is_shown(plug):
    plug("strange_shown")
    output = heads("show", "of_others")[1]
    assert output.startswith(
        "head of_others, from the package strange_shown\n  Sum of the tiles' logits"
    )
    assert section(output, "options")["scale"].split() == ["scale", "number", ">", "0", "1"]
    assert set(section(output, "losses it can take")) == {"cross_entropy"}


def test_a_head_of_another_package_that_does_not_run(plug):
    plug("strange_stops", GOOD.replace("bag.sum(0)", "bag.sum(7)"))
    code, output = heads("show", "of_others")
    assert (code, output[:70]) == (
        1,
        "head of_others of the package strange_stops does not work: IndexError:",
    )


def test_a_name_that_is_neither():
    code, output = heads("show", "abmli")
    assert code == 1
    assert output.startswith("no head or recipe named 'abmli'; did you mean 'abmil'?")
