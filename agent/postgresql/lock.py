"""The leader's lock after the API server hung: Patroni gives up a lock that it holds.

A call that timed out may be carried out once the server goes on. The lock has another version then than the one Patroni
knows; it takes the conflict for a rival, stops its server at once, and leads again two seconds later.
"""

import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)


def patient(own: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Around ``Kubernetes.attempt_to_acquire_leader``: once more, from the lock's newest version, where that names ourselves.

    The second attempt too is refused if anybody writes the lock in between.
    """

    def attempt(dcs: Any) -> bool:
        return own(dcs) or (_ours(dcs) and own(dcs))

    return attempt


def _ours(dcs: Any) -> bool:
    from patroni.dcs.kubernetes import K8sException, k8s_client

    try:
        kind = dcs._api.read_namespaced_kind(dcs.leader_path, dcs._namespace)
    except (K8sException, k8s_client.rest.ApiException):
        return False
    version, record = kind.metadata.resource_version, dict(kind.metadata.annotations or {})
    if record.get(dcs._LEADER) != dcs._name or version == dcs._leader_resource_version:
        return False
    log.info("the lock is ours in a later version than was known: an earlier call was carried out late")
    dcs._kinds.set(dcs.leader_path, kind)
    dcs._leader_resource_version, dcs._leader_observed_record = version, record
    return True
