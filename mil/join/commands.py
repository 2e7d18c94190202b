"""`mil bags join` at the command line; the work is imported when the command runs."""

from pathlib import Path
from typing import Annotated

import typer

from mil.config.options import DatasetPart, PartTable


def bags_join(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of bags of the same slides, from the finest tiles to the coarsest.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the joined bags.")],
    dataset: Annotated[
        str,
        typer.Option(help="Dataset of the bags, to join those of its slides; default: all bags."),
    ] = "",
    part: DatasetPart = "",
    table: PartTable = None,
) -> None:
    """Join bags of several encoders or magnifications, features side by side.

    Tiles are those of the first folder. Each has its own features, then those of the tile
    of each further folder that its centre lies in; zeros where there is none. Bags that
    are current stay.

    Example: mil bags join features/224px_0.5mpp/uni features/224px_1mpp/uni --out joined
    """
    from mil.io.part_jobs import finish, run_jobs
    from mil.io.probe import probe
    from mil.io.tables.parts import parse_part
    from mil.join.stage import jobs_of_part, join_slide

    jobs = jobs_of_part(folders, out, dataset, parse_part(part))
    probe([path for job in jobs for path in job.bags])
    finish("join", run_jobs("join", jobs, join_slide), [table] if table else [], jobs)
