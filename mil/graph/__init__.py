"""Neighbour graphs over the tiles of one bag, in space or by features.

Every builder returns a `mil.bags.Graph` on the device of its input, the same one for
the same seed.
"""

from mil.graph.edges import drop_edges, union
from mil.graph.knn import knn_graph
from mil.graph.lsh import lsh_graph
from mil.graph.minibatch import minibatch_graph
from mil.graph.spatial import spatial_graph

__all__ = ["drop_edges", "knn_graph", "lsh_graph", "minibatch_graph", "spatial_graph", "union"]
