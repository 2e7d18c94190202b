"""`mil view` at the command line; the work is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from mil.config.options import SlidesDir


def view(
    results: Annotated[Path, typer.Argument(help="Folder of a run: results/DATASET.")],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on this machine; 0: a free one.")
    ] = 0,
    browser: Annotated[
        bool,
        typer.Option(
            "--browser/--no-browser", help="Open the page in a browser, where there is a desktop."
        ),
    ] = True,
    dataset: Annotated[
        str,
        typer.Option(
            help="Dataset of the run, a name or the path of a yaml; default: that of the metrics."
        ),
    ] = "",
    slides_dir: SlidesDir = None,
    bags: Annotated[
        Path | None,
        typer.Option(help="Folder of precomputed bags; default: that of the dataset."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="HTML file to write with one slide, in place of a server."),
    ] = None,
    slide: Annotated[
        str, typer.Option(help="Slide to export; default: the name of the HTML file.")
    ] = "",
) -> None:
    """Look at the slides of a run with their scores, in a page on this machine alone.

    Example: mil view results/demo
    """
    from mil.errors import ConfigError
    from mil.view import stage

    if slide and export is None:
        raise ConfigError("--slide names the slide of --export; give --export SLIDE.html too")
    if export is None:
        stage.serve(
            results,
            dataset=dataset,
            slides_dir=slides_dir,
            bags_dir=bags,
            port=port,
            browser=browser,
        )
        return
    stage.export(
        results,
        export,
        slide or export.stem,
        dataset=dataset,
        slides_dir=slides_dir,
        bags_dir=bags,
    )
    typer.echo(f"view {export}")
