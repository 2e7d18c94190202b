"""Tables of all parts of a run, brought up to date before it starts."""

from collections.abc import Iterator
from pathlib import Path

from mil.plan.parts import Refreshed, refresh_tables
from mil.plan.plan import OUTPUTS, REFINED, Plan


def refresh_part_tables(plan: Plan) -> Refreshed:
    """Bring the tables of all parts up to date; see `mil.plan.parts.refresh_tables`."""
    # Encoders of one tiling share the tiles.
    stages = [*_of_bags(plan), *_of_vectors(plan), *_of_heads(plan)]
    damaged = dict.fromkeys(file for stage in stages for file in stage.damaged)
    incomplete = dict.fromkeys(file for stage in stages for file in stage.incomplete)
    return Refreshed(list(damaged), list(incomplete))


def _of_bags(plan: Plan) -> Iterator[Refreshed]:
    """Tables of tiles and bags that are made from slides."""
    results = _results(plan)
    for kind in [] if plan.precomputed_dir else plan.kinds:
        tiles = results / "tile" / kind.tiling
        refreshed = refresh_tables(tiles, plan.members["tile"], OUTPUTS["tile"])
        # A job that streams writes no table of tiles.
        yield Refreshed(refreshed.damaged, []) if plan.streaming else refreshed
        bags = results / "features" / kind.tiling / kind.encoder
        yield refresh_tables(bags, plan.members["features"], OUTPUTS["features"])


def _of_vectors(plan: Plan) -> Iterator[Refreshed]:
    """Tables of slide vectors, which are divided as scores are."""
    for encoder, tiling in plan.tilings.items():
        for slide_encoder in plan.slide_encoders_of(encoder):
            folder = _results(plan) / "embed" / tiling / encoder / slide_encoder
            yield refresh_tables(folder, plan.members["score"], OUTPUTS["score"])


def _of_heads(plan: Plan) -> Iterator[Refreshed]:
    """Tables of scores, heatmaps and finer maps."""
    results = _results(plan)
    drawn = plan.members["heatmap"]
    with_file = {
        part: [slide for slide in slides if slide in plan.files_there]
        for part, slides in drawn.items()
    }
    for encoder, tiling in plan.tilings.items():
        for head in plan.config.head:
            of_head = Path(tiling) / encoder / head
            scores = results / "score" / of_head
            yield refresh_tables(scores, plan.members["score"], OUTPUTS["score"])
            heatmaps = results / "heatmap" / of_head
            yield refresh_tables(heatmaps, drawn, OUTPUTS["heatmap"], plan.sheets)
            refined = refresh_tables(results / "refine" / of_head, with_file, REFINED)
            is_refined = plan.config.heatmap.cells_per_tile > 1
            yield refined if is_refined else Refreshed(refined.damaged, [])


def _results(plan: Plan) -> Path:
    return Path("results") / plan.config.dataset
