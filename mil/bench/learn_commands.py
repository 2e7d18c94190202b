"""`mil bench learn` at the command line."""

from pathlib import Path

from mil.bench import learn_options as options
from mil.config import DEFAULT_ENCODER
from mil.config.options import StainNorm


def bench_learn(
    tiles: options.LabelledTiles,
    head: options.Heads = None,
    loop: options.Loops = None,
    against: options.Against = "",
    cohorts: options.Cohorts = 8,
    tool_seed: options.ToolSeeds = None,
    seeds: options.Seeds = 3,
    train_slides: options.TrainSlides = 30,
    val_slides: options.ValSlides = 10,
    test_slides: options.TestSlides = 40,
    second_test_slides: options.SecondTestSlides = 60,
    witness: options.Witness = 0.08,
    stain_shift: options.StainShift = False,
    encoder: options.Encoder = DEFAULT_ENCODER,
    stains: options.Stains = 64,
    stain_norm: StainNorm = "none",
    max_tiles: options.MaxTiles = 2000,
    bank: options.Bank = None,
    device: options.Device = "auto",
    threads: options.Threads = 1,
    json: options.Results = None,
) -> None:
    """Train heads on many cohorts of composite slides, beside a probe of tile labels."""
    from mil.bench.learn import BankOptions, run
    from mil.bench.learn_cohorts import CohortSettings
    from mil.bench.learn_rows import HEADS, OWN, LearnRun
    from mil.bench.results_table import show

    tables = run(
        tiles,
        LearnRun(
            heads=head or HEADS,
            loops=loop or [OWN],
            cohorts=cohorts,
            tool_seeds=tool_seed or [],
            seeds=seeds,
            against=against,
        ),
        CohortSettings(
            train_slides=train_slides,
            val_slides=val_slides,
            test_slides=test_slides,
            second_test_slides=second_test_slides,
            witness=witness,
            stain_shift=stain_shift,
        ),
        BankOptions(
            folder=bank or (json.parent if json else Path()) / "learn-bank",
            encoder=encoder,
            stains=stains,
            max_tiles=max_tiles,
            device=device,
            stain_norm=stain_norm,
        ),
        threads=threads,
        json=json,
    )
    for table in tables:
        show(table, None)
