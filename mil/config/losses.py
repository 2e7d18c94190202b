"""Loss terms of a recipe, and their weights."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from mil.config.base import Section

# The functions of mil/losses/terms.py, typed out here because that module imports torch
# and a recipe is checked before anything runs; a test compares the two.
LOSS_TERMS = (
    "cross_entropy",
    "branch_cross_entropy",
    "branch_diversity",
    "attention_entropy",
    "attention_entropy_share",
    "instance_cross_entropy",
    "full_cross_entropy",
    "sufficiency",
    "teacher_consistency",
    "head_balance",
)


class LossWeight(Section):
    """Weight of a loss term, constant or annealed along half a cosine."""

    start: float = Field(ge=0, description="Weight at the first training step.")
    end: float | None = Field(
        None, ge=0, description="Weight at the last training step; if unset, constant."
    )


def _constant_as_weight(value: Any) -> Any:
    """Let a recipe write `cross_entropy: 1` for `cross_entropy: {start: 1}`."""
    return {"start": value} if isinstance(value, int | float) else value


# Weight of a term as a recipe may write it.
WrittenWeight = Annotated[LossWeight, BeforeValidator(_constant_as_weight)]
