"""`mil score` at the command line; what does the work is imported when it is called."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.config import ScoreConfig
from mil.config.options import DatasetPart, PartTable, Threads, option
from mil.errors import DatasetError

DEFAULTS = ScoreConfig()


def score(
    head_dir: Annotated[
        list[Path],
        typer.Option(
            help="Folder of a trained head, or of several (seeds and folds of one recipe); repeat "
            "for more."
        ),
    ],
    bag: Annotated[
        list[Path] | None, typer.Option(help="Bag of a slide; repeat, with an --out for each.")
    ] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(help="Score file (.h5) of the bag at the same place among --bag."),
    ] = None,
    bags: Annotated[
        Path | None, typer.Option(help="Folder of bags, to score all of them; with --scores.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Folder for a score file of each bag of --bags.")
    ] = None,
    folds: Annotated[
        Path | None,
        typer.Option(
            help="File of the folds, written by `mil split`, to score only the bags that it "
            "names: slides, or with fusion=early patients."
        ),
    ] = None,
    dataset: Annotated[
        str,
        typer.Option(help="Dataset of the bags of --bags, to score its slides; current ones stay."),
    ] = "",
    part: DatasetPart = "",
    table: PartTable = None,
    threads: Threads = 1,
    evidence: Annotated[
        Literal["all", "exact", "none"], option(ScoreConfig, "evidence")
    ] = DEFAULTS.evidence,
) -> None:
    """Apply trained heads to bags: logits, predictions and attention of each tile.

    `mil evaluate` and `mil heatmap` read the score files. A bag that cannot be scored
    stops no other; exit code 1 then.

    Example: mil score --head-dir HEADS --bags features/TILING/ENCODER --scores scores
    """
    from mil.io.part_jobs import finish
    from mil.io.tables.parts import parse_part
    from mil.score.jobs import ScoreJob, jobs_of_folder, jobs_of_part
    from mil.score.stage import run
    from mil.trained import find_heads

    bag_files = bag or []
    score_files = out or []
    of_folder = bags is not None or scores is not None or folds is not None
    if of_folder and (bag_files or score_files):
        raise DatasetError(
            "--bag and --out do not go with --bags, --scores and --folds; give files by the "
            "first, or folders by the others"
        )
    chosen = parse_part(part)
    if dataset and bags is not None and scores is not None:
        jobs = jobs_of_part(dataset, bags, scores, chosen)
    elif bags is not None and scores is not None:
        jobs = jobs_of_folder(bags, scores, folds, chosen)
    elif of_folder:
        raise DatasetError(
            "--bags, --scores or --folds alone; give a folder of bags by --bags and a folder for "
            "their scores by --scores"
        )
    elif bag_files and len(bag_files) == len(score_files):
        jobs = [
            ScoreJob(None, (bag_file,), score_file)
            for bag_file, score_file in zip(bag_files, score_files, strict=True)
        ]
    else:
        raise DatasetError(
            f"{len(bag_files)} --bag and {len(score_files)} --out; give as many of one as of the "
            "other, or a folder of bags by --bags and a folder for their scores by --scores"
        )
    heads = [head for folder in head_dir for head in find_heads(folder)]
    results = run(heads, jobs, threads=threads, keep=bool(dataset), evidence=evidence)
    finish("score", results, [table] if table else [])
