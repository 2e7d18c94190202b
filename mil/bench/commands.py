"""`mil bench …` at the command line; a benchmark is imported when it is called."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.bench.gpu.commands import bench_gpu
from mil.bench.mix_commands import bench_mix
from mil.bench.start_commands import bench_pipeline, bench_start
from mil.config import DEFAULT_ENCODER
from mil.config.options import StainNorm

bench_app = typer.Typer(help="Measure throughput on this machine.", no_args_is_help=True)
bench_app.command("start")(bench_start)
bench_app.command("pipeline")(bench_pipeline)
bench_app.command("gpu")(bench_gpu)
bench_app.command("mix")(bench_mix)

# Options that several benchmarks share.
Threads = Annotated[int, typer.Option(min=1, help="Number of CPU threads.")]
Slides = Annotated[
    list[Path] | None,
    typer.Argument(help="Files of slides; default: two synthetic slides of 60 000 x 60 000 px."),
]
Json = Annotated[
    Path | None,
    typer.Option(
        "--json", help="JSON file to write the table and a description of the machine to."
    ),
]
TilePx = Annotated[int, typer.Option(min=16, help="Side of a tile, pixels.")]
TargetMpp = Annotated[
    float, typer.Option(min=0.01, help="Resolution of a tile, micrometres per pixel.")
]


@bench_app.command("read")
def bench_read(
    slides: Slides = None,
    threads: Threads = 1,
    tiles: Annotated[
        int, typer.Option(min=1, help="Approximate number of tiles of each slide.")
    ] = 1000,
    tile_px: TilePx = 256,
    target_mpp: TargetMpp = 0.5,
    repeats: Annotated[
        int,
        typer.Option(min=1, help="Number of repeats of each measurement; the median is reported."),
    ] = 3,
    json: Json = None,
) -> None:
    """Time reading: tiles a second by stage, beside a plain loop over OpenSlide."""
    from mil.bench.read import run
    from mil.bench.results_table import show

    show(
        run(
            slides or [],
            threads=threads,
            tiles=tiles,
            tile_px=tile_px,
            target_mpp=target_mpp,
            repeats=repeats,
        ),
        json,
    )


@bench_app.command("features")
def bench_features(
    slides: Slides = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of an encoder in configs/encoders.yaml; repeat for several; "
            f"default: {DEFAULT_ENCODER}."
        ),
    ] = None,
    threads: Threads = 1,
    tiles: Annotated[
        int, typer.Option(min=1, help="Approximate largest number of tiles of each slide.")
    ] = 1000,
    repeats: Annotated[
        int,
        typer.Option(min=1, help="Number of repeats of each measurement; the median is reported."),
    ] = 3,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(help="Device to compute on; auto: a GPU if there is one."),
    ] = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        typer.Option(help="Precision of the encoder; auto: one that the device is fast in."),
    ] = "auto",
    random_weights: Annotated[
        bool,
        typer.Option("--random-weights", help="Use random weights instead of downloaded ones."),
    ] = False,
    json: Json = None,
) -> None:
    """Time feature extraction: tiles a second of reading, of an encoder, and of both."""
    from mil.bench.features import run
    from mil.bench.results_table import show

    outcome = run(
        slides or [],
        encoders=encoder or [DEFAULT_ENCODER],
        threads=threads,
        tiles=tiles,
        repeats=repeats,
        device=device,
        precision=precision,
        random_weights=random_weights,
    )
    show(outcome, json)


@bench_app.command("tile")
def bench_tile(
    slides: Slides = None, tile_px: TilePx = 224, target_mpp: TargetMpp = 0.5, json: Json = None
) -> None:
    """Time tiling: seconds a slide by stage, beside OpenSlide's own thumbnail."""
    from mil.bench.results_table import show
    from mil.bench.tile import run

    show(run(slides or [], tile_px=tile_px, target_mpp=target_mpp), json)


@bench_app.command("train")
def bench_train(
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--head",
            help="Name of a recipe; repeat for several; default: the recipe named like each head.",
        ),
    ] = None,
    tiles: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Number of tiles of a bag; repeat for several; default: 10 000."),
    ] = None,
    dim: Annotated[int, typer.Option(min=2, help="Feature dimension.")] = 1024,
    precision: Annotated[
        Literal["fp32", "bf16", "both"], typer.Option(help="Precision of the matrix products.")
    ] = "fp32",
    threads: Threads = 1,
    repeats: Annotated[
        int,
        typer.Option(min=1, help="Number of rounds of the comparison; the fastest is reported."),
    ] = 3,
    literal: Annotated[
        bool, typer.Option(help="Compare ACMIL with a plain PyTorch implementation.")
    ] = True,
    json: Json = None,
) -> None:
    """Time training: milliseconds and memory of a step, by head, on the CPU."""
    from mil.bench.results_table import show
    from mil.bench.train import run

    outcome = run(
        recipe or [],
        tiles=tiles or [10_000],
        dim=dim,
        threads=threads,
        repeats=repeats,
        precisions=["fp32", "bf16"] if precision == "both" else [precision],
        literal=literal,
    )
    show(outcome, json)


@bench_app.command("classical")
def bench_classical(
    folder: Annotated[
        Path, typer.Argument(help="Folder of the data sets: NAME.jld files and NAME_mat folders.")
    ],
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Name of a data set, such as musk1; repeat for several; default: all."),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of a recipe; repeat for several; default: all but those of publications."
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="Number of repeats of the cross-validation.")
    ] = 5,
    folds: Annotated[
        int, typer.Option(min=2, help="Number of folds of each cross-validation.")
    ] = 10,
    threads: Annotated[
        int, typer.Option(min=1, help="Number of parallel processes, one thread each.")
    ] = 1,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="JSON file of the results, written after each head; an existing one is resumed.",
        ),
    ] = None,
) -> None:
    """Cross-validate the heads on the classical MIL data sets, beside published accuracy."""
    from mil.bench.classical import run
    from mil.bench.results_table import show

    outcome = run(
        folder,
        datasets=dataset or [],
        heads=head or [],
        repeats=repeats,
        folds=folds,
        threads=threads,
        json=json,
    )
    show(outcome, None)


@bench_app.command("learn")
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


@bench_app.command("graph")
def bench_graph(
    tiles: Annotated[
        list[int] | None,
        typer.Option(
            min=10,
            help="Number of tiles of a bag; repeat for several; "
            "default: 10 000, 100 000, 1 000 000.",
        ),
    ] = None,
    dim: Annotated[int, typer.Option(min=1, help="Feature dimension.")] = 384,
    threads: Threads = 1,
    repeats: Annotated[
        int,
        typer.Option(min=1, help="Number of repeats of each measurement; the fastest is reported."),
    ] = 2,
    knn_up_to: Annotated[
        int,
        typer.Option(
            min=0, help="Largest number of tiles for which exact neighbours are computed."
        ),
    ] = 20_000,
    libraries_up_to: Annotated[
        int,
        typer.Option(min=0, help="Largest number of tiles for which other libraries are timed."),
    ] = 100_000,
    json: Json = None,
) -> None:
    """Time neighbour graphs: seconds, growth, memory and quality.

    Beside hnswlib and pynndescent, if they are installed.
    """
    from mil.bench.graph import run
    from mil.bench.results_table import show

    outcome = run(
        tiles or [10_000, 100_000, 1_000_000],
        dim=dim,
        threads=threads,
        repeats=repeats,
        knn_up_to=knn_up_to,
        libraries_up_to=libraries_up_to,
    )
    show(outcome, json)


@bench_app.command("kernels")
def bench_kernels(
    op: Annotated[
        list[str] | None,
        typer.Option(help="Name of an operation; repeat for several; default: all."),
    ] = None,
    tiles: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Number of tiles of all bags together; repeat for several; default: see "
            "docs/explain/kernels.md.",
        ),
    ] = None,
    dim: Annotated[
        list[int] | None, typer.Option(min=4, help="Feature dimension; repeat for several.")
    ] = None,
    branches: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Number of attention branches; repeat for several."),
    ] = None,
    bags: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Number of packed bags of unequal length; repeat for several."),
    ] = None,
    dtype: Annotated[
        list[str] | None,
        typer.Option(help="Data type of the features: fp32, bf16 or fp16; repeat for several."),
    ] = None,
    backend: Annotated[
        Literal["auto", "reference", "cpu", "triton"],
        typer.Option(help="Implementation to time; auto: the one that mil would choose."),
    ] = "auto",
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(help="Device to compute on; auto: a GPU if there is one."),
    ] = "auto",
    compiled: Annotated[
        bool | None, typer.Option(help="Time torch.compile too; it takes long; default: on a GPU.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Time fewer sizes.")] = False,
    bars: Annotated[
        bool, typer.Option("--bars", help="Time only the targets for an H100 or H200.")
    ] = False,
    threads: Threads = 1,
    json: Json = None,
) -> None:
    """Time each operation over bags: seconds, rates and memory.

    Beside its floor, PyTorch, torch.compile and other libraries.
    """
    from mil.bench import kernels, kernels_bars
    from mil.bench.results_table import show

    where = kernels.chosen_device(device, backend)
    both = (
        ("ours", "eager", "compiled")
        if compiled or (compiled is None and where == "cuda")
        else ("ours", "eager")
    )
    setup = kernels.Setup(where, backend, threads, (*both, "other"))
    if bars:
        show(kernels_bars.run(setup), json)
        return
    usual = (kernels.QUICK if quick else kernels.USUAL)[where]
    sizes = kernels.KernelSizes(tiles or (), dim or (), branches or (), bags or (), dtype or ())
    show(kernels.run(op or [], sizes.or_else(usual), setup), json)
