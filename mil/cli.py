"""`mil STAGE --flags`: every step of a study by hand. A stage is imported when it is called."""

import errno
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from mil.bench.commands import bench_app
from mil.catalogue.commands import encoders_app, heads_app
from mil.compare.commands import compare
from mil.config import TileConfig, checked, load_encoder
from mil.dataset.commands import dataset_app
from mil.doctor.commands import doctor
from mil.errors import MilError
from mil.features.commands import features
from mil.interop.commands import bags_app
from mil.interop.head_commands import export_head, import_head
from mil.predict.commands import predict
from mil.split.commands import split
from mil.versions import TOOL_VERSION

app = typer.Typer(
    help="Slides to attention heatmaps, step by step. `snakemake --cores all` runs all steps of a study.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(dataset_app, name="dataset")
app.add_typer(bench_app, name="bench")
app.add_typer(bags_app, name="bags")
app.add_typer(encoders_app, name="encoders")
app.add_typer(heads_app, name="heads")
heads_app.command("import")(import_head)
heads_app.command("export")(export_head)

Out = Annotated[Path, typer.Option(help="Where the result goes.")]
Dataset = Annotated[
    str, typer.Option(help="A name in configs/datasets, or the path of a dataset's yaml.")
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of the CPU.")]
BagsDir = Annotated[Path, typer.Option("--bags", help="Folder of the bags.")]
TilesDirs = Annotated[
    list[Path] | None,
    typer.Option(
        "--tiles", help="Folder of the tiles files; repeat for encoders; none: ready bags."
    ),
]
BagsDirs = Annotated[
    list[Path], typer.Option("--bags", help="Folder of the bags; repeat for encoders.")
]
Folds = Annotated[Path, typer.Option(help="The folds file that `mil split` wrote.")]

# What a place of files answers when it is full, not ours, or something else than was
# thought.
FULL = {errno.ENOSPC, errno.EDQUOT}
CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}
TAKEN = {errno.EISDIR, errno.ENOTDIR, errno.EEXIST}


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mil {TOOL_VERSION}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


@app.command()
def fetch(
    url: Annotated[str, typer.Option(help="https:, file: or demo:")],
    out: Out,
    checksum: Annotated[str, typer.Option(help="sha256:HEX or md5:HEX")] = "",
) -> None:
    """Bring one file of a dataset onto this disk."""
    from mil.fetch.stage import run

    size = run(url, out, checksum=checksum)
    typer.echo(f"fetch {out.name}: {size / 1e6:.1f} MB")


@app.command()
def tile(
    slide: Annotated[Path, typer.Option(help="The slide.")],
    out: Out,
    name: Annotated[str, typer.Option(help="The slide's id; default: its file name.")] = "",
    encoder: Annotated[
        str, typer.Option(help="Take tile size and resolution from this encoder.")
    ] = "efficientnet_lite0",
    size_px: Annotated[int | None, typer.Option(min=1, help="Side of a tile, pixels.")] = None,
    target_mpp: Annotated[
        float | None, typer.Option(min=0.001, help="Resolution of a tile, µm per pixel.")
    ] = None,
    mpp: Annotated[
        float | None, typer.Option(min=0.001, help="Resolution of level 0, over the slide's own.")
    ] = None,
    min_tissue: Annotated[float, typer.Option(help="Least share of a tile that is tissue.")] = 0.25,
    min_area_mm2: Annotated[
        float, typer.Option(help="Smaller pieces of tissue are dropped.")
    ] = 0.02,
    max_upsample: Annotated[
        float, typer.Option(help="Coarser slides than this are refused.")
    ] = 2.0,
    objective_power: Annotated[
        bool,
        typer.Option(
            "--objective-power",
            help="Where no pixel size is stated, take 10 µm over the objective.",
        ),
    ] = False,
    tissue: Annotated[
        Path | None, typer.Option(help="Your mask of the tissue: .geojson, .xml, .png, .tif.")
    ] = None,
    region: Annotated[
        Path | None, typer.Option(help="Take tiles only in here; the same formats.")
    ] = None,
    geojson_frame: Annotated[
        Literal["scanned", "slide"],
        typer.Option(help="GeoJSON counts from the scanned part (QuPath) or the slide."),
    ] = "scanned",
) -> None:
    """Find tissue on a slide and cut it into tiles at an exact physical scale."""
    from mil.io.bags.status import ADVICE
    from mil.tile.stage import run

    entry = load_encoder(encoder)
    raw = {
        "min_tissue": min_tissue,
        "min_area_mm2": min_area_mm2,
        "max_upsample": max_upsample,
        "objective_power": objective_power,
    }
    geometry, count = run(
        slide,
        name or slide.stem,
        out,
        tile_px=size_px or entry.tile_px,
        target_mpp=target_mpp or entry.mpp,
        mpp=mpp,
        config=checked(TileConfig, raw, "mil tile"),
        tissue=tissue,
        region=region,
        geojson_frame=geojson_frame,
    )
    why = f" ({geometry.reason}; {ADVICE[geometry.state]})" if geometry.state != "ok" else ""
    typer.echo(
        f"tile {geometry.slide}: {geometry.state}, {count} tiles, {geometry.tissue_mm2:.2f} mm² "
        f"of tissue{why}"
    )


app.command()(features)


app.command()(split)


@app.command()
def train(
    dataset: Dataset,
    bags: BagsDir,
    folds: Folds,
    out: Out,
    head: Annotated[
        str, typer.Option(help="A recipe: a name in configs/heads, or a file.")
    ] = "abmil",
    fold: Annotated[int, typer.Option(min=0, help="Which fold of the folds file.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of initialisation, order and masking.")] = 1,
    threads: Threads = 1,
    device: Device = "auto",
    cache_mb: Annotated[
        int, typer.Option(min=0, help="Memory for bags, MiB; others are read in every epoch.")
    ] = 8000,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder for TensorBoard's curves of each training.")
    ] = None,
) -> None:
    """Train one head on the bags of the training slides, or go on where a training was cut off."""
    from mil.train.stage import run

    done = run(
        dataset,
        bags,
        folds,
        out,
        recipe=head,
        fold=fold,
        seed=seed,
        threads=threads,
        device=device,
        cache_mb=cache_mb,
        tensorboard=tensorboard,
    )
    typer.echo(
        f"train {done.recipe_name} seed {done.seed} fold {done.fold}: kept epoch {done.epoch} in "
        f"{out}"
    )


@app.command()
def evaluate(
    dataset: Dataset,
    head_dir: Annotated[
        list[Path], typer.Option(help="Folder of a trained head; repeat for seeds and folds.")
    ],
    bags: BagsDir,
    folds: Folds,
    out: Out,
    slides_dir: Annotated[Path, typer.Option(help="Where the annotations are.")] = Path(),
    threads: Threads = 1,
) -> None:
    """Predict every slide; metrics of the test slides with intervals."""
    from mil.evaluate.stage import run
    from mil.report.text import metrics_line

    typer.echo(
        metrics_line(
            run(dataset, head_dir, bags, folds, out, slides_dir=slides_dir, threads=threads)
        )
    )


app.command()(compare)


@app.command()
def heatmap(
    head_dir: Annotated[
        list[Path], typer.Option(help="Folder of a trained head; repeat to average.")
    ],
    bag: Annotated[Path, typer.Option(help="The slide's bag.")],
    out: Annotated[Path, typer.Option(help="A .png; .geojson (QuPath) and .csv go beside it.")],
    tiles: Annotated[
        Path | None, typer.Option(help="Its tiles file; none: the bag is ready.")
    ] = None,
    slide: Annotated[
        Path | None, typer.Option(help="To be seen under the attention of a ready bag.")
    ] = None,
    folds: Annotated[
        Path | None, typer.Option(help="Use only heads that did not train on the slide.")
    ] = None,
    annotation: Annotated[
        Path | None, typer.Option(help="Regions to outline, ASAP .xml or .geojson.")
    ] = None,
    scale: Annotated[
        Literal["percentile", "relative"], typer.Option(help="Ranks, or times uniform.")
    ] = "percentile",
    geojson_frame: Annotated[
        Literal["scanned", "slide"],
        typer.Option(help="GeoJSON counts from the scanned part (QuPath) or the slide."),
    ] = "scanned",
) -> None:
    """Draw a slide's attention from cached features."""
    from mil.heatmap.stage import run

    line = run(
        head_dir,
        bag,
        tiles,
        out,
        slide=slide,
        folds=folds,
        annotation=annotation,
        scale=scale,
        geojson_frame=geojson_frame,
    )
    typer.echo(f"heatmap {line}")


app.command()(predict)


@app.command()
def report(
    dataset: Dataset,
    bags: BagsDirs,
    out: Out,
    evaluated: Annotated[
        list[Path], typer.Option(help="Folder of predictions.csv and metrics.json; repeat.")
    ],
    heatmaps: Annotated[
        list[Path], typer.Option(help="Its folder of heatmaps; repeat in the same order.")
    ],
    tiles: TilesDirs = None,
    comparison: Annotated[
        Path | None, typer.Option(help="The comparison.json that `mil compare` wrote.")
    ] = None,
    drawn: Annotated[
        Literal["all", "test"], typer.Option(help="Which slides' heatmaps to show.")
    ] = "all",
) -> None:
    """Put everything on one page."""
    from mil.report.stage import run

    run(dataset, tiles or [], bags, evaluated, heatmaps, out, drawn, comparison)
    typer.echo(f"report {out}")


@app.command()
def summary(dataset: Dataset, bags: BagsDirs, tiles: TilesDirs = None) -> None:
    """Say how many slides went in, how many came out, and why."""
    from mil.io.bags.folder import describe_bags
    from mil.io.bags.status import gather
    from mil.io.bags.status import summary as describe
    from mil.io.tables import read_dataset

    _, slides = read_dataset(dataset)
    names = [slide.slide for slide in slides]
    typer.echo(describe(gather(names, tiles or [], bags)))
    for folder in [] if tiles else bags:
        typer.echo(describe_bags(folder, names))


app.command()(doctor)


def main() -> None:
    """Run the command line; an error the user can mend is one line and exit code 1."""
    try:
        app()
    except MilError as error:
        sys.exit(f"mil: {error}")
    except OSError as error:
        if error.errno not in FULL | CLOSED | TAKEN:
            raise
        sys.exit(f"mil: {' '.join(str(error).split())}; make room there, or give another place")


if __name__ == "__main__":
    main()
