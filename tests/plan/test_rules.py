"""Rules of the workflow, by name, and what their commands do with their output."""

import re
from pathlib import Path

import pytest

from mil.plan.rules import order_of, stage_of

RULES_DIR = Path(__file__).parents[2] / "workflow/rules"


@pytest.mark.parametrize(
    ("rule", "stage"),
    [
        ("tile", "tile"),
        ("features_a_b", "features"),
        ("score_patients", "score_patients"),
        ("mine", "mine"),
    ],
)
def test_a_rule_belongs_to_a_stage(rule, stage):
    assert stage_of(rule) == stage


def test_rules_stand_in_the_order_of_a_study():
    rules = ["mine", "report", "features_a", "tile"]
    assert sorted(rules, key=order_of) == ["tile", "features_a", "report", "mine"]


def test_commands_write_to_their_logs_alone():
    """A line on the terminal would tear the table of a run."""
    texts = [file.read_text() for file in sorted(RULES_DIR.glob("*.smk"))]
    rules = re.findall(r"^ *rule\b.*?(?=^ *rule\b|\Z)", "\n".join(texts), re.M | re.S)
    commands = [rule for rule in rules if "shell:" in rule]
    assert len(commands) >= 14
    for rule in commands:
        assert re.search(r'> \{log:q\} 2>&1"\s*$', rule, re.M), rule
        assert "| tee" not in rule
