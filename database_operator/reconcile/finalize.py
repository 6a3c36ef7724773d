"""Deletion: what stays and what goes, in an order in which nothing that keeps data readable goes before the data."""

import contextlib
import logging

import msgspec

from database_operator.api.database import FINALIZER, Metadata, Stored
from database_operator.api.spec import DeletionPolicy
from database_operator.api.status import Phase
from database_operator.build import constants as c
from database_operator.build import names
from database_operator.kube import resources as r
from database_operator.kube.controller import GONE, Result
from database_operator.kube.errors import Forbidden, NotFound
from database_operator.kube.objects import AnnotatedObject, Key, Meta, Object
from database_operator.kube.resources import Resource
from database_operator.reconcile.apply import delete_guarded
from database_operator.reconcile.context import Context, Memory
from database_operator.reconcile.observe import adoptable
from database_operator.reconcile.views import DATABASE, PodView

log = logging.getLogger(__name__)

QUIET = 3.0  # seconds without a workload or pod: a controller that has not seen the end of its workload may still make a claim
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
    if FINALIZER not in head.finalizers or not await _still_going(ctx, head):
        ctx.forget(Key(head.namespace, head.name))
        return GONE
    for pod in orphans(ctx, head):
        await delete_guarded(ctx, r.POD, pod.metadata, owner_uid="")
    if policy(database) is DeletionPolicy.DELETE and not await _data_gone(ctx, memory, database):
        await _tell(ctx, database)
        return Result(after=LOOK_AGAIN)
    others = [finalizer for finalizer in head.finalizers if finalizer != FINALIZER]
    patch = {"metadata": {"finalizers": others, "resourceVersion": head.resource_version, "uid": head.uid}}
    with contextlib.suppress(NotFound):
        await ctx.client.patch(DATABASE, head.namespace, head.name, patch)
    ctx.forget(Key(head.namespace, head.name))
    return GONE


async def vanished(ctx: Context, key: Key) -> Result:
    """One step after a Database that is no more, though nobody took its finalizer off.

    The API server looks for finalizers before it deletes, in two steps: one that is added in between is lost with the
    object (apiserver's registry, ``Store.Delete``). What such a short life has made goes too, under ``Delete``; never data.
    """
    memory = ctx.memories.get(key)
    database = memory.begun if memory is not None else None
    if memory is None or database is None or policy(database) is not DeletionPolicy.DELETE or await _formed(ctx, database):
        ctx.forget(key)
        return GONE
    if not await _data_gone(ctx, memory, database):
        return Result(after=LOOK_AGAIN)
    ctx.forget(key)
    return GONE


async def _formed(ctx: Context, database: Stored) -> bool:
    head = database.metadata
    claims = await ctx.client.list(
        r.PERSISTENT_VOLUME_CLAIM, head.namespace, type=AnnotatedObject, label_selector=f"{c.DATA_OF}={head.name}"
    )
    notes = [claim.metadata.annotations for claim in claims]
    return any(c.FORMED in note and note.get(c.DATABASE_UID) == head.uid for note in notes)


async def _still_going(ctx: Context, head: Metadata) -> bool:
    """Live: a late copy may show the end of a Database whose name another one bears by now."""
    try:
        live = (await ctx.client.get(DATABASE, head.namespace, head.name, type=Object)).metadata
    except NotFound:
        return False
    return live.uid == head.uid and live.deletion_timestamp is not None


def orphans(ctx: Context, head: Metadata) -> list[PodView]:
    """Members whose StatefulSet was being made anew for larger claims: the garbage collector does not know them any more."""
    found = ctx.stores.pods.by_index("app", str(Key(head.namespace, head.name)))
    return [pod for pod in found if adoptable(pod, names.workload(head.name)) and pod.metadata.deletion_timestamp is None]


async def _tell(ctx: Context, database: Stored) -> None:
    """Once: it takes as long as the databases need to stop."""
    head = database.metadata
    with contextlib.suppress(msgspec.DecodeError, AttributeError):
        if msgspec.json.decode(database.status).get("phase") == Phase.DELETING.value:
            return
    told = {"phase": Phase.DELETING.value, "message": "the members stop; then the data goes, and its credentials last"}
    with contextlib.suppress(NotFound):
        await ctx.client.patch(DATABASE, head.namespace, head.name, {"metadata": {"uid": head.uid}, "status": told}, subresource="status")


async def _data_gone(ctx: Context, memory: Memory, database: Stored) -> bool:
    """Workloads, then their pods, then the engine's own ConfigMaps, the claims, and the Secrets last."""
    head = database.metadata
    busy = await _workloads(ctx, head) or await _running(ctx, database)
    if memory.stands("stopped", not busy, ctx.now()) < QUIET:
        return False
    for resource, selector in (
        (r.CONFIG_MAP, f"{c.SCOPE}={names.scope(head.name)},{c.MANAGED_BY}!={c.MANAGER}"),
        (r.PERSISTENT_VOLUME_CLAIM, f"{c.DATA_OF}={head.name}"),
        (r.SECRET, f"{c.DATA_OF}={head.name}"),
    ):
        if not await _all_gone(ctx, database, resource, selector):
            return False
    return True


async def _workloads(ctx: Context, head: Metadata) -> bool:
    """Delete them; True while one is there. Live, and in the foreground: one that is missed here would make claims again."""
    there = False
    for resource in (r.STATEFUL_SET, r.DEPLOYMENT):
        for found in await ctx.client.list(resource, head.namespace, type=Object, label_selector=f"{c.INSTANCE}={head.name}"):
            if found.metadata.controller_uid != head.uid:
                continue
            there = True
            if not found.metadata.deletion_timestamp:
                await delete_guarded(ctx, resource, found.metadata, owner_uid=head.uid, propagation="Foreground")
    return there


async def _running(ctx: Context, database: Stored) -> bool:
    """Live: a pod that still writes must not lose its claim's protection to a late copy."""
    head = database.metadata
    found = await ctx.client.list(
        r.POD, head.namespace, type=PodView, label_selector=f"{c.INSTANCE}={head.name},{c.SCOPE}={names.scope(head.name)}"
    )
    return any(pod.metadata.owner_references or adoptable(pod, names.workload(head.name)) for pod in found)


async def _all_gone(ctx: Context, database: Stored, resource: Resource, selector: str) -> bool:
    head = database.metadata
    found = await ctx.client.list(resource, head.namespace, type=AnnotatedObject, label_selector=selector)
    mine = [item.metadata for item in found if _mine(database, resource, item.metadata, item.metadata.annotations)]
    if resource is r.SECRET and mine:
        claims = await ctx.client.list(
            r.PERSISTENT_VOLUME_CLAIM, head.namespace, type=AnnotatedObject, label_selector=f"{c.DATA_OF}={head.name}"
        )
        if claims:  # made late, and to be deleted first; or of another life that was never taken up: their key stays with them
            return not any(_mine(database, r.PERSISTENT_VOLUME_CLAIM, claim.metadata, claim.metadata.annotations) for claim in claims)
    try:
        for metadata in mine:
            if not metadata.deletion_timestamp:
                await delete_guarded(ctx, resource, metadata, owner_uid=None)
    except Forbidden:
        if resource is not r.SECRET:
            raise
        log.info("Secrets left: the operator may not delete them", extra={"secrets": [metadata.name for metadata in mine]})
        return True
    return not mine


def _mine(database: Stored, resource: Resource, metadata: Meta, annotations: dict[str, str]) -> bool:
    """Of this life of the Database, not of a later one of the same name; an engine's own ConfigMaps carry no mark of ours."""
    if resource is r.CONFIG_MAP:
        return metadata.name in names.patroni(database.metadata.name)
    return annotations.get(c.DATABASE_UID, database.metadata.uid) == database.metadata.uid
