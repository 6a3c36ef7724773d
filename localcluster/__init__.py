"""A real Kubernetes on one Linux machine, for the demo, the tests and the benchmarks.

`ControlPlane` is an API server without nodes, `Cluster` a whole node with pods. Nothing of the operator imports this package.
"""

from localcluster.cluster import Cluster
from localcluster.control_plane import ControlPlane
from localcluster.errors import ClusterError, CommandError

__all__ = ["Cluster", "ClusterError", "CommandError", "ControlPlane"]
