"""Evidence of each tile: its logits alone, and the logits that its bag loses without it."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mil.bags import Bags, Graph, HeadOutput
from mil.graph.edges import SELF
from mil.heads import BothEnds, Removals, Remover, RemovesTiles, UsesGraph
from mil.io.scores import TileEvidence
from mil.trained.assembled import Assembled, bag_graph
from mil.trained.gradients import integrated_gradients

# Bags of a single tile that are computed at once.
TILES_AT_ONCE = 256
# Tiles of other bags that are computed at once: of small bags many.
RUN_AT_ONCE = 4096
# Tiles that are really removed, drawn at random, to compare with an estimate: at most
# and at least. Between them, as many as take this number of tiles through the head.
MOST_REMOVED = 32
LEAST_REMOVED = 8
REMOVAL_TILES = 100_000


class RunRemovals(Removals):
    """A head of any kind, run on the tiles that are left: exact, but a run for each removal.

    Args:
        head: Head in evaluation mode.
        bags: One bag.
    """

    def __init__(self, head: nn.Module, bags: Bags) -> None:
        self.head = head
        self.bags = bags
        self._uses_graph = any(isinstance(module, UsesGraph) for module in head.modules())
        # Several kinds of map, and several shares of a small bag, leave the same tiles.
        self._known: dict[bytes, Float[Tensor, " outputs"]] = {}

    def alone(self) -> Float[Tensor, "tiles outputs"]:
        """Logits of bags of a single tile; a tile is its own only neighbour."""
        parts = torch.arange(len(self.bags.features)).split(TILES_AT_ONCE)
        return torch.cat([self._output(part.split(1)).logits for part in parts]).double()

    def effect(self) -> Float[Tensor, "tiles outputs"]:
        """See `Removals`."""
        tiles = torch.arange(len(self.bags.features))
        return self.effect_of(tiles) if len(tiles) > 1 else torch.zeros_like(self.alone())

    def effect_of(self, tiles: Int[Tensor, " some"]) -> Float[Tensor, "some outputs"]:
        """Logits of the bag less those of the bag without each of some tiles."""
        numbers = torch.arange(len(self.bags.features))
        logits = self._logits([numbers, *(numbers[numbers != tile] for tile in tiles)])
        return logits[0] - logits[1:]

    def kept(self, order: Int[Tensor, " tiles"], counts: Sequence[int]) -> BothEnds:
        """See `Removals`."""
        first = [order[:count].sort().values for count in counts]
        last = [order[len(order) - count :].sort().values for count in counts]
        logits = self._logits([*first, *last])
        return BothEnds(logits[: len(counts)], logits[len(counts) :])

    def _logits(self, bags: Sequence[Int[Tensor, " some"]]) -> Float[Tensor, "bags outputs"]:
        """Logits of bags of some tiles each, each computed once."""
        keys = [sha256(tiles.numpy().tobytes()).digest() for tiles in bags]
        new = {key: tiles for key, tiles in zip(keys, bags, strict=True) if key not in self._known}
        for run in _runs(new):
            logits = self._output([new[key] for key in run]).logits.double()
            self._known.update(zip(run, logits, strict=True))
        return torch.stack([self._known[key] for key in keys])

    def _output(self, bags: Sequence[Int[Tensor, " some"]]) -> HeadOutput:
        """Output for bags of some tiles each."""
        tiles = torch.cat(list(bags))
        offsets = torch.tensor([0, *map(len, bags)]).cumsum(0)
        coords = None if self.bags.coords is None else self.bags.coords[tiles]
        graph = None
        if self._uses_graph and len(bags) == len(tiles):
            # Graphs of single tiles, at once.
            own = torch.arange(len(tiles))
            graph = Graph(own, own, torch.full_like(own, SELF))
        output: HeadOutput = self.head(Bags(self.bags.features[tiles], offsets, coords, graph))
        return output


def _runs(bags: Mapping[bytes, Int[Tensor, " some"]]) -> Iterator[list[bytes]]:
    """Keys of bags that are computed at once: one bag, or some of few tiles together."""
    run: list[bytes] = []
    room = RUN_AT_ONCE
    for key, tiles in bags.items():
        if run and len(tiles) > room:
            yield run
            run = []
            room = RUN_AT_ONCE
        run.append(key)
        room -= len(tiles)
    if run:
        yield run


def remover_of(head: nn.Module) -> Remover | None:
    """The head's own function that removes tiles of a bag; None for a head without one."""
    return head.remover() if isinstance(head, RemovesTiles) else None


def evidence_of(
    head: nn.Module, remover: Remover | None, bags: Bags
) -> tuple[Removals, TileEvidence]:
    """Evidence of each tile of one bag, and the head's logits without some tiles.

    Args:
        head: Head in evaluation mode.
        remover: Its `remover_of`, made once for all bags.
        bags: One bag.
    """
    if remover is None:
        runs = RunRemovals(head, bags)
        return runs, _estimated(runs)
    with torch.inference_mode():
        removals = remover(bags)
        alone = _rounded(removals.alone())
        effect = _rounded(removals.effect())
    return removals, TileEvidence(alone=alone, effect=effect)


def _estimated(removals: RunRemovals) -> TileEvidence:
    """Evidence of each tile of a bag by a head of another kind.

    The effect is integrated gradients; some tiles, the same of each bag of a size, are
    really removed.
    """
    # Outside the inference mode, whose tensors have no gradient.
    attribution = integrated_gradients(_members(removals.head, removals.bags))
    tiles = len(removals.bags.features)
    removed = _drawn(tiles) if tiles > 1 else None
    with torch.inference_mode():
        alone = _rounded(removals.alone())
        effect = None
        if removed is not None:
            effect = _rounded(removals.effect_of(torch.from_numpy(removed)))
    return TileEvidence(
        alone=alone,
        effect=_rounded(attribution.of_tiles),
        removed_tiles=removed,
        removed_effect=effect,
        completeness_error=attribution.error,
    )


def _drawn(tiles: int) -> Int[np.ndarray, " removed"]:
    """Numbers of tiles to remove, in order."""
    count = np.clip(REMOVAL_TILES // tiles, LEAST_REMOVED, MOST_REMOVED)
    rng = np.random.default_rng(0)
    return np.sort(rng.choice(tiles, min(int(count), tiles), replace=False))


@torch.no_grad()
def _members(head: nn.Module, bags: Bags) -> list[tuple[nn.Module, Bags]]:
    """The head's members, each with the bag as it takes it, and its graph."""
    if isinstance(head, Assembled):
        return list(head.members_and_bags(bags))
    if isinstance(head, UsesGraph):
        bags = bags._replace(graph=bag_graph(head, bags))
    return [(head, bags)]


def _rounded(values: Tensor) -> Float[np.ndarray, "tiles outputs"]:
    return values.float().double().numpy()
