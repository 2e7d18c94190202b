"""`mil tile` at the command line; the work is imported when the command runs."""

from pathlib import Path
from typing import Annotated

import typer

from mil.config import DEFAULT_ENCODER, TileConfig, checked, load_encoder
from mil.config.options import GeojsonFrame, option

DEFAULTS = TileConfig()


def tile(
    slide: Annotated[Path, typer.Option(help="Path of the slide image, such as a .svs or .tif.")],
    out: Annotated[Path, typer.Option(help="Tiles file to write, .h5; its pictures go beside it.")],
    name: Annotated[
        str, typer.Option(help="Id of the slide; empty: its file's name without the ending.")
    ] = "",
    encoder: Annotated[
        str,
        typer.Option(help="Encoder (configs/encoders.yaml) that sets tile size and resolution."),
    ] = DEFAULT_ENCODER,
    size_px: Annotated[int | None, option(TileConfig, "size_px", min=1)] = DEFAULTS.size_px,
    target_mpp: Annotated[float | None, option(TileConfig, "mpp", min=0.001)] = DEFAULTS.mpp,
    mpp: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            help="Pixel size of level 0, micrometres; it overrides what the slide's file states.",
        ),
    ] = None,
    min_tissue: Annotated[float, option(TileConfig, "min_tissue")] = DEFAULTS.min_tissue,
    min_area_mm2: Annotated[float, option(TileConfig, "min_area_mm2")] = DEFAULTS.min_area_mm2,
    max_upsample: Annotated[float, option(TileConfig, "max_upsample")] = DEFAULTS.max_upsample,
    objective_power: Annotated[
        bool, option(TileConfig, "objective_power", "--objective-power")
    ] = DEFAULTS.objective_power,
    tissue: Annotated[
        Path | None,
        typer.Option(
            help="Mask of the tissue that replaces detection: .geojson, .xml, .png, .tif."
        ),
    ] = None,
    region: Annotated[
        Path | None,
        typer.Option(help="Region that tiles are restricted to: .geojson, .xml, .png, .tif."),
    ] = None,
    geojson_frame: GeojsonFrame = "scanned",
) -> None:
    """Find tissue on a slide and cut it into tiles at an exact physical scale."""
    from mil.io.bags.advice import remedy
    from mil.io.tables import id_of
    from mil.tile.stage import run

    entry = load_encoder(encoder)
    settings = {
        "min_tissue": min_tissue,
        "min_area_mm2": min_area_mm2,
        "max_upsample": max_upsample,
        "objective_power": objective_power,
    }
    geometry, num_tiles = run(
        slide,
        name or id_of(slide),
        out,
        tile_px=size_px or entry.tile_px,
        target_mpp=target_mpp or entry.mpp,
        mpp=mpp,
        config=checked(TileConfig, settings, "mil tile"),
        tissue=tissue,
        region=region,
        geojson_frame=geojson_frame,
    )
    reason = ""
    if geometry.state != "ok":
        reason = f" ({geometry.reason}; {remedy(geometry.state, geometry.reason)})"
    typer.echo(
        f"tile {geometry.slide}: {geometry.state}, {num_tiles} tiles, "
        f"{geometry.tissue_mm2:.2f} mm² of tissue{reason}"
    )
