"""Pages and pictures of the documentation that are made from the code."""

import re

import pytest
from typer.testing import CliRunner

import mil
from docs.hooks import rooms
from docs.hooks.cli_page import cli_page, commands
from docs.hooks.config_page import config_page, table
from docs.hooks.python_pages import PACKAGES, PUBLIC_ORDER, python_pages
from mil.cli import app
from mil.config import Config, TileConfig
from mil.config.heads import own_heads


def test_every_command_and_option_is_on_the_page():
    page = cli_page()
    for command in commands():
        assert f"## `{command.name}`" in page
        help_text = CliRunner().invoke(app, [*command.name.split()[1:], "--help"]).output
        section = page.partition(f"## `{command.name}` {{")[2].partition("\n## ")[0]
        options = set(re.findall(r"--[a-z][\w-]+", help_text)) - {"--help"}
        assert options <= set(re.findall(r"--[a-z][\w-]+", section))


def test_a_command_shows_values_and_defaults():
    page = cli_page()
    assert "| `--min-tissue` | number | `0.25` |" in page
    assert "| `--scale` | `percentile`, `relative`, `raw` | `percentile` |" in page
    assert "| `--head-dir` | path; repeatable | required |" in page
    assert "| `--threads` | integer, ≥ 1 | `1` |" in page


def test_every_setting_is_on_the_page():
    page = config_page()
    for name in Config.model_fields:
        assert f"`{name}`" in page or f"`{name}:`" in page
    for name in TileConfig.model_fields:
        assert f"| `{name}` |" in page
    for name in own_heads():
        assert f"### `{name}`" in page


def test_a_setting_shows_type_range_and_default():
    assert "| `min_tissue` | number, ≥ 0, ≤ 1 | `0.25` |" in table(TileConfig)
    assert "| `size_px` | integer, ≥ 16 | empty |" in table(TileConfig)
    assert "| `objective_power` | true, false | `false` |" in table(TileConfig)


def test_every_public_name_is_on_the_page():
    pages = dict(python_pages())
    assert {name for names in PUBLIC_ORDER.values() for name in names} == set(mil.PUBLIC)
    assert "::: mil.api.heads.score_bag" in pages["reference/python.md"]
    assert set(pages) == {"reference/python.md", *(f"reference/python/{p}.md" for p in PACKAGES)}


def test_a_public_name_without_a_section_is_noticed(monkeypatch):
    monkeypatch.setitem(mil.PUBLIC, "new_name", "mil.api.heads")
    with pytest.raises(ValueError, match=r"public names without a section: \['new_name'\]"):
        list(python_pages())


def test_every_room_has_a_floor():
    on_floors = {name for floor in rooms.floors() for name in floor}
    assert set(rooms.rooms()) == on_floors


def test_the_picture_of_the_rooms_is_that_of_the_code():
    assert rooms.PICTURE.read_text(encoding="utf-8") == rooms.draw(), (
        "draw it again: python -m docs.hooks.rooms"
    )


def test_arrows_that_follow_from_others_are_left_out():
    house = {
        "a": rooms.Room("a", 1, frozenset({"b", "c"})),
        "b": rooms.Room("b", 1, frozenset({"c"})),
        "c": rooms.Room("c", 1, frozenset()),
    }
    assert rooms.arrows(house) == [("a", "b"), ("b", "c")]
