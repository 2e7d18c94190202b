"""Scores of one slide as maps of its tiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import numpy as np

from mil.errors import ConfigError, FormatError
from mil.io.bags import BagPositions, read_positions
from mil.io.scores import HeadScores, MapKind, check_bags, check_tiles, read_scores, score_path
from mil.io.tiles import read_tiles
from mil.trained.record import Trained, read_records
from mil.trained.tile_maps import SIGNED, TileMap, tile_map
from mil.view.paint import Places
from mil.view.study import HeadFolder, Study

# No slide is a kilometre wide: coordinates beyond that, or not finite, are damage.
FARTHEST_UM = 1e9
Value = TypeVar("Value")


class Choice(NamedTuple):
    """Map that a layer shows.

    Attributes:
        kind: Kind of map.
        member: Number of one of the heads; None: the mean of those that held the slide out.
        column: Number of the prediction that evidence is about; None: that of interest.
        branch: Number of a branch of attention; None: the mean, as in heatmaps.
    """

    kind: MapKind = "attention"
    member: int | None = None
    column: int | None = None
    branch: int | None = None


@dataclass(frozen=True, eq=False)
class SlideScores:
    """Scores of a slide by the heads of one recipe, with the positions of its tiles.

    Attributes:
        records: Records of the heads.
        scores: Scores by each head; empty where the slide is not `ok`.
        unseen: Numbers of the heads that did not train on the slide.
        places: Positions of the tiles; None: the bag does not hold them.
        notes: Sentences on what is not there.
    """

    records: Sequence[Trained]
    scores: Sequence[HeadScores]
    unseen: Sequence[int]
    places: Places | None
    notes: Sequence[str]

    @property
    def columns(self) -> list[str]:
        """Columns of the task's predictions."""
        return list(self.records[0].task.columns) if self.records else []

    @property
    def num_branches(self) -> int:
        """Number of branches of attention; 0: a single one."""
        branches = [head.branch_attention for head in self.scores]
        return max((of_head.shape[1] for of_head in branches if of_head is not None), default=0)

    @property
    def kinds(self) -> list[MapKind]:
        """Kinds of map that these scores have."""
        if not self.scores:
            return []
        has_evidence = any(head.evidence is not None for head in self.scores)
        has_rollout = all(head.rollout is not None for head in self.scores)
        kinds: list[MapKind] = ["attention"]
        if has_evidence:
            kinds += SIGNED
        return [*kinds, "rollout"] if has_rollout else kinds

    def map_of(self, choice: Choice) -> TileMap:
        """Map of the slide's tiles.

        Raises:
            ConfigError: The scores have no such map.
        """
        if not self.scores:
            raise ConfigError("there are no scores of this slide by this head")
        numbers = self._members(choice.member)
        records = [self.records[number] for number in numbers]
        scores = [self.scores[number] for number in numbers]
        if choice.kind == "attention" and choice.branch is not None:
            return _branch_map(scores, choice.branch)
        column = "" if choice.column is None else item_of(self.columns, choice.column, "prediction")
        made = tile_map(choice.kind, records, scores, column)
        if made is None and choice.kind == "rollout":
            raise ConfigError("these scores hold no rollout: the head has no mixing layers")
        if made is None:
            raise ConfigError(
                "these scores hold no evidence of tiles; run `mil score` again, which computes it"
            )
        return made

    def _members(self, member: int | None) -> Sequence[int]:
        if member is not None:
            item_of(self.scores, member, "head")
            return [member]
        # A slide that all heads trained on is shown too, with a note.
        return self.unseen or range(len(self.scores))


def item_of(items: Sequence[Value] | np.ndarray, number: int, noun: str) -> Value:
    """An item by its number, as a request names it.

    Raises:
        ConfigError: There is no such item.
    """
    if not 0 <= number < len(items):
        raise ConfigError(f"there is no {noun} {number} of this slide")
    return cast(Value, items[number])


def _branch_map(scores: Sequence[HeadScores], branch: int) -> TileMap:
    maps = [
        head.branch_attention[:, branch]
        for head in scores
        if head.branch_attention is not None and 0 <= branch < head.branch_attention.shape[1]
    ]
    if not maps:
        raise ConfigError(f"these heads have no branch {branch + 1} of attention")
    return TileMap("attention", np.mean(maps, axis=0), "", "share of the branch")


def read_slide(study: Study, head: HeadFolder, slide: str) -> SlideScores:
    """Scores of a slide by the heads of one recipe.

    What cannot be used is left out with a sentence in `notes`.

    Args:
        study: The study.
        head: Recipe and encoder.
        slide: Id of the slide.
    """
    notes: list[str] = []
    try:
        bag = _positions(study, head, slide)
    except FormatError as error:
        bag = None
        notes.append(f"Positions of the tiles are not known: {error}")
    path = score_path(head.scores, slide)
    records: Sequence[Trained] = []
    scores: Sequence[HeadScores] = []
    if not path.is_file():
        notes.append("There are no scores of this slide by this head.")
    else:
        try:
            records, scores = _scores(path, bag, study.bag_path(head, slide))
        except FormatError as error:
            notes.append(f"Scores are not used: {error}")
    places, _, _ = places_of(bag)
    if bag is not None and scores and places is None:
        notes.append("This bag does not say where its tiles are: their values cannot be drawn.")
    unseen = _unseen(records, head, study.bag_name(head, slide))
    if scores and not unseen:
        notes.append("All heads of this recipe were trained or selected on this slide.")
    if scores and all(one.evidence is None for one in scores):
        notes.append(
            "Scores hold attention only: evidence of tiles is not in score files of earlier "
            "versions; run `mil score` again for it."
        )
    return SlideScores(records, scores, unseen, places, notes)


def _scores(
    path: Path, bag: BagPositions | None, bag_path: Path
) -> tuple[Sequence[Trained], Sequence[HeadScores]]:
    read = read_scores(path, branches=True, evidence=True)
    if bag is not None and bag_path.is_file():
        # Scores that are older than their bag are of other tiles.
        check_bags(read, path, [bag_path])
    if bag is not None:
        check_tiles(read, path, int(bag.valid.sum()))
    return read_records([head.record for head in read.heads], path), read.scores


def _positions(study: Study, head: HeadFolder, slide: str) -> BagPositions:
    """Positions of the tiles: of the bag, or where it was deleted of the tiles file."""
    bag_path = study.bag_path(head, slide)
    if bag_path.is_file():
        return read_positions(bag_path)
    tiles_path = study.tiles_path(head.tiling, slide)
    if not tiles_path.is_file():
        raise FormatError(f"there is neither {bag_path} nor {tiles_path}")
    tiles = read_tiles(tiles_path)
    geometry = tiles.geometry
    return BagPositions(
        slide=slide,
        encoder=head.encoder,
        coords=tiles.coords,
        valid=np.ones(len(tiles.coords), bool),
        side_level0_px=geometry.side_level0_px,
        mpp_level0=geometry.mpp_level0,
        width_level0_px=geometry.width_level0_px,
        height_level0_px=geometry.height_level0_px,
        origin_x_level0_px=geometry.origin_x_level0_px,
        origin_y_level0_px=geometry.origin_y_level0_px,
    )


def places_of(bag: BagPositions | None) -> tuple[Places | None, float, bool]:
    """Positions of a bag's valid tiles, micrometres per unit, whether units are pixels.

    Places are None where they are not known; 0 micrometres: the unit is not known.
    """
    if bag is None:
        return None, 0.0, True
    in_px = bag.positions()
    if in_px is not None:
        return Places(*in_px), bag.mpp_level0 or 0.0, True
    if bag.coords_um is None or not (bag.tile_px and bag.target_mpp):
        return None, 0.0, True
    corners = bag.coords_um[bag.valid]
    if not (np.abs(corners) < FARTHEST_UM).all():
        return None, 0.0, True
    return Places(corners, bag.tile_px * bag.target_mpp), 1.0, False


def _unseen(records: Sequence[Trained], head: HeadFolder, slide: str) -> list[int]:
    """Numbers of the heads that neither trained nor validated on a slide."""
    seen = {
        (row.seed, row.fold)
        for row in head.predictions
        if row.slide == slide and row.split in ("train", "val")
    }
    # Validation counts as seen: the epoch that was kept was chosen by it.
    return [
        number for number, record in enumerate(records) if (record.seed, record.fold) not in seen
    ]
