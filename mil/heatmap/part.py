"""The heatmaps of a dataset's part."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mil.config.datasets import GeojsonFrame
from mil.errors import DatasetError
from mil.heatmap.files import DRAWN, check_names, files_of
from mil.heatmap.scales import Scale
from mil.heatmap.sheet import draw_sheet, draw_sheet_of_state, sheet_path
from mil.heatmap.stage import run
from mil.heatmap.title import title_of_scored
from mil.io.part_jobs import Output
from mil.io.probe import probe
from mil.io.provenance import digest_of, file_digest, made_from
from mil.io.scores import MapKind, score_path
from mil.io.tables import Slide, read_dataset, read_folds
from mil.io.tables.parts import Part
from mil.io.tables.paths import locate, locate_annotation
from mil.trained.scored_slide import ScoredSlide, read_scored_slide


@dataclass(frozen=True)
class HeatmapJob:
    """A slide to draw.

    Attributes:
        slide: Id of the slide.
        score: Score file of the slide.
        bag: Bag of the slide.
        out: Picture to write, a PNG.
        tiles: Tiles file, or None for a precomputed bag.
        file: Slide file to draw on, or None.
        folds: File of the folds, or None.
        splits: Split of the slide in each fold.
        annotation: File of regions to outline, or None.
        scale: Scale of the colours; see `mil.heatmap.scales.scaled`.
        geojson_frame: Origin of the coordinates of a GeoJSON annotation.
        annotation_classes: Classes of the annotation to outline; see `mil.heatmap.stage.run`.
        scene: Name or number of the image that is the slide, in a file of several.
        kinds: Kinds of map that get a picture.
        branches: Whether to draw the attention of each branch.
        source: Slide file to read the tiles of the sheet from; None: it is not there.
        sheet: Tiles in a row of the tile sheet; 0: no sheet.
    """

    slide: str
    score: Path
    bag: Path
    out: Path
    scale: Scale
    tiles: Path | None = None
    file: Path | None = None
    folds: Path | None = None
    splits: tuple[tuple[str, str], ...] = ()
    annotation: Path | None = None
    geojson_frame: GeojsonFrame = "scanned"
    annotation_classes: tuple[str, ...] = ()
    scene: str = ""
    kinds: tuple[MapKind, ...] = DRAWN
    branches: bool = False
    source: Path | None = None
    sheet: int = 0

    def outputs(self) -> list[Output]:
        """The picture, with the digest of scores, canvas, annotation and settings.

        Where the slide is on the disk the tile sheet too, which has a digest of its own:
        a slide that comes back later gets its sheet, and the picture stays.
        """
        scored: dict[str, Any] = {
            "score": made_from(self.score) or file_digest(self.score, None),
            "bag": file_digest(self.bag),
            "splits": [list(split) for split in self.splits],
        }
        facts = {
            **scored,
            "tiles": [] if self.tiles is None else _canvas_facts(self.tiles),
            "file": file_digest(self.file),
            "annotation": file_digest(self.annotation, None),
            "classes": list(self.annotation_classes),
            "frame": self.geojson_frame,
            "scale": self.scale,
            "scene": self.scene,
            "kinds": sorted(self.kinds),
            "branches": self.branches,
        }
        outputs = [Output(self.out, digest_of("heatmap", **facts), files_of(self.out))]
        if self.sheet and self.source is not None:
            of_sheet = digest_of(
                "heatmap",
                **scored,
                tiles="" if self.tiles is None else made_from(self.tiles),
                source=file_digest(self.source),
                sheet=self.sheet,
            )
            outputs.append(Output(sheet_path(self.out), of_sheet))
        return outputs


def _canvas_facts(tiles: Path) -> list[str]:
    # The outline beside the tiles may have been edited by hand.
    return [made_from(tiles), file_digest(tiles.with_suffix(".geojson"), None)]


@dataclass(frozen=True)
class HeatmapFolders:
    """Folders of a part's files, also of its finer maps.

    Attributes:
        scores: Folder of the score files.
        bags: Folder of the bags.
        out: Folder for the pictures.
        tiles: Folder of the tiles files; None for precomputed bags.
        slides: Folder of the slides; None: that of the dataset.
    """

    scores: Path
    bags: Path
    out: Path
    tiles: Path | None
    slides: Path | None


def jobs_of_part(
    dataset: str,
    folders: HeatmapFolders,
    *,
    folds: Path | None,
    scale: Scale,
    kinds: tuple[MapKind, ...] = DRAWN,
    branches: bool = False,
    part: Part,
    only_test: bool,
    sheet: int = 0,
) -> list[HeatmapJob]:
    """A job for each slide of a part of a dataset that was scored.

    Args:
        dataset: Name of the dataset, or path of its yaml.
        folders: Folders of the files.
        folds: File of the folds, or None to draw the mean of all heads.
        scale: Scale of the colours.
        kinds: Kinds of map that get a picture.
        branches: Whether to draw the attention of each branch.
        part: Part of the dataset.
        only_test: Whether only slides are drawn whose split in the slide table is test.
        sheet: Tiles in a row of the tile sheet; 0: no sheet.

    Raises:
        DatasetError: The slide table cannot be used, there is no score file in the folder,
            or two slides would have one heatmap.
    """
    config, table = read_dataset(dataset)
    slides_dir = folders.slides or config.folder(dataset)
    check_names(row.slide for row in table)
    splits = {} if folds is None else splits_in(folds)
    jobs = []
    for row, score in scored_rows(table, folders.scores, part, only_test=only_test):
        annotation = locate_annotation(row, slides_dir, config)
        file = locate(row, slides_dir, config)
        source = file if file.is_file() else None
        job = HeatmapJob(
            slide=row.slide,
            score=score,
            bag=folders.bags / f"{row.slide}.h5",
            out=folders.out / f"{row.slide}.png",
            scale=scale,
            tiles=None if folders.tiles is None else folders.tiles / f"{row.slide}.h5",
            # Under the attention of a precomputed bag; a tiled slide has its overview.
            file=source if folders.tiles is None else None,
            folds=folds,
            splits=splits.get(row.slide, ()),
            annotation=annotation if annotation and annotation.is_file() else None,
            geojson_frame=config.geojson_frame,
            annotation_classes=tuple(config.annotation_classes),
            scene=row.scene,
            kinds=kinds,
            branches=branches,
            source=source,
            sheet=sheet,
        )
        jobs.append(job)
    return jobs


def scored_rows(
    table: Iterable[Slide], scores: Path, part: Part, *, only_test: bool
) -> list[tuple[Slide, Path]]:
    """Slides of a part that were scored, each with its score file.

    Args:
        table: Rows of the slide table.
        scores: Folder of the score files.
        part: Part of the dataset.
        only_test: Whether only slides count whose split in the slide table is test.

    Raises:
        DatasetError: There is no score file in the folder.
    """
    # Else a misspelt folder would be a part without slides.
    if not any(scores.glob("*.h5")):
        raise DatasetError(f"{scores}: no score file; write them first with `mil score`")
    rows = [row for row in table if part.holds(row.slide)]
    drawn = [row for row in rows if not only_test or row.split == "test"]
    with_path = [(row, score_path(scores, row.slide)) for row in drawn]
    return [(row, path) for row, path in with_path if path.is_file()]


def splits_in(folds: Path) -> dict[str, tuple[tuple[str, str], ...]]:
    """Fold and split of each slide, for each fold, by slide."""
    splits: dict[str, tuple[tuple[str, str], ...]] = {}
    for row in read_folds(folds):
        splits[row["slide"]] = (*splits.get(row["slide"], ()), (row["fold"], row["split"]))
    return splits


def probe_files(jobs: Sequence[HeatmapJob]) -> None:
    """Probe the files of slides without a picture together: a process each takes longer.

    Args:
        jobs: Jobs of a part; see `mil.io.probe`.
    """
    missing = [job for job in jobs if not job.out.exists()]
    probe([path for job in missing for path in (job.bag, job.score, job.tiles) if path])


def draw_slide(job: HeatmapJob, stale: Sequence[Output]) -> str:
    """Draw a slide, or its tile sheet alone, and return a line about it.

    See `mil.heatmap.stage.run` and `mil.heatmap.sheet.draw_sheet`.
    """
    digests = {output.path: output.digest for output in stale}
    # Once for the picture and the sheet.
    scored = read_scored_slide(job.score, job.bag, job.folds, branches=job.branches)
    line = ""
    if job.out in digests:
        line = _draw_picture(job, scored, digests[job.out])
    of_sheet = digests.get(sheet_path(job.out))
    if of_sheet is not None:
        return f"{line or f'{job.slide}: tile sheet'}{_draw_sheet(job, scored, of_sheet)}"
    return f"{line}{_without_sheet(job)}"


def _draw_picture(job: HeatmapJob, scored: ScoredSlide, digest: str) -> str:
    return run(
        job.score,
        job.bag,
        job.tiles,
        job.out,
        slide=job.file,
        folds=job.folds,
        annotation=job.annotation,
        scale=job.scale,
        geojson_frame=job.geojson_frame,
        annotation_classes=job.annotation_classes,
        scene=job.scene,
        kinds=job.kinds,
        branches=job.branches,
        made_from=digest,
        scored=scored,
    )


def _draw_sheet(job: HeatmapJob, scored: ScoredSlide, digest: str) -> str:
    """Draw the tile sheet; see `mil.heatmap.sheet.draw_sheet`."""
    assert job.source is not None
    out = sheet_path(job.out)
    if not scored.records:
        draw_sheet_of_state(out, scored.bag, made_from=digest)
        return ""
    return draw_sheet(
        scored.bag,
        scored.records,
        scored.scores,
        out,
        tiles=job.tiles,
        slide=job.source,
        per_row=job.sheet,
        title=title_of_scored(scored),
        made_from=digest,
    )


def _without_sheet(job: HeatmapJob) -> str:
    """Remove the tile sheet of earlier scores where the slide is gone, and say so."""
    if job.source is not None or not job.sheet:
        return ""
    out = sheet_path(job.out)
    if out.exists():
        out.unlink()
        return "; tile sheet of earlier scores removed: the slide is not on this disk"
    return "; no tile sheet: the slide is not on this disk"
