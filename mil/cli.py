"""Table of contents of the command line: one line for each command, in the order of a study.

A command's options are in `commands.py` of its package. The modules that do the work, torch
among them, are imported when a command runs, so that `mil --help` is quick.
"""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mil.baseline.commands import baseline
from mil.bench.commands import bench_app
from mil.catalogue.commands import encoders_app, heads_app
from mil.compare.commands import compare
from mil.crate.commands import crate
from mil.dataset.commands import dataset_app
from mil.dataset.demo_commands import demo_app
from mil.doctor.commands import doctor
from mil.embed.commands import embed
from mil.errors import MilError
from mil.evaluate.commands import evaluate
from mil.features.commands import features
from mil.fetch.commands import fetch
from mil.fewshot.commands import fewshot
from mil.heatmap.commands import heatmap
from mil.interop.commands import bags_app
from mil.interop.head_commands import export_head, import_head
from mil.io.disk import one_line
from mil.join.commands import bags_join
from mil.plan.commands import plan
from mil.predict.commands import predict
from mil.refine.commands import refine
from mil.report.commands import checklist, report, summary
from mil.score.commands import score
from mil.split.commands import split
from mil.stream.commands import stream
from mil.tile.commands import tile
from mil.tiles.commands import tiles_app
from mil.train.commands import train
from mil.versions import TOOL_VERSION
from mil.view.commands import view
from mil.why.commands import why


class _TwoWords(TyperGroup):
    """Commands of which some have two words, such as `report` and `report checklist`."""

    # The types of its context and command differ between versions of typer.
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = " ".join(args[:2])
        command = self.commands.get(name)
        if command is None:
            return super().resolve_command(ctx, args)
        return name, command, args[2:]


app = typer.Typer(
    cls=_TwoWords,
    help="Whole-slide images to attention heatmaps, one command for each step of a study; "
    "`snakemake --cores all` runs all of them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(dataset_app, name="dataset")
app.add_typer(demo_app, name="demo")
app.add_typer(bench_app, name="bench")
app.add_typer(bags_app, name="bags")
bags_app.command("join")(bags_join)
app.add_typer(encoders_app, name="encoders")
app.add_typer(heads_app, name="heads")
app.add_typer(tiles_app, name="tiles")
heads_app.command("import")(import_head)
heads_app.command("export")(export_head)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"mil {TOOL_VERSION}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


# All its arguments are those of another command.
app.command(context_settings={"ignore_unknown_options": True})(plan)
app.command()(fetch)
app.command()(tile)
app.command()(features)
app.command()(stream)
app.command()(split)
app.command()(train)
app.command()(score)
app.command()(embed)
app.command()(evaluate)
app.command()(baseline)
app.command()(compare)
app.command()(fewshot)
app.command()(heatmap)
app.command()(report)
app.command("report checklist")(checklist)
app.command()(summary)
app.command()(view)
app.command()(predict)
app.command()(refine)
app.command()(doctor)
app.command()(why)
app.command()(crate)


def main() -> None:
    """Run the command line; an error the user can mend is one line and exit code 1."""
    try:
        app()
    except MilError as error:
        sys.exit(f"mil: {error}")
    except (OSError, RuntimeError) as error:
        message = one_line(error)
        if message is None:
            raise
        sys.exit(f"mil: {message}")


if __name__ == "__main__":
    main()
