"""Graph attention over tiles, and a prediction from a few selected ones; end to end.

Inspired by GAIS (Rustamov et al., https://arxiv.org/abs/2412.19201 and
https://arxiv.org/abs/2502.20293), which selects labelled rows of a table by graph
attention; no code of theirs is public, and nothing here repeats their results. Ours:
only bags have labels, graph attention is inside the head, the selection is
differentiable. Without layers, and with all tiles selected, it is ABMIL.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from mil.bags import Bags, Graph, HeadOutput
from mil.heads._ablation import Ablated, attention_of, mean_of_others
from mil.heads._budget import SelectionConfig
from mil.heads._dropout import Dropout
from mil.heads._gated import GatedAttention, default_hidden
from mil.heads._graph_choice import GraphConfig, fixed_graph, graph_of_bags
from mil.heads._graph_layer import GraphLayer, log_received
from mil.heads._pooling import pool_by
from mil.heads._precision import Classifier
from mil.heads._reducer import ReducerConfig, project
from mil.heads._selection import Selection, pool_selected


class Config(ReducerConfig, GraphConfig, SelectionConfig):
    """Options of a recipe with `name: graph_select`."""

    hidden: int | None = Field(
        None, gt=0, description="Width after the reducer; if unset, half of the feature dimension."
    )
    attention: int = Field(128, gt=0, description="Width of the attention branches.")
    branches: int = Field(
        1, gt=0, description="Number of attention branches (M); all share one selection."
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout after the reducer and before the score, 0 to 1."
    )
    layers: int = Field(1, ge=0, le=100, description="Number of graph layers (L); 0: no graph.")
    heads: int = Field(4, gt=0, description="Number of attention heads of a graph layer.")
    slope: float = Field(
        0.2, ge=0, le=1, description="Slope below 0 of the LeakyReLU in a graph layer, 0 to 1."
    )
    message_scale: float = Field(
        1.0, gt=0, le=1, description="Factor of the messages of a tile's neighbours, 0 to 1."
    )


class Head(nn.Module):
    """Reduce, attend to neighbours, score, select, pool the selected tiles, classify."""

    centre: Tensor

    def __init__(self, config: Config, dim: int, classes: int) -> None:
        super().__init__()
        hidden = default_hidden(config.hidden, dim)
        self.config = config
        self.reduce = nn.Sequential(
            project(config, dim, hidden), nn.ReLU(), Dropout(config.dropout)
        )
        self.layers = nn.ModuleList(
            GraphLayer(hidden, config.heads, config.slope, config.message_scale)
            for _ in range(config.layers)
        )
        self.attention = GatedAttention(hidden, config.attention, config.branches, config.dropout)
        # gamma: weight of received attention in a score; at 0, training starts without it.
        self.received = nn.Parameter(torch.zeros(config.branches))
        several = config.branches if config.branches > 1 else 0
        self.branch_classify = nn.ModuleList(Classifier(hidden, classes) for _ in range(several))
        self.classify = Classifier(hidden, classes)
        self.select = Selection(config)
        # Mean of the training tiles; saved with the head, whose graphs need it.
        self.register_buffer("centre", torch.zeros(dim))

    def see_training(self, train: Iterable[Bags]) -> None:
        """Compute the mean of the training tiles, which encoders place far from zero."""
        total = torch.zeros_like(self.centre, dtype=torch.float64)
        count = 0
        for bags in train:
            total += bags.features.sum(0, dtype=torch.float64).to(total.device)
            count += len(bags.features)
        self.centre.copy_(total / max(count, 1))

    def build_graph(
        self, features: Float[Tensor, "tiles dim"], coords: Int[Tensor, "tiles 2"] | None
    ) -> Graph | None:
        """Part of a bag's graph that stays the same; None if there is none, or no layer."""
        if not len(self.layers):
            return None
        return fixed_graph(self.config, features, coords, self.centre)

    def after_step(self) -> None:
        """Count the step: the noise on the selection fades with it."""
        self.select.steps += 1

    def forward(self, bags: Bags) -> HeadOutput:
        """Classify each bag by its selected tiles.

        Scores, branch logits and `full_logits` are those of all tiles.
        """
        hidden, scores = self._scored(bags)
        rows, _, stats = pool_by(scores, hidden, bags.offsets)  # [bags, branches, hidden]
        selected, pooled = self.select(scores, hidden, bags.offsets, rows)
        by_branch = [classify(rows[:, i]) for i, classify in enumerate(self.branch_classify)]
        return HeadOutput(
            logits=self.classify(pooled.mean(1)),
            scores=scores,
            branch_logits=torch.stack(by_branch, 1) if by_branch else None,
            selected=selected,
            full_logits=self.classify(rows.mean(1)),
            attention_stats=stats,
        )

    def ablated(self, bags: Bags) -> Ablated | None:
        """See `mil.heads.AblatesBranches`; the selection of tiles stays that of all branches."""
        if not len(self.branch_classify):
            return None
        hidden, scores = self._scored(bags)
        rows = pool_by(scores, hidden, bags.offsets).rows
        _, pooled = self.select(scores, hidden, bags.offsets, rows)
        return Ablated(
            self.classify(pooled.mean(1)),
            self.classify(mean_of_others(pooled)),
            attention_of(scores, bags.offsets),
        )

    def answers(
        self, bags: Bags, selections: Sequence[Bool[Tensor, " tiles"]]
    ) -> Float[Tensor, "selections bags classes"]:
        """Logits of each bag for other selections of its tiles.

        Tiles keep the messages of all their neighbours, selected or not.
        """
        hidden, scores = self._scored(bags)
        rows = []
        for selected in selections:
            pooled = pool_selected(scores, hidden, bags.offsets, selected)
            rows.append(pooled.mean(1))
        return self.classify(torch.stack(rows))

    @torch.no_grad()
    def logits_held(self, bags: Bags) -> Callable[[Tensor], Tensor]:
        """Logits of each bag by the tiles that are selected now, with the graph of now."""
        if bags.graph is None:
            graph = graph_of_bags(self.config, bags, self.centre, self.build_graph, self.training)
            bags = bags._replace(graph=graph)
        selected = self(bags).selected

        def logits(features: Tensor) -> Tensor:
            return self.answers(bags._replace(features=features), [selected])[0]

        return logits

    def _scored(self, bags: Bags) -> tuple[Tensor, Tensor]:
        """Tiles after the graph layers [tiles, hidden], and scores [tiles, branches]."""
        hidden = self.reduce(bags.features)
        if not len(self.layers):
            return hidden, self.attention(hidden)
        graph = graph_of_bags(self.config, bags, self.centre, self.build_graph, self.training)
        attention = []
        for layer in self.layers:
            hidden, edge_attention = layer(hidden, graph)
            attention.append(edge_attention)
        received = log_received(attention, graph, len(hidden))
        return hidden, self.attention(hidden) + received[:, None] * self.received
