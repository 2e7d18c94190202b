"""Losses, with torch: the terms that a recipe weighs, and the loss of each task."""

from mil.losses.terms import (
    OF_CLASSES,
    TERMS,
    attention_entropy,
    attention_entropy_share,
    branch_cross_entropy,
    branch_diversity,
    check_terms,
    cross_entropy,
    full_cross_entropy,
    head_balance,
    instance_cross_entropy,
    sufficiency,
    teacher_consistency,
    total_loss,
)

__all__ = [
    "OF_CLASSES",
    "TERMS",
    "attention_entropy",
    "attention_entropy_share",
    "branch_cross_entropy",
    "branch_diversity",
    "check_terms",
    "cross_entropy",
    "full_cross_entropy",
    "head_balance",
    "instance_cross_entropy",
    "sufficiency",
    "teacher_consistency",
    "total_loss",
]
