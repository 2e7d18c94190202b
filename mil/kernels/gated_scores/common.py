"""What the ways of computing gated scores have in common."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mil.kernels.backend import FAST, Backend, Chosen, choose

BRANCHES = 16  # at most on a GPU: the narrowest block that its matrix units multiply by
ALIGNED = 128  # rows of a chunk on a GPU are a multiple of
ON_CPU = (torch.float32, torch.bfloat16)


def choose_gated(
    backend: Backend, features: Tensor, weights: Sequence[Tensor | None], branches: int
) -> Chosen:
    """As `mil.kernels.backend.choose`, where `auto` knows what the CPU's and the GPU's way are not made for.

    Raises:
        ValueError: Triton is asked for, and the features are doubles, or there are more
            than 16 branches.
    """
    chosen = choose(backend, features, *weights)
    if chosen == "triton":
        suits = branches <= BRANCHES and features.dtype in FAST
        if backend == "triton" and not suits:
            raise ValueError(
                f"gated attention by Triton takes {BRANCHES} branches of halves or float32, not "
                f"{branches} "
                f"of {features.dtype}"
            )
        return chosen if suits else "reference"
    if chosen == "cpu" and backend == "auto":
        full = all(tensor is None or tensor.dtype == torch.float32 for tensor in weights)
        return chosen if full and features.dtype in ON_CPU else "reference"
    return chosen


class GateSums(NamedTuple):
    """Gradients of the parameters while they are summed, in float32."""

    gates: Tensor  # [gates, hidden], of both gates one below the other
    # [branches * attention + gates + branches], of the score's weights and of both
    # biases
    rest: Tensor
    score: Tensor  # [branches, attention], the first part of `rest`
    biases: Tensor  # [gates], the second
    score_bias: Tensor  # [branches], the last

    @classmethod
    def zeros(cls, gates: Tensor, score: Tensor) -> "GateSums":
        """Nothing yet, for weights of these shapes."""
        rest = gates.new_zeros(score.numel() + len(gates) + len(score), dtype=torch.float32)
        weights, biases, score_bias = rest.split([score.numel(), len(gates), len(score)])
        return cls(
            torch.zeros_like(gates, dtype=torch.float32),
            rest,
            weights.view(score.shape),
            biases,
            score_bias,
        )

    def named(self) -> tuple[Tensor | None, ...]:
        """In the order of `GateWeights`."""
        middle = self.score.shape[1]
        plain = middle == len(self.gates)
        gate = (None, None) if plain else (self.gates[middle:], self.biases[middle:])
        return self.gates[:middle], self.biases[:middle], *gate, self.score, self.score_bias


def joined(value: Tensor, gate: Tensor | None) -> Tensor:
    """Both gates one below the other, so that one product gives both."""
    return value if gate is None else torch.cat([value, gate])


def chunks(tiles: int, rows: int) -> Iterator[slice]:
    """All rows, so many at a time."""
    return (slice(start, min(start + rows, tiles)) for start in range(0, tiles, rows))


def even_rows(tiles: int, most: int) -> int:
    """Rows of each chunk, so many at most: no chunk is left with a few, and each begins at an aligned address."""
    most = max(1, most)
    if most < ALIGNED:
        return most
    most -= most % ALIGNED
    rows = -(-tiles // max(1, -(-tiles // most)))
    return max(1, -(-rows // ALIGNED)) * ALIGNED


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add a product to a sum in float32."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += torch.mm(left, right)
