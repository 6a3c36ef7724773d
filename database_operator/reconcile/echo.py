"""Events that only show what this process wrote itself. They lead to no pass: at a mass of creations they are most of all events."""

import msgspec

from database_operator.api.database import FINALIZER
from database_operator.kube.objects import HasMeta, Key
from database_operator.kube.resources import Resource
from database_operator.reconcile.context import Context
from database_operator.reconcile.views import DatabaseView


def of_child(ctx: Context, owner: Key, resource: Resource, new: HasMeta | None) -> bool:
    """The child is at the very version that our last apply made of it."""
    memory = ctx.memories.get(owner)
    applied = memory.applied.get((resource.kind, new.metadata.name)) if memory is not None and new is not None else None
    return applied is not None and new is not None and applied.resource_version == new.metadata.resource_version


def of_database(ctx: Context, old: DatabaseView | None, new: DatabaseView | None) -> bool:
    """Nothing has changed but the finalizer, which came, and the status, which is the one we wrote last."""
    if old is None or new is None or old.spec != new.spec:
        return False
    head = new.metadata
    if FINALIZER not in head.finalizers or msgspec.structs.replace(head, finalizers=old.metadata.finalizers) != old.metadata:
        return False
    memory = ctx.memories.get(head.key)
    told = memory.told if memory is not None and memory.uid == head.uid else None
    return old.status == new.status or (told is not None and told.resource_version == head.resource_version)
