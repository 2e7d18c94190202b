"""`mil bench learn` at the command line."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.config import DEFAULT_ENCODER
from mil.config.options import StainNorm


def bench_learn(
    tiles: Annotated[
        Path,
        typer.Argument(
            help="Folder of labelled tiles, as for `mil demo composites`: PatchCamelyon, for "
            "example."
        ),
    ],
    head: Annotated[
        list[str] | None,
        typer.Option(
            help="Name or file of a recipe; repeat for several; default: the heads of the "
            "published table."
        ),
    ] = None,
    loop: Annotated[
        list[str] | None,
        typer.Option(
            help="Training of the heads, own or published; own: as the recipe says; published: "
            "one bag a step at 1e-4 for 50 epochs; repeat for both; default: own."
        ),
    ] = None,
    against: Annotated[
        str,
        typer.Option(
            help="Reference of a second table with paired differences: a row of the table, or "
            "published or own for the same recipe with that loop; default: none."
        ),
    ] = "",
    cohorts: Annotated[int, typer.Option(min=0, help="Number of cohorts that are drawn.")] = 8,
    tool_seed: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="Seed of `mil demo composites` whose training and validation slides are one "
            "more cohort; repeat for several.",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Number of trainings of each recipe on each cohort.")
    ] = 3,
    train_slides: Annotated[int, typer.Option(min=2, help="Number of training slides.")] = 30,
    val_slides: Annotated[int, typer.Option(min=2, help="Number of validation slides.")] = 10,
    test_slides: Annotated[int, typer.Option(min=2, help="Number of slides of the test set.")] = 40,
    second_test_slides: Annotated[
        int, typer.Option(min=2, help="Number of slides of the second test set.")
    ] = 60,
    witness: Annotated[
        float, typer.Option(min=0, max=1, help="Share of tumour tiles in a positive slide.")
    ] = 0.08,
    stain_shift: Annotated[
        bool,
        typer.Option(
            "--stain-shift",
            help="Second test set of another stain: tiles are divided into two groups by their "
            "colour, as of two centres, and all other slides are of one group.",
        ),
    ] = False,
    encoder: Annotated[
        str, typer.Option(help="Name of an encoder in configs/encoders.yaml.")
    ] = DEFAULT_ENCODER,
    stains: Annotated[
        int, typer.Option(min=4, max=64, help="Number of stains that tiles are encoded under.")
    ] = 64,
    stain_norm: StainNorm = "none",
    max_tiles: Annotated[
        int,
        typer.Option(
            min=2, help="Largest number of tiles; of more, half of it is drawn of each class."
        ),
    ] = 2000,
    bank: Annotated[
        Path | None,
        typer.Option(
            help="Folder for encoded tiles, which later runs use again; default: learn-bank "
            "beside the file of --json, or else in the working directory."
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(help="Device of the encoder; auto: a GPU if there is one."),
    ] = "auto",
    threads: Annotated[
        int,
        typer.Option(min=1, help="Number of threads of the encoder, then of parallel trainings."),
    ] = 1,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="JSON file of the results, written after each training; an existing one is "
            "resumed.",
        ),
    ] = None,
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
