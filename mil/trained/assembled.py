"""A trained head of several members: what they predict and attend to, averaged.

Members are heads of one recipe: restarts that were kept, or heads of inner folds. Logits
are averaged before the softmax, which for classes is the normalised geometric mean of
the members' probabilities. Attention is averaged after the softmax over the bag.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mil.bags import Bags, Graph, HeadOutput, join_graphs, log_attention, per_bag
from mil.heads import (
    KEPT_BYTES,
    MeanRemovals,
    Part,
    Removals,
    Remover,
    RemovesTiles,
    SelectsTiles,
    Streams,
    UsesGraph,
)
from mil.trained.scaling import FeatureScaling, equal_scalings


class Assembled(nn.Module):
    """Head that averages its members; see `assemble`.

    Args:
        members: Heads of one recipe.
        scalings: Scaling of each member's features; empty: none.
    """

    def __init__(self, members: Sequence[nn.Module], scalings: Sequence[FeatureScaling]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.scalings = nn.ModuleList(scalings)

    def forward(self, bags: Bags) -> HeadOutput:
        """Average of the members' outputs for each bag."""
        outputs = [member(bags) for member, bags in self.members_and_bags(bags)]
        return average_outputs(outputs, bags.offsets)

    def members_and_bags(self, bags: Bags) -> Iterable[tuple[nn.Module, Bags]]:
        """Each member with the bags as it takes them."""
        graphs: dict[int, Graph | None] = {}
        for number, member in enumerate(self.members):
            own = bags._replace(features=self._features(bags.features, number))
            if isinstance(member, UsesGraph) and bags.graph is None:
                # Restarts build the same graph, which takes longer than the member.
                source = self._graph_source(number)
                if source not in graphs:
                    graphs[source] = bag_graph(member, own)
                own = own._replace(graph=graphs[source])
            yield member, own

    def _features(self, features: Tensor, number: int) -> Tensor:
        scaled: Tensor = self.scalings[number](features) if len(self.scalings) else features
        return scaled

    def _graph_source(self, number: int) -> int:
        """First member that builds the graph of this one."""
        for earlier in range(number):
            if self._build_one_graph(earlier, number):
                return earlier
        return number

    def _build_one_graph(self, one: int, other: int) -> bool:
        # A graph depends on the features and on what `see_training` computed.
        alike = all(
            torch.equal(left, right)
            for left, right in zip(
                self.members[one].buffers(), self.members[other].buffers(), strict=True
            )
        )
        if not alike or not len(self.scalings):
            return alike
        return equal_scalings(self.scalings[one], self.scalings[other])


class SelectingAssembled(Assembled):
    """Members that select tiles: `mil.heads.SelectsTiles`."""

    def answers(
        self, bags: Bags, selections: Sequence[Bool[Tensor, " tiles"]]
    ) -> Float[Tensor, "selections bags classes"]:
        """Mean of the members' logits when all of them use the same selection."""
        logits = []
        for member, own in self.members_and_bags(bags):
            assert isinstance(member, SelectsTiles)
            logits.append(member.answers(own, selections))
        return torch.stack(logits).mean(0)


class MemberParts(NamedTuple):
    """Summary of some tiles by each member."""

    parts: tuple[Part, ...]

    def merge(self, other: "MemberParts") -> "MemberParts":
        """Both parts as one, in any order."""
        pairs = zip(self.parts, other.parts, strict=True)
        return MemberParts(tuple(left.merge(right) for left, right in pairs))


class StreamingAssembled(Assembled):
    """Members that predict from parts of a bag: `mil.heads.Streams`."""

    def part(
        self, features: Float[Tensor, "tiles dim"]
    ) -> tuple[MemberParts, Float[Tensor, "tiles branches"]]:
        """Summary of some tiles by each member, and the columns of all members' scores."""
        parts: list[Part] = []
        scores: list[Tensor] = []
        for number, member in enumerate(self.members):
            assert isinstance(member, Streams)
            part, member_scores = member.part(self._features(features, number))
            parts.append(part)
            scores.append(member_scores)
        return MemberParts(tuple(parts)), torch.cat(scores, 1)

    def conclude(self, part: Any, scores: Float[Tensor, "tiles branches"]) -> HeadOutput:
        """Average of what the members conclude."""
        outputs = []
        by_member = scores.chunk(len(self.members), 1)
        for member, own, member_scores in zip(self.members, part.parts, by_member, strict=True):
            assert isinstance(member, Streams)
            outputs.append(member.conclude(own, member_scores))
        return average_outputs(outputs, torch.tensor([0, len(scores)], device=scores.device))

    def each(
        self, features: Float[Tensor, "tiles dim"]
    ) -> Iterable[tuple[Streams, Float[Tensor, "tiles dim"]]]:
        """Each member with features as it takes them."""
        for number, member in enumerate(self.members):
            assert isinstance(member, Streams)
            yield member, self._features(features, number)


class RemovingAssembled(StreamingAssembled):
    """Members that stream, and that remove tiles: `mil.heads.RemovesTiles`."""

    def remover(self, room: int = KEPT_BYTES) -> Remover:
        """Means of the members' logits without some tiles."""
        removers = []
        for member in self.members:
            assert isinstance(member, RemovesTiles)
            removers.append(member.remover(room // len(self.members)))

        def removals(bags: Bags) -> Removals:
            members = zip(removers, self.members_and_bags(bags), strict=True)
            return MeanRemovals([remover(own) for remover, (_, own) in members])

        return removals


def assemble(members: Sequence[nn.Module], scalings: Sequence[FeatureScaling] = ()) -> Assembled:
    """One head of several, which streams, removes or selects tiles if all of them do.

    Args:
        members: Heads of one recipe.
        scalings: Scaling of each member's features; empty: none.
    """
    if all(isinstance(member, SelectsTiles) for member in members):
        return SelectingAssembled(members, scalings)
    if all(isinstance(member, Streams) and isinstance(member, RemovesTiles) for member in members):
        return RemovingAssembled(members, scalings)
    if all(isinstance(member, Streams) for member in members):
        return StreamingAssembled(members, scalings)
    return Assembled(members, scalings)


def average_outputs(
    outputs: Sequence[HeadOutput], offsets: Int[Tensor, " bags_plus_1"]
) -> HeadOutput:
    """Average of several heads' outputs for the same bags.

    Scores become the logarithm of the mean attention where a head has a single branch,
    or attention by class. Branches of several heads do not correspond: their columns
    and logits stand side by side, and the mean over all of them is the mean attention.
    Tiles are selected that any head selects, since the logits come from all of those.

    Args:
        outputs: Outputs of heads of one recipe, outside training.
        offsets: Offsets of the bags.
    """
    first = outputs[0]
    branches = _present(outputs, "branch_logits")
    selected = _present(outputs, "selected")
    full = _present(outputs, "full_logits")
    parts = _present(outputs, "branch_parts")
    return HeadOutput(
        logits=torch.stack([output.logits for output in outputs]).mean(0),
        scores=_average_scores(outputs, offsets),
        branch_logits=torch.cat(branches, 1) if branches else None,
        # Parts of a mean: with the mean bias they sum to the mean logits.
        branch_parts=torch.cat(parts, 1) / len(outputs) if parts else None,
        attention_heads=first.attention_heads,
        per_class=first.per_class,
        selected=torch.stack(selected).any(0) if selected else None,
        full_logits=torch.stack(full).mean(0) if full else None,
    )


def _present(outputs: Sequence[HeadOutput], field: str) -> list[Tensor]:
    values = [getattr(output, field) for output in outputs]
    return [value for value in values if value is not None]


def _average_scores(outputs: Sequence[HeadOutput], offsets: Tensor) -> Tensor:
    first = outputs[0]
    scores = [output.scores for output in outputs]
    if first.per_class or first.scores.shape[1] == first.attention_heads:
        attention = torch.stack([log_attention(columns, offsets) for columns in scores])
        return attention.logsumexp(0) - math.log(len(outputs))
    return torch.cat(scores, 1)


def bag_graph(head: UsesGraph, bags: Bags) -> Graph | None:
    """Graph that a head builds of the bags; None if it builds none of one of them."""
    features = per_bag(bags.features, bags.offsets)
    coords: Sequence[Tensor | None] = [None] * len(features)
    if bags.coords is not None:
        coords = per_bag(bags.coords, bags.offsets)
    graphs = [head.build_graph(*bag) for bag in zip(features, coords, strict=True)]
    built = [graph for graph in graphs if graph is not None]
    if len(built) < len(graphs):
        return None
    return join_graphs(built, [len(bag) for bag in features])
