"""Neighbour graphs over the tiles of one bag: who lies beside whom, who looks like whom.

Every builder gives a `mil.bags.Graph` on the device of what it was given, the same one
for the same seed.
"""

from mil.graph.edges import drop_edges, union
from mil.graph.knn import knn_graph
from mil.graph.lsh import lsh_graph
from mil.graph.minibatch import minibatch_graph
from mil.graph.spatial import spatial_graph

__all__ = ["drop_edges", "knn_graph", "lsh_graph", "minibatch_graph", "spatial_graph", "union"]
