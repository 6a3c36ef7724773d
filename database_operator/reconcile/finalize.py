"""Deletion: what stays and what goes, in an order in which nothing that keeps data readable goes before the data."""

import contextlib

import msgspec

from database_operator.api.database import FINALIZER, Stored
from database_operator.api.spec import DeletionPolicy
from database_operator.build import constants as c
from database_operator.build import names
from database_operator.kube import resources as r
from database_operator.kube.controller import GONE, Result
from database_operator.kube.errors import NotFound
from database_operator.kube.objects import AnnotatedObject, Key, Meta
from database_operator.kube.resources import Resource
from database_operator.reconcile.apply import delete_guarded
from database_operator.reconcile.context import Context, Memory
from database_operator.reconcile.views import DATABASE, PodView

LOOK_AGAIN = 1.0  # seconds; events mostly come sooner


def policy(database: Stored) -> DeletionPolicy:
    """Read from the raw spec: a Database whose spec is invalid must be deletable, and an unknown policy keeps the data."""
    try:
        return DeletionPolicy(msgspec.json.decode(database.spec).get("deletionPolicy", DeletionPolicy.RETAIN.value))
    except (ValueError, AttributeError):
        return DeletionPolicy.RETAIN


async def finalize(ctx: Context, memory: Memory, database: Stored) -> Result:
    """One step of deletion; each may be repeated. ``Retain`` leaves the data group and the workloads to the garbage collector."""
    head = database.metadata
    if FINALIZER not in head.finalizers:
        ctx.forget(Key(head.namespace, head.name))
        return GONE
    if policy(database) is DeletionPolicy.DELETE and not await _data_gone(ctx, database):
        return Result(after=LOOK_AGAIN)
    others = [finalizer for finalizer in head.finalizers if finalizer != FINALIZER]
    patch = {"metadata": {"finalizers": others, "resourceVersion": head.resource_version, "uid": head.uid}}
    with contextlib.suppress(NotFound):
        await ctx.client.patch(DATABASE, head.namespace, head.name, patch)
    ctx.forget(Key(head.namespace, head.name))
    return GONE


async def _data_gone(ctx: Context, database: Stored) -> bool:
    """Workloads, then their pods, then the engine's own ConfigMaps, the claims, and the Secrets last."""
    head = database.metadata
    for resource, informer in ((r.STATEFUL_SET, ctx.stores.stateful_sets), (r.DEPLOYMENT, ctx.stores.deployments)):
        for workload in informer.by_owner(head.uid):
            if not workload.metadata.deletion_timestamp:
                await delete_guarded(ctx, resource, workload.metadata, owner_uid=head.uid)
    if await _running(ctx, database):
        return False
    for resource, selector in (
        (r.CONFIG_MAP, f"{c.SCOPE}={names.scope(head.name)},{c.MANAGED_BY}!={c.MANAGER}"),
        (r.PERSISTENT_VOLUME_CLAIM, f"{c.DATA_OF}={head.name}"),
        (r.SECRET, f"{c.DATA_OF}={head.name}"),
    ):
        if not await _all_gone(ctx, database, resource, selector):
            return False
    return True


async def _running(ctx: Context, database: Stored) -> bool:
    """Live: a pod that still writes must not lose its claim's protection to a late copy."""
    head = database.metadata
    found = await ctx.client.list(
        r.POD, head.namespace, type=PodView, label_selector=f"{c.INSTANCE}={head.name},{c.SCOPE}={names.scope(head.name)}"
    )
    return any(pod.metadata.owner_references for pod in found)


async def _all_gone(ctx: Context, database: Stored, resource: Resource, selector: str) -> bool:
    head = database.metadata
    found = await ctx.client.list(resource, head.namespace, type=AnnotatedObject, label_selector=selector)
    mine = [item.metadata for item in found if _mine(database, resource, item.metadata, item.metadata.annotations)]
    for metadata in mine:
        if not metadata.deletion_timestamp:
            await delete_guarded(ctx, resource, metadata, owner_uid=None)
    return not mine


def _mine(database: Stored, resource: Resource, metadata: Meta, annotations: dict[str, str]) -> bool:
    """Of this life of the Database, not of a later one of the same name; an engine's own ConfigMaps carry no mark of ours."""
    if resource is r.CONFIG_MAP:
        scope = names.scope(database.metadata.name)
        return metadata.name in {f"{scope}-{suffix}" for suffix in ("config", "leader", "sync", "failover")}
    return annotations.get(c.DATABASE_UID, database.metadata.uid) == database.metadata.uid
