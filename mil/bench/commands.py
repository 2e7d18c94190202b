"""`mil bench …` at the command line. A benchmark is imported when it is called."""

from pathlib import Path
from typing import Annotated, Literal

import typer

bench_app = typer.Typer(help="Measure throughput on this machine.", no_args_is_help=True)

Threads = Annotated[int, typer.Option(min=1, help="Threads of the CPU.")]
Slides = Annotated[
    list[Path] | None, typer.Argument(help="Slides; none: two made for it, 60 000 x 60 000 px.")
]
Json = Annotated[
    Path | None, typer.Option("--json", help="Write the table and the machine to this file too.")
]
TilePx = Annotated[int, typer.Option(min=16, help="Side of a tile, pixels.")]
TargetMpp = Annotated[float, typer.Option(min=0.01, help="Scale of a tile, µm per pixel.")]


@bench_app.command("read")
def bench_read(
    slides: Slides = None,
    threads: Threads = 1,
    tiles: Annotated[int, typer.Option(min=1, help="About how many tiles of each slide.")] = 1000,
    tile_px: TilePx = 256,
    target_mpp: TargetMpp = 0.5,
    repeats: Annotated[
        int, typer.Option(min=1, help="Of each measurement; the median counts.")
    ] = 3,
    json: Json = None,
) -> None:
    """Tiles a second, by stage, beside a plain loop over OpenSlide with as many threads."""
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
        typer.Option(help="Of configs/encoders.yaml; repeat. [default: efficientnet_lite0]"),
    ] = None,
    threads: Threads = 1,
    tiles: Annotated[
        int, typer.Option(min=1, help="About how many tiles of each slide, at most.")
    ] = 1000,
    repeats: Annotated[
        int, typer.Option(min=1, help="Of each measurement; the median counts.")
    ] = 3,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")
    ] = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"], typer.Option(help="auto: what is fast.")
    ] = "auto",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Do not ask for weights.")
    ] = False,
    json: Json = None,
) -> None:
    """Tiles a second of reading, of an encoder, and of both together; which of them limits."""
    from mil.bench.features import run
    from mil.bench.results_table import show

    found = run(
        slides or [],
        encoders=encoder or ["efficientnet_lite0"],
        threads=threads,
        tiles=tiles,
        repeats=repeats,
        device=device,
        precision=precision,
        random_weights=random_weights,
    )
    show(found, json)


@bench_app.command("tile")
def bench_tile(
    slides: Slides = None, tile_px: TilePx = 224, target_mpp: TargetMpp = 0.5, json: Json = None
) -> None:
    """Seconds to tile a slide, by stage, beside OpenSlide's own thumbnail."""
    from mil.bench.results_table import show
    from mil.bench.tile import run

    show(run(slides or [], tile_px=tile_px, target_mpp=target_mpp), json)


@bench_app.command("train")
def bench_train(
    recipe: Annotated[
        list[str] | None, typer.Option("--head", help="Recipes; repeat. [default: each head's own]")
    ] = None,
    tiles: Annotated[
        list[int] | None, typer.Option(min=1, help="Of a bag; repeat. [default: 10 000]")
    ] = None,
    dim: Annotated[int, typer.Option(min=2, help="Length of a feature vector.")] = 1024,
    precision: Annotated[
        Literal["fp32", "bf16", "both"], typer.Option(help="Of the matrix products.")
    ] = "fp32",
    threads: Threads = 1,
    repeats: Annotated[
        int, typer.Option(min=1, help="Rounds of the comparison; the fastest counts.")
    ] = 3,
    literal: Annotated[
        bool, typer.Option(help="Compare ACMIL with the literal way of writing it.")
    ] = True,
    json: Json = None,
) -> None:
    """Milliseconds and memory of a training step, by head, on this machine's CPU."""
    from mil.bench.results_table import show
    from mil.bench.train import run

    found = run(
        recipe or [],
        tiles=tiles or [10_000],
        dim=dim,
        threads=threads,
        repeats=repeats,
        precisions=["fp32", "bf16"] if precision == "both" else [precision],
        literal=literal,
    )
    show(found, json)


@bench_app.command("classical")
def bench_classical(
    folder: Annotated[
        Path, typer.Argument(help="Of the data sets: NAME.jld files, NAME_mat folders.")
    ],
    dataset: Annotated[
        list[str] | None, typer.Option(help="Such as musk1; repeat. [default: all]")
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(help="Recipes; repeat. [default: all but those of publications]"),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Of the cross-validation.")] = 5,
    folds: Annotated[int, typer.Option(min=2, help="Of each.")] = 10,
    threads: Annotated[
        int, typer.Option(min=1, help="Processes side by side, one thread each.")
    ] = 1,
    json: Annotated[
        Path | None, typer.Option("--json", help="Results, after each head; taken up where left.")
    ] = None,
) -> None:
    """Cross-validated accuracy of the heads on the classical MIL data sets, beside what is published."""
    from mil.bench.classical import run
    from mil.bench.results_table import show

    found = run(
        folder,
        datasets=dataset or [],
        heads=head or [],
        repeats=repeats,
        folds=folds,
        threads=threads,
        json=json,
    )
    show(found, None)


@bench_app.command("graph")
def bench_graph(
    tiles: Annotated[
        list[int] | None,
        typer.Option(min=10, help="Of a bag; repeat. [default: 10 000, 100 000, 1 000 000]"),
    ] = None,
    dim: Annotated[int, typer.Option(min=1, help="Length of a feature vector.")] = 384,
    threads: Threads = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Of each; the fastest counts.")] = 2,
    knn_up_to: Annotated[
        int, typer.Option(min=0, help="Tiles up to which exact neighbours are sought.")
    ] = 20_000,
    libraries_up_to: Annotated[
        int, typer.Option(min=0, help="Tiles up to which others are timed.")
    ] = 100_000,
    json: Json = None,
) -> None:
    """Seconds, growth, memory and quality of neighbour graphs, beside hnswlib and pynndescent if they are installed."""
    from mil.bench.graph import run
    from mil.bench.results_table import show

    found = run(
        tiles or [10_000, 100_000, 1_000_000],
        dim=dim,
        threads=threads,
        repeats=repeats,
        knn_up_to=knn_up_to,
        libraries_up_to=libraries_up_to,
    )
    show(found, json)


@bench_app.command("kernels")
def bench_kernels(
    op: Annotated[list[str] | None, typer.Option(help="Operations; repeat. [default: all]")] = None,
    tiles: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Of all bags together; repeat. [default: see docs/kernels.md]"),
    ] = None,
    dim: Annotated[
        list[int] | None, typer.Option(min=4, help="Length of a feature vector; repeat.")
    ] = None,
    branches: Annotated[list[int] | None, typer.Option(min=1, help="Of attention; repeat.")] = None,
    bags: Annotated[
        list[int] | None, typer.Option(min=1, help="Of unequal length, packed; repeat.")
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(help="fp32, bf16, fp16: of features; repeat.")
    ] = None,
    backend: Annotated[
        Literal["auto", "reference", "cpu", "triton"], typer.Option(help="Who computes.")
    ] = "auto",
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")
    ] = "auto",
    compiled: Annotated[
        bool | None, typer.Option(help="Time torch.compile too. [default: on a GPU; it takes long]")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer sizes.")] = False,
    bars: Annotated[
        bool, typer.Option("--bars", help="Only what is to be reached on an H100 or H200.")
    ] = False,
    threads: Threads = 1,
    json: Json = None,
) -> None:
    """Time, rates and memory of each operation over bags, beside its floor, PyTorch, torch.compile and others."""
    from mil.bench import kernels, kernels_bars
    from mil.bench.results_table import show

    where = kernels.chosen_device(device, backend)
    both = (
        ("ours", "eager", "compiled")
        if compiled or (compiled is None and where == "cuda")
        else ("ours", "eager")
    )
    how = kernels.How(where, backend, threads, (*both, "other"))
    if bars:
        show(kernels_bars.run(how), json)
        return
    usual = (kernels.QUICK if quick else kernels.USUAL)[where]
    sizes = kernels.Sizes(tiles or (), dim or (), branches or (), bags or (), dtype or ())
    show(kernels.run(op or [], sizes.or_else(usual), how), json)
