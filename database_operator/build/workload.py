"""StatefulSets, the SQLite Deployment and claims."""

from database_operator.api.database import Resolved
from database_operator.build import constants as c
from database_operator.build import labels, names
from database_operator.build.manifest import Manifest, data_annotations, data_metadata, digest, metadata
from database_operator.build.pod import PodParts, pod_template


def claim_spec(database: Resolved) -> Manifest:
    storage = database.spec.storage
    spec: Manifest = {"accessModes": [storage.access_mode.value], "resources": {"requests": {"storage": storage.size}}}
    return spec | ({"storageClassName": storage.storage_class_name} if storage.storage_class_name is not None else {})


def stateful_set(database: Resolved, parts: PodParts) -> Manifest:
    """The members. ``OnDelete``: the operator replaces pods itself, so that a bad rollout heals when it is reverted."""
    name = names.workload(database.name)
    head = metadata(database, name)
    head["labels"] = labels.workload(database)
    claim_labels = labels.data(database) | labels.placed(database)
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": head,
        "spec": {
            "replicas": database.spec.replicas,
            "serviceName": names.members_service(database.name),
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "OnDelete"},
            "revisionHistoryLimit": 2,
            "selector": {"matchLabels": labels.pod_selector(database)},
            "template": pod_template(database, parts),
            "volumeClaimTemplates": [
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": c.DATA_VOLUME, "labels": claim_labels, "annotations": data_annotations(database)},
                    "spec": claim_spec(database),
                }
            ],
        },
    }


def single_deployment(database: Resolved, parts: PodParts) -> list[Manifest]:
    """One pod that is never doubled (``Recreate``), and its claim, which outlives it."""
    name = names.workload(database.name)
    claim_head = data_metadata(database, names.single_claim(database.name))
    claim_head["labels"] |= labels.placed(database)
    head = metadata(database, name)
    head["labels"] = labels.workload(database)
    template = pod_template(database, parts)
    template["metadata"]["annotations"][c.TEMPLATE] = digest(template)
    return [
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": claim_head, "spec": claim_spec(database)},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": head,
            "spec": {
                "replicas": database.spec.replicas,
                "strategy": {"type": "Recreate"},
                "revisionHistoryLimit": 2,
                "progressDeadlineSeconds": 3600,
                "selector": {"matchLabels": labels.pod_selector(database)},
                "paused": False,  # True while only a new operator's template differs: see reconcile.claims.adapted
                "template": template,
            },
        },
    ]
