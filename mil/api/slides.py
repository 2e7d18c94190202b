"""Slides and tiles from Python. Nothing here imports torch."""

from pathlib import Path

from mil.config import DEFAULT_ENCODER, TileConfig, load_encoder
from mil.io.slides import SlideReader
from mil.io.tables import id_of
from mil.io.tiles import Tiles, read_tiles
from mil.tile.stage import run


def open_slide(path: Path | str, *, scene: str = "") -> SlideReader:
    """Open a whole-slide image; use it in a `with` statement.

    Args:
        path: File of the slide, in any format that OpenSlide reads, or plain OME-TIFF.
        scene: Name or number of the image, in a file of several; default: the largest.

    Returns:
        The open slide. `read(x, y, side_level0_px, size_px)` returns RGB pixels, uint8
        [height, width, 3]; coordinates are level-0 pixels of the top left corner.

    Raises:
        SlideError: The slide cannot be opened.
    """
    return SlideReader(Path(path), scene=scene)


def tile_slide(
    slide: Path | str,
    out: Path | str,
    *,
    encoder: str = DEFAULT_ENCODER,
    mpp: float | None = None,
    scene: str = "",
    tissue: Path | str | None = None,
    region: Path | str | None = None,
    config: TileConfig | None = None,
) -> Tiles:
    """Find the tissue of a slide and cut it into tiles, as `mil tile` does.

    A problem with the slide is no error but a state: look at `tiles.geometry.state`
    (such as `ok`, `no_tissue`, `empty_mask`, `no_mpp`, `unreadable`) and `tiles.geometry.reason`.

    Args:
        slide: File of the slide.
        out: Tiles file to write (.h5). The tissue outline (.geojson) and the overview
            (.jpg) go beside it, the QC image into the folder `grid` there.
        encoder: Encoder whose tile size and resolution to use, a name in
            configs/encoders.yaml.
        mpp: Pixel size of level 0, µm; default: as the slide states it.
        scene: Name or number of the image, in a file of several; default: the largest.
        tissue: Mask or outline to use instead of automatic tissue detection.
        region: Mask or outline outside which no tile is taken.
        config: Thresholds of tissue detection; default: those of the configuration.

    Returns:
        Geometry, coordinates [tiles, 2] (level-0 pixels, int32), tissue share [tiles]
        and quality columns of the tiles.

    Raises:
        ConfigError: No encoder has that name.
        FormatError: `tissue` or `region` cannot be used; nothing is written.
    """
    config = config or TileConfig()
    # Tiles must have the scale that the encoder was trained on, so it sets the size.
    entry = load_encoder(encoder)
    run(
        Path(slide),
        id_of(Path(slide)),
        Path(out),
        tile_px=config.size_px or entry.tile_px,
        target_mpp=config.mpp or entry.mpp,
        mpp=mpp,
        scene=scene,
        config=config,
        tissue=None if tissue is None else Path(tissue),
        region=None if region is None else Path(region),
    )
    # Read back from disk, so that a notebook sees what later stages would: float16 shares.
    return read_tiles(Path(out))
