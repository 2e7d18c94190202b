"""`mil bench kernels`: floors are right, wrong results are not timed, failures are rows."""

import json
import sys

import pytest
import torch
from typer.testing import CliRunner

from mil.bench import kernels, kernels_bars, kernels_step
from mil.bench.kernels_cases import OPERATIONS, Case, work
from mil.bench.kernels_operations import OPERATION
from mil.bench.kernels_results import Measurement, Rates, Request
from mil.cli import app

CPU = torch.device("cpu")
HOW = kernels.Setup("cpu", "auto", 1, ("ours", "eager", "other"))
RATES = Rates(2e9, {"fp32": 1e12, "bf16": 4e12}, "")


def small(operation, dtype="fp32", bags=2):
    return Case(operation, 60, 32, 3, bags, dtype)


def test_bags_are_unequal_and_hold_all_tiles():
    assert Case("attn_pool", 100, 8, 1, 4, "fp32").offsets() == [0, 10, 30, 60, 100]
    assert Case("attn_pool", 5, 8, 1, 4, "fp32").offsets() == [0, 1, 2, 3, 5]  # none is empty
    assert Case("attn_pool", 5, 8, 1, 1, "fp32").offsets() == [0, 5]


@pytest.mark.parametrize(
    ("operation", "forward", "both"),
    [
        # 100 tiles of 8 numbers in bf16: 1600 bytes; 2 branches: 800 of scores; 3
        # pooled rows a branch: 192
        ("attn_pool", (1600 + 800 + 192, 2 * 100 * 8 * 2), (3 * 2400 + 2 * 192, 3 * 3200)),
        # reducer 4 x 8, gates 2 x 128 x 4, score 2 x 128: 1312 numbers; products 6400,
        # 230400, 1600
        (
            "gated_attn_pool",
            (1600 + 800 + 5248 + 96, 6400 + 256_000 + 1600),
            (3200 + 1600 + 15_744 + 192, 12_800 + 3 * 257_600),
        ),
        # 256 gates of 8 numbers, 2 scores of 128: 2304 numbers; products 409 600 and 51
        # 200
        ("gated_scores", (1600 + 800 + 9216, 460_800), (4800 + 1600 + 27_648, 3 * 460_800)),
        ("topk_mask", (1600, 0), (3200, 0)),
        # 900 edges: 14 400 bytes of indices, 3600 of attention
        ("neighbour_attn", (4800 + 14_400 + 3600, 6 * 7200), (12_800 + 28_800 + 7200, 14 * 7200)),
        # bags of 16, 33 and 51 tiles, each a run: 3946 pairs; 400 bytes of log-sum-exps
        ("bag_attn", (6400 + 400, 4 * 8 * 3946), (19_200 + 800, 14 * 8 * 3946)),
        # 49 agents of each bag to its tiles and back: 9800 pairs
        ("bag_attn_agents", (6400 + 400, 4 * 8 * 9800), (19_200 + 800, 14 * 8 * 9800)),
        # 900 pairs, and as many numbers of tiles
        ("window_attn", (6800 + 7200, 4 * 8 * 900), (20_000 + 14_400, 14 * 8 * 900)),
    ],
)
def test_least_bytes_and_operations(operation, forward, both):
    case = Case(operation, 100, 8, 2, 3, "bf16")
    assert work(case, backward=False) == forward
    assert work(case, backward=True) == both


def test_runs_stay_within_bags():
    assert Case("bag_attn", 900, 8, 1, 2, "fp32").runs() == [0, 256, 300, 556, 812, 900]
    assert Case("bag_attn", 10, 1536, 1, 1, "fp32").mix_heads == (24, 64)
    assert Case("bag_attn", 10, 36, 1, 1, "fp32").mix_heads == (1, 36)


def test_the_floor_is_what_takes_longer():
    pool = work(Case("attn_pool", 1000, 512, 5, 1, "bf16"), backward=False)
    assert pool.floor_s(copy=1e9, rate=1e15) == pytest.approx((1_024_000 + 20_000 + 10_240) / 1e9)
    assert pool.floor_s(copy=1e15, rate=1e9) == pytest.approx(5_120_000 / 1e9)


@pytest.mark.parametrize("bags", [1, 3])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_proved_and_timed(operation, dtype, bags):
    result = kernels_step.measure(small(operation, dtype, bags), "ours", "auto", CPU, 0.0)
    assert result.failed == ""
    assert len(result.ms) == 2
    assert all(ms > 0 for ms in result.ms)
    assert all(0 <= memory < 100 for memory in result.memory_mb)
    assert 0 < result.gradients_mb < 1


def test_memory_is_that_of_the_call_alone():
    taken, kept = kernels_step.with_memory(
        lambda: torch.ones(5 << 20) + torch.ones(5 << 20), CPU
    )  # three of 20 MB
    assert taken == pytest.approx(60, abs=4)
    assert kept.nbytes == 20 << 20
    assert kernels_step.with_memory(lambda: torch.ones(5 << 20), CPU)[0] == pytest.approx(20, abs=4)


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_torchs_attention_pools_the_same(dtype):
    case = Case("attn_pool", 60, 256, 3, 1, dtype)
    assert kernels_step.error(case, kernels_step.called(case, "other", "auto"), CPU) == ""
    assert kernels_step.measure(case, "other", "auto", CPU, 0.0).ms
    # It knows no packed bags.
    packed = case._replace(bags=2)
    assert kernels_step.measure(packed, "other", "auto", CPU, 0.0) == Measurement()


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (lambda pooled, given: pooled * 1.01, "result 0 is off by 0.01"),
        (
            lambda pooled, given: pooled + (given["scores"] - given["scores"].detach()).sum(),
            "gradient of scores",
        ),
        (lambda pooled, given: pooled * float("nan"), "result 0 is off by nan"),
    ],
)
def test_what_is_wrong_is_not_timed(spoilt, message, monkeypatch):
    right = OPERATION["attn_pool"]

    def call(given, backend):
        pooled = right.call(given, backend)
        return pooled if backend == "reference" else (spoilt(pooled[0], given),)

    monkeypatch.setitem(OPERATION, "attn_pool", right._replace(call=call))
    result = kernels_step.measure(small("attn_pool"), "ours", "auto", CPU, 0.0)
    assert result == Measurement(failed=result.failed)
    assert result.failed.startswith(f"wrong, not timed: {message}")


def records_of(monkeypatch, capsys, jobs):
    # The limit would hold for this process, which continues.
    monkeypatch.setattr(kernels_step, "limit_memory", lambda: None)
    monkeypatch.setattr(kernels_step, "keep_freed_memory", lambda: None)
    request = Request("cpu", "auto", 1, 0.0, jobs)
    monkeypatch.setattr(sys, "argv", ["", json.dumps(request._asdict())])
    kernels_step.main()
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_what_does_not_fit_is_told_and_the_next_is_measured(monkeypatch, capsys):
    huge = small("attn_pool")._replace(tiles=10**14)
    next_one = small("attn_pool")
    first, second = records_of(monkeypatch, capsys, [("ours", huge), ("ours", next_one)])
    assert first == {"failed": "does not fit into memory"}
    assert second["ms"][1] > second["ms"][0] > 0


def test_after_a_process_that_ended_another_goes_on(monkeypatch):
    batches = []

    def process(batch, how):
        batches.append([way for way, _ in batch])
        return (
            ([{"ms": [1.0, 2.0]}] * 2, "Segmentation fault")
            if len(batches) == 1
            else ([{}] * len(batch), "")
        )

    monkeypatch.setattr(kernels, "_process", process)
    records = list(kernels._records([(name, None) for name in "abcde"], HOW))
    assert records == [
        {"ms": [1.0, 2.0]},
        {"ms": [1.0, 2.0]},
        {"failed": "Segmentation fault"},
        {},
        {},
    ]
    assert batches == [list("abcde"), list("de")]


def test_rows_have_rates_and_ratios():
    case = Case("attn_pool", 1_000_000, 512, 5, 1, "fp32")  # 2068 MB forward, 5.12 GFLOP
    results = {
        "ours": Measurement([2000.0, 8000.0], [1.0, 2000.0]),
        "eager": Measurement([3000.0, 8000.0], [5.0, 6.0]),
        "other": Measurement(),
    }
    forward, both = kernels.rows_of(case, results, RATES)
    assert forward["GB/s"] == pytest.approx(1.034, rel=1e-3)
    assert forward["TFLOP/s"] == pytest.approx(0.00256)
    assert forward["of_copy"] == pytest.approx(0.517, rel=1e-3)
    assert forward["of_floor"] == pytest.approx(1.934, rel=1e-3)
    assert (forward["eager"], forward["compiled"], forward["other"]) == (1.5, "", "")
    assert (both["pass"], both["memory_MB"], both["eager_MB"], both["failed"]) == (
        "forward+backward",
        2000.0,
        6.0,
        "",
    )
    assert both.keys() == forward.keys()


def test_what_failed_is_a_row_with_its_reason():
    results = {"ours": Measurement(failed="does not fit into memory"), "eager": Measurement()}
    (row, _) = kernels.rows_of(small("attn_pool"), results, RATES)
    assert row["failed"] == "does not fit into memory"
    assert row["ms"] == row["eager"] == ""


@pytest.mark.slow
def test_a_run_from_the_command_line(tmp_path):
    out = tmp_path / "kernels.json"
    sizes = ["--tiles", "60", "--dim", "32", "--bags", "1", "--bags", "2", "--branches", "3"]
    done = CliRunner().invoke(
        app, ["bench", "kernels", "--op", "attn_pool", *sizes, "--json", str(out)]
    )
    assert done.exit_code == 0, done.output
    written = json.loads(out.read_text(encoding="utf-8"))
    assert [(row["bags"], row["pass"]) for row in written["rows"]] == [
        (bags, name) for bags in (1, 2) for name in kernels.PASSES
    ]
    assert all(
        row["ms"] > 0 and row["eager"] > 0 and row["failed"] == "" for row in written["rows"]
    )
    assert "gpu" not in written["machine"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--op", "softmax"], "--op softmax: there are attn_pool, "),
        (["--dtype", "fp8"], "--dtype fp8: there are fp32, bf16, fp16"),
        (
            ["--tiles", "4", "--bags", "16"],
            "--bags 16: more than --tiles 4, and no bag may be empty",
        ),
        (["--dim", "30"], "--dim 30: not a multiple of 4, the heads of neighbour_attn"),
        (["--backend", "triton", "--device", "cpu"], "--backend triton needs a CUDA device"),
        (
            ["--bars", "--device", "cpu"],
            "--bars are of an H100 or H200, and no CUDA device is used here",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments, said):
    done = CliRunner().invoke(app, ["bench", "kernels", *arguments])
    assert done.exit_code != 0
    assert said in str(done.exception)
    assert "\n" not in str(done.exception)


def bar(measure, place=1, more=0.0, **ours):
    """Row of a bar whose step takes 10 ms and 1000 MB; 2000 MB and `more` for twice the tiles."""
    target = next(
        bar for bar in kernels_bars.BARS if (bar.measure, bar.pass_index) == (measure, place)
    )
    single = Measurement([1.0, 10.0], [0.0, 1000.0], 1.0, 980.0, 990.0)._replace(**ours)
    doubled = single._replace(
        memory_mb=[0.0, 2000.0 + more],
        results_mb=2 * single.results_mb,
        largest_mb=2 * single.largest_mb,
        gradients_mb=2 * single.gradients_mb,
    )
    ways = {
        "ours": single,
        "eager": Measurement([1.0, 30.0]),
        "compiled": Measurement(failed="does not fit into memory"),
    }
    results = {target.case: ways, kernels_bars.twice(target.case): {"ours": doubled}}
    return kernels_bars.row_of(target, results, Rates(1.2e12, {"bf16": 5e14}, "H100"))


def test_bars_hold_or_do_not():
    row = bar("of copy", 0)  # 1.044 GB in a millisecond, of 1.2 TB/s
    assert (row["measured"], row["held"]) == (pytest.approx(0.870, abs=1e-3), "yes")
    assert bar("of copy", 0, ms=[1.1, 9.0])["held"] == "no"
    row = bar("of copy", ms=[1.0, 3.0])
    assert (row["measured"], row["held"]) == (pytest.approx(0.870, abs=1e-3), "yes")
    assert (bar("times eager")["measured"], bar("times eager")["held"]) == (3.0, "yes")
    assert bar("times eager", ms=[1.0, 10.1])["held"] == "no"


def test_the_bar_of_memory_is_that_it_does_not_grow():
    row = bar("memory that grows")  # 9 MB more for 980 MB more of features
    assert (row["measured"], row["held"]) == (pytest.approx(9 / 980), "yes")
    assert bar("memory that grows", more=98.0)["held"] == "no"


def test_a_bar_that_could_not_be_measured_does_not_hold():
    row = bar("times compiled")
    assert (row["measured"], row["held"], row["failed"]) == ("", "no", "does not fit into memory")
    assert bar("of floor", failed="wrong, not timed")["held"] == "no"


def test_all_bars_are_measured_on_a_gpu(monkeypatch):
    def measured(cases, how):
        ways = {
            way: Measurement([1.0, 3.0] if way == "ours" else [2.0, 6.0], [0.0, 9.0], 1.0)
            for way in how.ways
        }
        for case in cases:
            ways["ours"] = ways["ours"]._replace(largest_mb=case.tiles / 1000)
            yield case, dict(ways)

    rates = Rates(1.2e12, {"bf16": 1e15}, "H100")
    monkeypatch.setattr(
        kernels_bars, "measured", lambda cases, how: (dict(measured(cases, how)), rates)
    )
    outcome = kernels_bars.run(HOW._replace(device="cuda"))
    assert [row["held"] for row in outcome.rows] == ["yes", "yes", "yes", "no", "yes", "no", "yes"]
    assert outcome.title == "mil bench kernels --bars, H100: 5 of 7 hold"
    assert outcome.gpu == "H100"
