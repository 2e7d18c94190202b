"""`mil embed` at the command line; what does the work is imported when it is called."""

from pathlib import Path
from typing import Annotated

import typer

from mil.config.options import BagsDir, DatasetPart, Device, PartTable, Threads


def embed(
    slide_encoder: Annotated[
        str,
        typer.Option(
            help="Slide encoder: mean, mean_std, a published one of `mil encoders list`, or the "
            "recipe of the heads of --head-dir."
        ),
    ],
    bags: BagsDir,
    vectors: Annotated[Path, typer.Option(help="Folder for a vectors file of each slide.")],
    head_dir: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of a trained head, or of several (seeds and folds of one recipe); repeat "
            "for more. A slide gets a vector by each."
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="File of a published slide encoder's weights, .safetensors or torch; default: "
            "the source of its entry, configs/slide_encoders."
        ),
    ] = None,
    dataset: Annotated[
        str,
        typer.Option(help="Dataset of the bags, to embed its slides; default: all bags."),
    ] = "",
    part: DatasetPart = "",
    table: PartTable = None,
    threads: Threads = 1,
    device: Device = "cpu",
) -> None:
    """Make one vector of each slide's bag; vectors that are current stay.

    `mil bags export --to anndata` or `--to parquet` makes one table of them. A bag that
    cannot be embedded stops no other; exit code 1 then.

    Example: mil embed --slide-encoder mean --bags features/TILING/ENCODER --vectors vectors
    """
    from mil.config.slide_encoders import check_slide_encoder
    from mil.embed.stage import jobs_of_part, run
    from mil.io.part_jobs import finish
    from mil.io.tables.parts import parse_part
    from mil.trained import find_heads

    check_slide_encoder(slide_encoder)
    heads = [head for folder in head_dir or [] for head in find_heads(folder)]
    jobs = jobs_of_part(dataset, bags, vectors, parse_part(part))
    results = run(
        slide_encoder, heads, jobs, threads=threads, keep=True, weights=weights, device=device
    )
    finish("embed", results, [table] if table else [])
