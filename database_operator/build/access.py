"""The account of the agent inside the pods, and what it may do."""

from collections.abc import Sequence

from database_operator.api.database import Database
from database_operator.build import names
from database_operator.build.manifest import Manifest, metadata


def agent_access(database: Database, rules: Sequence[Manifest]) -> list[Manifest]:
    """ServiceAccount, Role and RoleBinding ``<name>-agent``. The operator must itself hold every one of ``rules``."""
    name = names.agent(database.name)
    group = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(database, name), "automountServiceAccountToken": False},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata(database, name), "rules": list(rules)},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata(database, name),
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": database.namespace}],
        },
    ]
