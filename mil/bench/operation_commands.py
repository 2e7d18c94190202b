"""`mil bench graph` and `mil bench kernels`: operations over tiles, at the command line."""

from typing import Annotated, Literal

import typer

from mil.bench.options import Json
from mil.config.options import Device, Threads


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
    device: Device = "auto",
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

    device_type = kernels.chosen_device(device, backend)
    forms = (
        ("ours", "eager", "compiled")
        if compiled or (compiled is None and device_type == "cuda")
        else ("ours", "eager")
    )
    setup = kernels.Setup(device_type, backend, threads, (*forms, "other"))
    if bars:
        show(kernels_bars.run(setup), json)
        return
    usual = (kernels.QUICK if quick else kernels.USUAL)[device_type]
    sizes = kernels.KernelSizes(tiles or (), dim or (), branches or (), bags or (), dtype or ())
    show(kernels.run(op or [], sizes.or_else(usual), setup), json)
