"""What the operator may do in a cluster: every call it makes, and nothing else.

No wildcard, no ``escalate``, no ``bind``, no ``pods/exec``. Applying an object needs ``patch``, and ``create`` where it is
not there yet. Writing Secrets is a role of its own, which may be left out.
"""

from collections.abc import Iterable
from typing import Any

from database_operator.api.database import GROUP, PLURAL
from database_operator.kube import resources as r
from database_operator.kube.resources import Resource

Manifest = dict[str, Any]

NAME = "database-operator"
NAMESPACE = "database-operator-system"
RBAC = "rbac.authorization.k8s.io"

READ = frozenset({"get", "list", "watch"})
OWN = READ | {"create", "patch", "delete"}

# (group, resource) -> verbs
Rights = dict[tuple[str, str], frozenset[str]]

KINDS: dict[Resource, frozenset[str]] = {
    r.STATEFUL_SET: OWN,
    r.DEPLOYMENT: OWN,
    r.SERVICE: OWN,
    r.CONFIG_MAP: OWN,
    r.PERSISTENT_VOLUME_CLAIM: OWN,
    r.POD_DISRUPTION_BUDGET: OWN,
    r.SERVICE_ACCOUNT: OWN,
    r.ROLE: OWN,
    r.ROLE_BINDING: OWN,
    r.POD: READ | {"patch", "delete"},
    r.EVENT: frozenset({"list", "create", "patch"}),
    r.STORAGE_CLASS: frozenset({"get", "list", "watch"}),
    r.SECRET: READ,
}
DATABASES: Rights = {
    (GROUP, PLURAL): READ | {"patch"},
    (GROUP, f"{PLURAL}/status"): frozenset({"patch"}),
    (GROUP, f"{PLURAL}/finalizers"): frozenset({"update"}),  # children block the Database's deletion: blockOwnerDeletion
}
WRITE_SECRETS: Rights = {("", "secrets"): frozenset({"create", "patch", "delete"})}
LEASES: Rights = {(r.LEASE.group, r.LEASE.plural): frozenset({"get", "create", "update"})}
_VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")


def operator_rights(agent_rules: Iterable[Manifest]) -> Rights:
    """What the calls need, and what the agents' Roles hold: nobody may grant what it does not have itself."""
    rights = DATABASES | {(kind.group, kind.plural): verbs for kind, verbs in KINDS.items()}
    for rule in agent_rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                rights[group, resource] = rights.get((group, resource), frozenset()) | set(rule["verbs"])
    return rights


def rules(rights: Rights) -> list[Manifest]:
    """As few rules as say it: resources of one group with the same verbs stand together."""
    together: dict[tuple[str, frozenset[str]], list[str]] = {}
    for (group, resource), verbs in sorted(rights.items(), key=lambda item: item[0]):
        together.setdefault((group, verbs), []).append(resource)
    return [
        {"apiGroups": [group], "resources": resources, "verbs": sorted(verbs, key=_VERBS.index)}
        for (group, verbs), resources in together.items()
    ]


def _bound(name: str, rights: Rights, namespaced: bool = False) -> list[Manifest]:
    """A role with ``rights`` and its binding to the operator's ServiceAccount."""
    scope = {"namespace": NAMESPACE} if namespaced else {}
    kind = "Role" if namespaced else "ClusterRole"
    head = {"name": name, **scope, "labels": {"app.kubernetes.io/name": NAME}}
    role = {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": head, "rules": rules(rights)}
    binding = {
        "apiVersion": f"{RBAC}/v1",
        "kind": f"{kind}Binding",
        "metadata": head,
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    }
    return [role, binding]


def operator_access(agent_rules: Iterable[Manifest]) -> list[Manifest]:
    return _bound(NAME, operator_rights(agent_rules)) + _bound(f"{NAME}-leader-election", LEASES, namespaced=True)


def secret_access() -> list[Manifest]:
    return _bound(f"{NAME}-secrets", WRITE_SECRETS)
