"""`mil bench start` and `mil bench pipeline` at the command line."""

from typing import Annotated

import typer

from mil.bench.options import Json

Repeats = Annotated[
    int, typer.Option(min=1, help="Number of repeats of each measurement; the least is reported.")
]


def bench_start(repeats: Repeats = 3, json: Json = None) -> None:
    """Time start-up: processor seconds of each command on a small study, imports and work.

    Example: mil bench start --repeats 5
    """
    from mil.bench.results_table import show
    from mil.bench.start import run

    show(run(repeats=repeats), json)


def bench_pipeline(
    cores: Annotated[int, typer.Option(min=1, help="Number of cores that each may use.")] = 1,
    repeats: Repeats = 1,
    json: Json = None,
) -> None:
    """Time eight slides to heatmaps, beside one script of hs2p, timm and torchmil.

    Example: mil bench pipeline --cores 2
    """
    from mil.bench.pipeline import run
    from mil.bench.results_table import show

    show(run(cores=cores, repeats=repeats), json)
