"""YAML of strangers: bounded, one meaning a key, one line a fault."""

import datetime
import os
from itertools import pairwise

import pytest

from mil.config import DatasetConfig, checked, load_config, load_encoders, load_recipe, read_yaml
from mil.config.yaml_file import MAX_BYTES, MAX_DEPTH, MAX_NODES
from mil.errors import ConfigError
from mil.tasks import load_dataset
from tests.messages import one_line


def billion_laughs(levels: str = "abcdefg") -> str:
    """Lists of nine aliases each, on as many levels."""
    lines = [f"{levels[0]}: &{levels[0]} [{','.join('x' * 9)}]"]
    for below, level in pairwise(levels):
        lines.append(f"{level}: &{level} [{','.join([f'*{below}'] * 9)}]")
    return "\n".join(lines)


TOO_MUCH = {
    "lists of aliases": billion_laughs() + "\nclasses: *g\n",
    "mappings of aliases": "a: &a {x: 1, y: 2}\nb: &b {x: *a, y: *a}\n"
    + "".join(
        f"{chr(99 + i)}: &{chr(99 + i)} {{x: *{chr(98 + i)}, y: *{chr(98 + i)}}}\n"
        for i in range(16)
    ),
    "merge keys": "a: &a {x: ["
    + "1," * 300
    + "]}\n"
    + "".join(f"k{i}: {{<<: *a}}\n" for i in range(40)),
    "entries": "classes: [" + "a," * (MAX_NODES + 1) + "]\n",
}


@pytest.mark.parametrize("kind", TOO_MUCH)
def test_more_nodes_than_any_file_of_settings_has_are_refused(tmp_path, kind):
    path = tmp_path / "d.yaml"
    path.write_text(TOO_MUCH[kind])
    with one_line(ConfigError, match=rf"d\.yaml: more than {MAX_NODES} values"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "line 1: an alias within what it stands for"),
        ("a: &a {b: {c: *a}}", "line 1: an alias within what it stands for"),
        ("[" * 100, f"nested more than {MAX_DEPTH} deep"),
        ("{a: " * 200, f"nested more than {MAX_DEPTH} deep"),
        ("- " * 200, f"nested more than {MAX_DEPTH} deep"),
        ("#" * (MAX_BYTES + 1), "larger than 250 kB"),
        ("classes: [a]\ntask: ordinal\nclasses: [b]", "line 3: the key 'classes' is there twice"),
        ("x: {a: 1, b: 2, a: 1}", "line 1: the key 'a' is there twice"),
        ("? [1]\n: 2", "not YAML: line 1: found unhashable key"),
        ("a:\n\tb: 1", "not YAML: line 2: .*; indent by spaces, not by tabs"),
        ("a: 1\nb: @x", "not YAML: line 2: "),
        ("a: *nobody", "not YAML: line 1: found undefined alias 'nobody'"),
        ("a: !!python/object:os.system x", "not YAML: line 1: could not determine a constructor"),
        ("a: 2024-13-45", "not YAML: .*month must be in 1..12"),
        ("a: " + "9" * 5000, "a number of 5000 characters"),
        ("a: " + "1:" * 5000 + "1", "a number of 10001 characters"),
        ("a: !!map [1]", "not YAML: line 1: expected a mapping"),
        ("a: !!timestamp x", "not YAML: "),
        ("a: \x00", "not YAML: .*character"),
        ("a: 1\n---\na: 2", "not YAML: line 2: .*another document"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, text, message):
    path = tmp_path / "d.yaml"
    path.write_text(text)
    with one_line(ConfigError, match=rf"d\.yaml: (line \d+: )?{message}") as caught:
        read_yaml(path)
    assert len(str(caught.value)) < 400


def test_a_file_in_another_encoding_says_so(tmp_path):
    path = tmp_path / "d.yaml"
    path.write_bytes("classes: [gesund, Tumor-Übergang]".encode("latin-1"))
    with one_line(ConfigError, match=r"d\.yaml: not UTF-8 text.*save it as UTF-8"):
        read_yaml(path)


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "folder.yaml").mkdir()
    for name in ("fifo.yaml", "folder.yaml"):
        with one_line(ConfigError, match=rf"{name}: not a file"):
            read_yaml(tmp_path / name)


def test_ordinary_yaml_is_read_as_before(tmp_path):
    path = tmp_path / "d.yaml"
    text = "base: &base {a: 1, b: [x, 'no']}\nother: {<<: *base, a: 2}\nday: 2024-01-02\r\n"
    path.write_text(text, encoding="utf-8-sig")
    base = {"a": 1, "b": ["x", "no"]}
    day = datetime.date(2024, 1, 2)
    assert read_yaml(path) == {"base": base, "other": {**base, "a": 2}, "day": day}


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a\n- b\n", "just words\n"])
@pytest.mark.parametrize("read", [load_dataset, load_recipe, load_encoders])
def test_a_file_without_settings_is_one_line(tmp_path, text, read):
    path = tmp_path / "d.yaml"
    path.write_text(text)
    with one_line(ConfigError, match=r"d\.yaml"):
        read(path if read is load_encoders else str(path))


def test_a_word_that_yaml_reads_as_another_kind_is_told_to_be_quoted():
    with one_line(ConfigError, match=r"classes\.1: .*not False; in quotes it is text"):
        checked(DatasetConfig, {"classes": ["yes it is", False]}, "d.yaml")


def test_a_fault_quotes_no_more_than_a_line_holds():
    bomb: list = ["x"] * 9
    for _ in range(12):
        bomb = [bomb] * 9
    with one_line(ConfigError) as caught:
        load_config({"dataset": bomb, "seeds": bomb, "tile": {"mpp": "9" * 10_000}})
    assert len(str(caught.value)) < 1000
    with one_line(ConfigError, match=r"and 4990 more") as caught:
        checked(DatasetConfig, {"classes": list(range(5000))}, "d.yaml")
    assert len(str(caught.value)) < 1500


def test_values_that_are_changed_are_not_read_again(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: [1]")
    read_yaml(path)["a"].append(2)
    assert read_yaml(path) == {"a": [1]}
    path.write_text("a: [3]")
    assert read_yaml(path) == {"a": [3]}
