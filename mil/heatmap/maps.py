"""The maps of one slide: attention, evidence and branches, mean over heads. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mil.io.scores import MAP_KINDS, HeadScores, MapKind
from mil.tasks import Classification
from mil.trained.record import Trained
from mil.trained.tile_maps import SIGNED, TileMap, tile_map


@dataclass(frozen=True, eq=False)
class SlideMaps:
    """Maps of a slide's valid tiles, mean over the heads that take part.

    Attributes:
        recipe: Name of the heads' recipe.
        head: Tiling, encoder and recipe, which tell heads of a study apart.
        kinds: Map of each kind; evidence and rollout only where the scores hold some.
        by_column: Evidence for the other columns of the predictions, by kind and column.
        selected: Share of the heads that selected each tile; None: no head selects.
        branches: Attention of each branch; None: not read, or there is one alone.
    """

    recipe: str
    head: str
    kinds: Mapping[MapKind, TileMap]
    by_column: Mapping[tuple[MapKind, str], Float[np.ndarray, " tiles"]]
    selected: Float[np.ndarray, " tiles"] | None = None
    branches: Float[np.ndarray, "tiles branches"] | None = None

    @property
    def attention(self) -> Float[np.ndarray, " tiles"]:
        """Attention of each tile; sums to 1."""
        return self.kinds["attention"].values


def maps_of(records: Sequence[Trained], scores: Sequence[HeadScores]) -> SlideMaps:
    """Maps of a slide.

    Args:
        records: Records of the heads, of one recipe.
        scores: Scores of the slide by each of them.
    """
    kinds: dict[MapKind, TileMap] = {}
    for kind in MAP_KINDS:
        of_kind = tile_map(kind, records, scores)
        if of_kind is not None:
            kinds[kind] = of_kind
    by_column = {}
    for kind, column in [(kind, column) for kind in SIGNED for column in _others(records[0])]:
        of_column = tile_map(kind, records, scores, column) if kind in kinds else None
        if of_column is not None:
            by_column[kind, column] = of_column.values
    trained = records[0]
    return SlideMaps(
        trained.recipe_name,
        f"{trained.tiling}/{trained.encoder}/{trained.recipe_name}",
        kinds,
        by_column,
        _selected_share(scores),
        _branches(scores),
    )


def _others(trained: Trained) -> list[str]:
    """Columns beside that of interest; of two classes the other has the negative."""
    task = trained.task
    if isinstance(task, Classification) and len(task.classes) == 2:
        return []
    return [column for column in task.columns if column != task.column_of_interest]


def _selected_share(scores: Sequence[HeadScores]) -> Float[np.ndarray, " tiles"] | None:
    """Share of the heads that selected each tile; None for heads that select none."""
    masks = [head.selection.selected for head in scores if head.selection is not None]
    return np.mean(masks, axis=0) if masks else None


def _branches(scores: Sequence[HeadScores]) -> Float[np.ndarray, "tiles branches"] | None:
    """Attention of each branch, mean over heads; None unless all have the same, and several."""
    branches = [head.branch_attention for head in scores if head.branch_attention is not None]
    same = len(branches) == len(scores) and len({one.shape for one in branches}) == 1
    return np.mean(branches, axis=0) if same and branches[0].shape[1] > 1 else None
