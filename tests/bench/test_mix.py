"""`mil bench mix`: floors, ratios, the length from which a mixer is cheaper, the distance."""

import pytest
import torch
from typer.testing import CliRunner

from mil.bench import mix
from mil.bench.mix_bags import SHAPE, made_bag
from mil.bench.mix_measure import Job, MachineRates, MixFigures, compared, measure_mixer
from mil.cli import app
from mil.kernels.bag_attn import bag_attn

RATES = MachineRates(copy=1e9, product=1e9)


def figures(ms):
    return MixFigures((ms / 3, ms), 10.0, 0.5, 20.0)


def test_full_attention_is_at_no_distance_and_the_mean_of_all_at_its_own():
    rows, places = made_bag(150, torch.device("cpu"))
    exact, _ = bag_attn(*rows[:3], places.offsets, places.offsets)
    distance, support = compared(exact, rows, places)
    assert distance < 1e-6
    # Of 150 tiles; equal attention would be all of them.
    assert 5 < support < 100
    mean = rows.values.mean(0).expand_as(rows.values)
    assert compared(mean, rows, places)[0] == pytest.approx(1.0, abs=0.05)


def test_tiles_lie_on_a_grid_and_are_the_same_each_time():
    rows, places = made_bag(100, torch.device("cpu"))
    again, _ = made_bag(100, torch.device("cpu"))
    assert torch.equal(rows.values, again.values)
    assert rows.queries.shape == (100, SHAPE.query_heads, SHAPE.width)
    assert len(places.coords.unique(dim=0)) == 100
    assert places.coords.amax(0).tolist() == [9 * 512, 9 * 512]


@pytest.mark.parametrize("backend", ["fast", "reference"])
def test_a_mixer_is_measured(backend, monkeypatch):
    monkeypatch.setattr("mil.bench.mix_measure.limit_memory", lambda: None)
    monkeypatch.setattr("mil.bench.mix_measure.keep_freed_memory", lambda: None)
    monkeypatch.setattr("mil.bench.mix_measure.LEAST_SECONDS", 0.0)
    by_length = measure_mixer(Job("uniform", (20, 40), backend, "cpu", 1))
    assert list(by_length) == [20, 40]
    found = by_length[40]
    assert found.failed == ""
    assert found.ms[1] > 0
    assert found.distance > 0.5


def test_the_floor_is_products_or_rows_whichever_takes_longer():
    # 3.5 x 4 x 512 operations for each of 1e6 pairs.
    assert mix.floor_s("full", 1000, RATES) == pytest.approx(7.168)
    assert mix.floor_s("uniform", 1000, RATES) == pytest.approx(12 * 1000 * 512 * 4 / 1e9)


def test_a_mixer_is_cheaper_from_where_the_times_cross():
    full = {100: 1.0, 1000: 100.0, 10_000: 10_000.0}
    # Ten times as long at 100 tiles, a tenth at 1000 and a hundredth at 10 000.
    assert mix.cheaper_from({100: 10.0, 1000: 10.0, 10_000: 100.0}, full) == "316"
    assert mix.cheaper_from({100: 0.5, 1000: 10.0}, full) == "under 100"
    assert mix.cheaper_from({100: 2.0, 1000: 200.0}, full) == ""


def test_rows_hold_ratios_of_one_run_and_reckon_full_attention():
    found = {
        ("full", 100): figures(40.0),
        ("full", 200): MixFigures(failed="does not fit into memory"),
        ("agent", 100): figures(20.0),
        ("agent", 200): figures(40.0),
    }
    full, failed, agent, longer = mix.rows_of(found, RATES, "cpu")
    assert (full["full/this"], agent["full/this"], longer["full/this"]) == (1.0, 2.0, "~4")
    assert (failed["ms"], failed["failed"]) == ("", "does not fit into memory")
    assert agent["of_floor"] == pytest.approx(0.02 / mix.floor_s("agent", 100, RATES))
    assert (full["cheaper_from"], agent["cheaper_from"]) == ("", "under 100")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mixer", "nothing"], "--mixer nothing: there are uniform, full"),
        (["--tiles", "500", "--full-up-to", "400"], "--full-up-to 400: less than the shortest"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, message):
    done = CliRunner().invoke(app, ["bench", "mix", *arguments])
    assert done.exit_code != 0
    assert message in done.output or message in str(done.exception)
