"""Files and settings of a run, known before it starts: no torch, no slide is opened."""

from mil.plan.plan import TILING, Plan, make_plan

__all__ = ["TILING", "Plan", "make_plan"]
