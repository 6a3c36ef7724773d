"""Services and the disruption budget."""

from typing import Any

from msgspec import Struct

from database_operator.api.database import Database
from database_operator.api.spec import PublishedService, ServiceType
from database_operator.build import constants as c
from database_operator.build import labels, names
from database_operator.build.manifest import Manifest, metadata


class Port(Struct, frozen=True):
    """``target`` is the container port's name; ``app_protocol`` what a mesh is told."""

    number: int
    name: str = c.DATABASE
    target: str | None = None
    app_protocol: str | None = None

    def manifest(self) -> Manifest:
        port: Manifest = {"name": self.name, "port": self.number, "targetPort": self.target or self.name, "protocol": "TCP"}
        return port | ({"appProtocol": self.app_protocol} if self.app_protocol else {})


def service(
    database: Database, name: str, ports: list[Port], selector: dict[str, str], published: PublishedService | None = None
) -> Manifest:
    """A Service of type ClusterIP unless ``published`` says otherwise. The user's labels never replace ours."""
    published = published or PublishedService()
    head = metadata(database, name)
    head["labels"] = published.labels | head["labels"]
    if published.annotations:
        head["annotations"] = dict(published.annotations)
    entries = [port.manifest() for port in ports]
    if published.node_port and published.type is not ServiceType.CLUSTER_IP:
        entries[0]["nodePort"] = published.node_port
    spec: dict[str, Any] = {"type": published.type.value, "selector": selector, "ports": entries}
    if published.type is ServiceType.LOAD_BALANCER:
        if published.load_balancer_class:
            spec["loadBalancerClass"] = published.load_balancer_class
        if published.load_balancer_source_ranges:
            spec["loadBalancerSourceRanges"] = list(published.load_balancer_source_ranges)
    if published.external_traffic_policy and published.type is not ServiceType.CLUSTER_IP:
        spec["externalTrafficPolicy"] = published.external_traffic_policy.value
    return {"apiVersion": "v1", "kind": "Service", "metadata": head, "spec": spec}


def headless(database: Database, name: str, ports: list[Port], component: str = labels.DATABASE_COMPONENT) -> Manifest:
    """Gives every member its own DNS name, from before it is ready: peers must find each other to become ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(database, name, component),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": labels.service_selector(database, component),
            "ports": [port.manifest() for port in ports],
        },
    }


def disruption_budget(database: Database) -> Manifest:
    """One member at a time, and a member that is broken anyway never blocks a drain."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(database, names.disruption_budget(database.name)),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": labels.pod_selector(database)},
        },
    }
