"""The types of `mil.bags` under their earlier name, which heads of other packages import."""

from mil.bags import AttentionStats, Bags, Graph, HeadOutput, Instances

__all__ = ["AttentionStats", "Bags", "Graph", "HeadOutput", "Instances"]
