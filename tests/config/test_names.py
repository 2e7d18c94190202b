"""Names that YAML, or Snakemake's --config, would read as other than text."""

import pytest

from mil.config import load_config, name_fault
from mil.config.base import kind_in_yaml
from mil.errors import ConfigError
from mil.interop.dataset import check_writable
from tests.messages import one_line

NOT_TEXT = {
    "2024": "a number",
    "001": "a number",
    "1e5": "a number",
    "2024_01": "a number",
    "0x1F": "a number",
    "1.5": "a number",
    "nan": "a number",
    "inf": "a number",
    "1:30": "a number",
    "yes": "yes or no",
    "Off": "yes or no",
    "True": "yes or no",
    "null": "nothing",
    "2024-01-01": "a date",
    "2024-13-45": "a date",
}


@pytest.mark.parametrize("name", NOT_TEXT)
def test_what_yaml_reads_as_other_than_text(name):
    assert kind_in_yaml(name) == NOT_TEXT[name]


@pytest.mark.parametrize("name", [name for name in NOT_TEXT if ":" not in name])
def test_a_dataset_is_not_called_so(tmp_path, name):
    fault = f"YAML reads it as {NOT_TEXT[name]}, not as a text; such as 'study_{name}'"
    assert name_fault(name) == fault
    with one_line(Exception, match=fault):
        check_writable(name, tmp_path, force=False)


@pytest.mark.parametrize(
    ("name", "proposal"),
    [
        ("my study", "my_study"),
        ("o'f", "o_f"),
        ("a/b", "a_b"),
        ("caf\u00e9", "cafe"),
        ("\u4e73\u817a", "study_1"),
        ("study.yaml", "study"),
        ("2024.yml", "study_2024"),
        ("x" * 101, "x" * 94),
        ("", "study_1"),
    ],
)
def test_the_proposal_is_a_name_that_can_be(name, proposal):
    assert name_fault(name).endswith(f"; such as {proposal!r}")
    assert name_fault(proposal) == ""


NAMES = ["study", "camelyon16", "1.2.3", "12e", "2024a", "yes_", "x" * 100]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_can_be(name):
    assert name_fault(name) == ""


# Slow: the import of Snakemake's command line takes two seconds.
@pytest.mark.slow
def test_snakemake_reads_names_as_is_assumed():
    from snakemake.cli import parse_config

    for name in NAMES:
        assert parse_config([f"dataset={name}"]) == {"dataset": name}
    for name in ("2024", "001", "1e5", "2024_01", "1.5", "nan", "inf"):
        assert not isinstance(parse_config([f"dataset={name}"])["dataset"], str)
    # Quotes on the command line would not help; a path with a dot does.
    assert parse_config(['dataset="2024"']) == {"dataset": 2024}
    assert parse_config(["slides_dir=./2024"]) == {"slides_dir": "./2024"}


@pytest.mark.parametrize(
    "raw",
    [
        {"dataset": 2024},
        {"dataset": True},
        {"head": 1e5},
        {"encoder": [7]},
        {"slides_dir": 2024},
        {"bags": 2024},
        {"split": {"by": 2024}},
    ],
)
def test_a_setting_that_yaml_read_as_other_than_text_says_how_to_write_it(raw):
    with one_line(
        ConfigError, match="rename it, quote it in configs/config.yaml, or write a path as ./"
    ):
        load_config(raw)
