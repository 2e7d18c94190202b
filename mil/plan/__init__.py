"""What a run consists of, known before anything runs: no torch, no slide is opened."""

from mil.plan.plan import TILING, Plan, make_plan, size_flags

__all__ = ["TILING", "Plan", "make_plan", "size_flags"]
