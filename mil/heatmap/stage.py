"""Scores of a slide in; pictures, a QuPath layer, an OME-TIFF and a table out. No torch."""

from collections.abc import Sequence
from pathlib import Path

from mil.config.datasets import GeojsonFrame
from mil.errors import DatasetError
from mil.heatmap.bundle import draw_bundle, draw_state
from mil.heatmap.files import DRAWN, ENDINGS, beside
from mil.heatmap.scales import Scale
from mil.heatmap.title import title_of_scored
from mil.io.annotations import PositiveClasses
from mil.io.atomic import check_not_inputs
from mil.io.probe import probe
from mil.io.scores import MapKind
from mil.trained.scored_slide import ScoredSlide, read_scored_slide


def run(
    score_path: Path,
    bag_path: Path,
    tiles_path: Path | None,
    out: Path,
    *,
    slide: Path | None = None,
    scene: str = "",
    folds: Path | None,
    annotation: Path | None,
    scale: Scale,
    kinds: Sequence[MapKind] = DRAWN,
    branches: bool = False,
    geojson_frame: GeojsonFrame = "scanned",
    made_from: str = "",
    annotation_classes: Sequence[str] = (),
    scored: ScoredSlide | None = None,
) -> str:
    """Draw the maps of one slide's tiles from its scores.

    With several heads (seeds and folds of one recipe) the attention is their mean.
    Given `folds`, only heads that did not train on the slide take part, as long as
    there is one; if there is none, the title says so. Of heads that select tiles, those
    are outlined that at least half of the heads selected; the layer and the table hold
    the share.

    Args:
        score_path: Score file of the slide.
        bag_path: Bag of the slide, for the positions of its tiles; no features are read.
        tiles_path: Tiles file of the slide; overview and tissue outline lie beside it.
            None for a precomputed bag: attention is then drawn on the slide, if that is
            given, else on a blank canvas.
        out: Picture of attention to write, a PNG; the other files go beside it, see
            `mil.heatmap.files`.
        slide: Slide file, only to be seen under the attention of a precomputed bag.
        scene: Name or number of the image that is the slide, in a file of several.
        folds: The folds.csv, or None to draw the mean of all heads.
        annotation: File of annotated regions to outline, or None.
        scale: Scale of attention; see `mil.heatmap.scales.scaled`.
        kinds: Kinds of map that get a picture; attention is always drawn.
        branches: Whether to draw the attention of each branch too.
        geojson_frame: Origin of the coordinates of a GeoJSON annotation; see
            `mil.config.datasets`.
        made_from: Digest of what the picture depends on; see `mil.io.provenance`.
        annotation_classes: Classes of the annotation to outline; empty: those named like
            the positive region.
        scored: What the score file and the bag hold, if it was read already.

    Returns:
        A line about the picture.

    Raises:
        DatasetError: `out` is no PNG.
        FormatError: a file cannot be used, or the scores are of another bag.
    """
    # The other files take the name with other endings.
    if out.suffix.lower() != ".png":
        raise DatasetError(f"{out}: the picture is a PNG; give a name that ends with .png")
    outputs = [out, *(beside(out, ending) for ending in ENDINGS)]
    # Beside a tiles file lies the tissue's outline, under the name of the layer.
    of_tiles = [] if tiles_path is None else [tiles_path, tiles_path.with_suffix(".geojson")]
    check_not_inputs(outputs, [score_path, bag_path, *of_tiles, slide, folds, annotation])
    probe([bag_path, score_path, *([] if tiles_path is None else [tiles_path])])
    if scored is None:
        scored = read_scored_slide(score_path, bag_path, folds, branches=branches)
    bag = scored.bag
    if not scored.records:
        draw_state(out, tiles_path, bag, made_from=made_from)
        return f"{bag.slide}: {bag.state}, nothing to draw"
    title = title_of_scored(scored)
    note = draw_bundle(
        bag,
        scored.records,
        scored.scores,
        out,
        title=title,
        tiles=tiles_path,
        slide=slide,
        scene=scene,
        annotation=annotation,
        scale=scale,
        kinds=kinds,
        branches=branches,
        geojson_frame=geojson_frame,
        made_from=made_from,
        positive=PositiveClasses(tuple(annotation_classes), scored.records[0].positive),
    )
    return title + note
