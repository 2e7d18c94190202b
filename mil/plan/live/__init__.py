"""What a run shows: a table of its stages in a terminal, a line a stage elsewhere.

This is a logger plug-in of Snakemake, which looks for the class `LogHandler`. It is registered by
the profiles (`mil.plan.plugins`).
"""

from mil.plan.live.handler import LogHandler

__all__ = ["LogHandler"]
