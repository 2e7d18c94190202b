"""Heads of other packages: found by entry point, imported when used, named in errors."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch

from mil.bags import join
from mil.config import head_names, load_recipe
from mil.errors import ConfigError
from mil.heads import build_head, head_module
from tests.messages import one_line
from tests.plugged import GOOD, forget, imported, put


@pytest.fixture
def plug(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    yield partial(put, tmp_path)
    forget()


def test_a_head_is_listed_without_being_imported_and_built_like_ours(plug):
    assert "of_others" not in head_names()
    plug("strange_good")
    assert "of_others" in head_names()
    assert not imported()
    head = build_head("of_others", {"scale": 2.0}, dim=4, classes=3)
    tiles = torch.randn(5, 4)
    want = (tiles @ head.classify.weight.T + head.classify.bias).sum(0) * 2
    torch.testing.assert_close(head(join([tiles])).logits[0], want)
    assert head_module("of_others").Config.model_fields["scale"].description == "of the sum"


def test_its_options_are_checked_like_ours(plug):
    plug("strange_options")
    with pytest.raises(
        ConfigError, match=r"head of_others: options: no key named 'scal'; did you mean 'scale'"
    ):
        build_head("of_others", {"scal": 2.0}, dim=4, classes=3)


@pytest.mark.parametrize("place", ["path", "./configs/heads"])
def test_a_recipe_of_ones_own_names_it(plug, tmp_path, monkeypatch, place):
    plug("strange_recipe")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ("mine.yaml" if place == "path" else "configs/heads/mine.yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("name: of_others\noptions: {scale: 0.5}\nlosses: {cross_entropy: 1}\n")
    recipe = load_recipe(str(file) if place == "path" else "mine")
    assert (recipe.name, recipe.options) == ("of_others", {"scale": 0.5})
    assert not imported()
    assert load_recipe("abmil").name == "abmil"  # those that came with mil are still there


def test_it_may_not_hide_one_of_ours(plug, tmp_path):
    plug("strange_thief", heads=("abmil", "fair"))
    line = (
        r"head abmil is in mil and in strange_thief; "
        r"rename it in strange_thief \(entry point of mil\.heads\)"
    )
    with pytest.raises(ConfigError, match=f"^{line}"):
        build_head("abmil", {}, dim=4, classes=2)
    with pytest.raises(ConfigError, match=rf"abmil\.yaml: {line}"):
        load_recipe("abmil")
    assert load_recipe("acmil").name == "acmil"
    assert build_head("fair", {}, dim=4, classes=2).scale == 1.0


def test_two_packages_may_not_share_a_name(plug):
    plug("strange_one")
    plug("strange_two")
    with pytest.raises(
        ConfigError,
        match=r"head of_others is in strange_\w+ and in strange_\w+; rename it in strange",
    ):
        build_head("of_others", {}, dim=4, classes=2)


BROKEN = {
    "does not import": (
        "import nowhere_to_be_found",
        "does not work: ModuleNotFoundError: No module named 'nowhere",
    ),
    "stops": ("raise SystemError('two\\nlines')", "does not work: SystemError: two lines"),
    "is not Python": ("def", "does not work: SyntaxError"),
    "no Config": (
        GOOD.replace("class Config", "class Options"),
        "has no class Config that is a mil.config.Section",
    ),
    "plain Config": (
        GOOD.replace("Config(Section)", "Config"),
        "has no class Config that is a mil.config.Section",
    ),
    "no Head": (
        GOOD.replace("class Head", "class Foot"),
        "has no class Head that is a torch.nn.Module",
    ),
    "cannot be built": (
        GOOD.replace("dim, classes)", "dim)"),
        "does not work: TypeError: Head.__init__() takes",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_one_is_one_line_that_names_its_package(plug, what):
    code, line = BROKEN[what]
    plug("strange_broken", code)
    with one_line(ConfigError) as raised:
        build_head("of_others", {}, dim=4, classes=2)
    said = str(raised.value)
    assert said.startswith("head of_others of the package strange_broken")
    assert line in said


def test_a_package_without_the_module_it_names(plug, tmp_path):
    plug("strange_empty")
    (tmp_path / "strange_empty/head.py").unlink()
    with pytest.raises(
        ConfigError, match=r"of the package strange_empty does not work: ModuleNotFoundError"
    ):
        head_module("of_others")


def test_the_example_of_the_docs_works(plug, tmp_path):
    text = (Path(__file__).parents[2] / "docs/how-to/own-head.md").read_text(encoding="utf-8")
    code, recipe = (
        re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)[1] for kind in ("python", "yaml")
    )
    plug("strange_docs", code, heads=("top_mean",))
    (tmp_path / "top_mean.yaml").write_text(recipe)
    settings = load_recipe(str(tmp_path / "top_mean.yaml"))
    head = build_head(settings.name, settings.options, dim=4, classes=2)
    tiles = torch.randn(12, 4)
    scores = head.attention(head.reduce(tiles))
    highest = scores[:, 0].argsort(descending=True)[:10]
    want = head.classify((head.reduce(tiles) * scores.sigmoid())[highest].mean(0))
    out = head(join([tiles, tiles[:1]]))
    torch.testing.assert_close(out.logits[0], want)
    torch.testing.assert_close(out.logits[1], head(join([tiles[:1]])).logits[0])
