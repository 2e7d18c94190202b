"""`mil tiles` at the command line; the work is imported when it runs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.config.options import SlidesDir

tiles_app = typer.Typer(help="Tiles of slides as images.", no_args_is_help=True)


@tiles_app.command("export")
def export(
    slide: Annotated[
        str, typer.Argument(help="Name of a slide of a study, or path of a slide file.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the images and tiles.csv; default: tiles_SLIDE."),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of tiles with the largest values; default: 50, unless --bottom, "
            "--random or --all is set.",
        ),
    ] = None,
    bottom: Annotated[
        int | None, typer.Option(min=1, help="Number of tiles with the smallest values.")
    ] = None,
    random: Annotated[
        int | None, typer.Option(min=1, help="Number of tiles drawn at random; needs no scores.")
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="Export all tiles; needs no scores.")] = False,
    by: Annotated[
        Literal["attention", "alone", "effect", "rollout"],
        typer.Option(
            help="Values that tiles are ranked by: attention, evidence of the tile alone, "
            "effect of the tile on the prediction, or of heads that mix tiles the rollout."
        ),
    ] = "attention",
    column: Annotated[
        str,
        typer.Option(
            help="Prediction that alone and effect are about: a class or a column of "
            "predictions.csv; default: that of interest."
        ),
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random sample.")] = 1,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Results of the study, such as results/demo; default: the only folder in results."
        ),
    ] = None,
    head: Annotated[
        str, typer.Option(help="Recipe of the heads; may be left out where there is one.")
    ] = "",
    encoder: Annotated[str, typer.Option(help="Encoder; may be left out where there is one.")] = "",
    slides_dir: SlidesDir = None,
    tiles: Annotated[
        Path | None, typer.Option(help="Tiles file, in place of that of a study.")
    ] = None,
    bag: Annotated[
        Path | None, typer.Option(help="Bag of the slide, in place of that of a study.")
    ] = None,
    score: Annotated[
        Path | None, typer.Option(help="Score file, in place of that of a study; needs --bag.")
    ] = None,
    folds: Annotated[
        Path | None,
        typer.Option(help="File of the folds, to rank by heads that did not train on the slide."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the tiles of an earlier export.")
    ] = False,
    many: Annotated[
        bool, typer.Option("--many", help="Permission to write more than 5000 files.")
    ] = False,
) -> None:
    """Write tiles of a slide as PNG files, pixel for pixel as the encoder got them.

    Example: mil tiles export demo_01 --head abmil --top 50
    """
    from mil.errors import DatasetError
    from mil.tiles.choose import Choice
    from mil.tiles.export import run
    from mil.tiles.study_files import SlideFiles, files_of_study, name_of

    choice = Choice.checked(
        top=top, bottom=bottom, random=random, all=all, by=by, column=column, seed=seed
    )
    if score and not bag:
        raise DatasetError(f"{score}: says nothing of where the tiles are; give --bag too")
    if tiles or bag:
        files = SlideFiles(Path(slide), tiles, bag, score, folds)
    else:
        files = files_of_study(
            slide,
            results,
            head=head,
            encoder=encoder,
            slides_dir=slides_dir,
            needs_scores=choice.needs_scores,
        )
        files = files._replace(folds=folds or files.folds)
    folder = out or Path(f"tiles_{name_of(slide)}")
    exported = run(files, choice, folder, replace=replace, many=many)
    lost = f", {exported.unreadable} cannot be read" if exported.unreadable else ""
    typer.echo(
        f"tiles {exported.slide}: {exported.written} images in {folder}{lost}{exported.note}"
    )
