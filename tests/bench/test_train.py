"""`mil bench train` compares the same mathematics, and a head that fails is a row."""

import json

import pytest
import torch
from typer.testing import CliRunner

from mil.bags import join
from mil.bench import train, train_step
from mil.bench.plain_acmil import LiteralAcmil, literal_loss
from mil.bench.train_results import HeadJob, LiteralJob
from mil.cli import app
from mil.config import load_recipe
from mil.errors import ConfigError
from mil.heads import build_head
from mil.losses import total_loss

LABEL = torch.tensor([1])


def test_the_literal_step_is_the_same_mathematics():
    torch.manual_seed(0)
    head = build_head("acmil", {}, dim=32, classes=2).double().train()
    literal = LiteralAcmil(32, 16, 2).double()
    with torch.no_grad():
        for parameter, value in zip(literal.parameters(), head.parameters(), strict=True):
            parameter.copy_(value)
    bags = join([torch.randn(40, 32).double()])
    weights = {name: weight.start for name, weight in load_recipe("acmil").losses.items()}
    torch.manual_seed(3)
    ours = total_loss(weights, head(bags), bags, LABEL)[0]
    torch.manual_seed(3)
    theirs = literal_loss(literal(bags.features), LABEL)
    assert theirs.item() == pytest.approx(ours.item(), abs=1e-12)
    ours.backward()
    theirs.backward()
    for got, want in zip(literal.parameters(), head.parameters(), strict=True):
        torch.testing.assert_close(got.grad, want.grad, rtol=1e-9, atol=1e-12)


def test_arithmetic_of_a_step():
    assert train.gflop(10_000, 1024) == pytest.approx(28.8, abs=0.05)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_first_losses_of_head_and_literal_are_near(precision):
    ours = train_step.head(HeadJob("acmil_2024_10", 300, 64, precision, 1, 0.02))
    literal = train_step.literal(LiteralJob(300, 64, 1, 0.02))
    tolerance = 1e-5 if precision == "fp32" else 1e-2
    assert ours.losses[0] == pytest.approx(literal.losses[0], abs=tolerance)
    parameters = 32 * 64 + 2 * 128 * 33 + 5 * 129 + 6 * 2 * 33
    assert ours.parameters == literal.parameters == parameters
    narrower = 1 if precision == "fp32" else 2
    assert ours.bag_mb * narrower == literal.bag_mb == 300 * 64 * 4 / 2**20
    assert ours.median_ms >= ours.step_ms > 0
    assert ours.losses[0] != ours.losses[1]  # it was a step


@pytest.mark.parametrize("recipe", ["graph_select", "ibmil", "mhim"])
def test_heads_with_graphs_and_first_stages_are_measured_too(recipe):
    assert train_step.head(HeadJob(recipe, 80, 16, "fp32", 1, 0.0)).step_ms > 0


@pytest.fixture
def fake(monkeypatch):
    """Each process ends at once: the literal takes 10, then 8 ms, ours 4; `max` fails."""
    jobs = []

    def measured(job):
        kind = train.PROGRAMS[type(job)]
        jobs.append((kind, getattr(job, "recipe", ""), getattr(job, "precision", "")))
        if kind == "products":
            return {"fp32": 100.0, "bf16": 200.0}
        if jobs[-1][1] == "max":
            return {"failed": "not enough memory"}
        slow = 10.0 if jobs.count(("literal", "", "")) == 1 else 8.0
        step = slow if kind == "literal" else 4.0
        return {
            "step_ms": step,
            "losses": [2.0, 1.5 if kind == "head" else 1.25],
            "median_ms": step,
            "memory_mb": 3.0 if kind == "head" else 12.0,
            "bag_mb": 1.0,
            "parameters": 5,
        }

    monkeypatch.setattr(train, "_measured", measured)
    monkeypatch.setattr(train, "has_fast_bf16", lambda _: True)
    return jobs


def test_rows_say_how_the_head_compares(fake):
    usual = {"tiles": [1000], "dim": 64, "precisions": ["fp32"], "threads": 1}
    rows = train.run(["abmil", "max"], repeats=2, literal=True, **usual).rows
    assert [(row["head"], row["precision"]) for row in rows] == [
        (train.LITERAL, "fp32"),
        (train.OURS, "fp32"),
        (train.OURS, "bf16"),
        ("abmil", "fp32"),
        ("max", "fp32"),
    ]
    assert (
        fake[:4]
        == fake[4:8]
        == [
            ("literal", "", ""),
            ("head", "acmil_2024_10", "fp32"),
            ("head", "acmil_2024_10", "bf16"),
            ("products", "", ""),
        ]
    )
    assert rows[0]["step_ms"] == 8.0  # of its fastest round
    assert (rows[2]["speed-up"], rows[2]["its_memory"], rows[2]["loss_off"]) == (2.0, 0.25, 0.25)
    assert rows[2]["floor_ms"] == pytest.approx(1e3 * train.gflop(1000, 64) / 200)
    assert rows[1]["of_floor"] == pytest.approx(4.0 / (1e3 * train.gflop(1000, 64) / 100))
    assert (rows[4]["failed"], rows[4]["step_ms"]) == ("not enough memory", "")
    assert len({tuple(row) for row in rows}) == 1


def test_all_heads_unless_some_are_named(fake):
    outcome = train.run(
        [], tiles=[10], dim=8, precisions=["fp32"], threads=1, repeats=1, literal=False
    )
    assert {"abmil", "acmil"} <= {row["head"] for row in outcome.rows}
    with pytest.raises(ConfigError, match="no head recipe named 'abmli'"):
        train.run(
            ["abmli"], tiles=[10], dim=8, precisions=["fp32"], threads=1, repeats=1, literal=False
        )


@pytest.mark.slow
def test_a_process_that_fails_says_why_in_one_line():
    fields = train._measured(HeadJob("acmil", 10, -1, "fp32", 1, 0.0))
    assert list(fields) == ["failed"]
    assert "\n" not in fields["failed"]
    assert "head acmil: dim: a whole number above 0 is needed, not -1" in fields["failed"]


@pytest.mark.slow
def test_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "ROUND_S", 0.01)
    options = [
        "--head",
        "abmil",
        "--tiles",
        "20",
        "--dim",
        "8",
        "--no-literal",
        "--json",
        str(tmp_path / "o.json"),
    ]
    done = CliRunner().invoke(app, ["bench", "train", *options])
    assert done.exit_code == 0, done.output
    (row,) = json.loads((tmp_path / "o.json").read_text())["rows"]
    assert (row["head"], row["tiles"], row["failed"]) == ("abmil", 20, "")
    assert row["step_ms"] > 0
