"""Children are applied by server-side apply, only when something differs, and pruned by the UID of their owner."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from database_operator.api.database import GROUP, KIND, Resolved
from database_operator.api.status import Reason
from database_operator.build import constants as c
from database_operator.build.manifest import Manifest, digest
from database_operator.kube import resources as r
from database_operator.kube.errors import Conflict, Forbidden, Invalid, NotFound
from database_operator.kube.objects import AnnotatedObject, Key, Meta, OwnerReference
from database_operator.kube.resources import Resource, by_kind
from database_operator.reconcile.context import METADATA_KINDS, WITH_GENERATION, Applied, Blocked, Context, Pass

COMPARED = WITH_GENERATION | {r.PERSISTENT_VOLUME_CLAIM}  # claims: their spec is all but immutable, and binding rewrites them
ABSENT = "1"  # etcd's first revision, which no object of ours can have: an apply at it creates, or is refused with 409
OWN_WRITE_SECONDS = 1.0  # for the local copy to show what this process has just written
OF_KIND = {kind.kind: kind for kind in (*METADATA_KINDS, r.STATEFUL_SET, r.DEPLOYMENT, r.PERSISTENT_VOLUME_CLAIM)}
IMMUTABLE = "updates to statefulset spec for fields other than"  # the API server's words
CLASS_STAYS = "spec.loadBalancerClass: Invalid value"  # likewise
Refusal = Blocked | Forbidden | Invalid
FORMER_AGAIN = 2.0  # seconds until the objects of a former Database of this name are looked at again


def marks(metadata: Meta) -> int:
    return hash((frozenset(metadata.labels.items()), metadata.owner_references))


def clean(applied: Applied, resource: Resource, seen: Meta) -> bool:
    """The child is as the last apply left it: nobody else touched what is ours. Status writes do not count."""
    if seen.resource_version == applied.resource_version:
        return True
    if seen.resource_version.isdigit() and int(seen.resource_version) < int(applied.resource_version):
        return True  # the copy has not seen our own write yet
    if resource not in COMPARED:
        return False
    return seen.generation == applied.generation and marks(seen) == applied.marks


async def apply(at: Pass, children: Sequence[Manifest]) -> dict[str, Refusal]:
    """Apply every child that differs from what was applied last or was touched since; gives the refusals, by kind.

    A right, a policy, a quota or a value refuses one child, and what does not depend on it goes on. Raises Blocked
    (NameConflict) and what else ``kube`` raises, after all were tried.
    """
    await _own_writes_seen(at)
    todo = [child for child in (_todo(at, child) for child in children) if child is not None]
    failed: list[tuple[str, BaseException]] = []
    for wave in (False, True):  # a RoleBinding is refused where its Role is not there yet
        now = [child for child in todo if (child.resource is r.ROLE_BINDING) is wave]
        outcomes = await asyncio.gather(*(_apply(at, child) for child in now), return_exceptions=True)
        failed += [(child.resource.kind, error) for child, error in zip(now, outcomes, strict=True) if error is not None]
    refusals = {kind: error for kind, error in failed if isinstance(error, Refusal) and _of_one_child(error)}
    others = [error for _, error in failed if error not in refusals.values()]
    if others:
        raise next((error for error in others if isinstance(error, Blocked)), others[0])
    return refusals


def _of_one_child(error: Refusal) -> bool:
    """Not of all of them, as where the namespace ends, nor of the Database, as a name that a stranger has."""
    return error.reason is Reason.QUOTA_EXCEEDED if isinstance(error, Blocked) else "NamespaceTerminating" not in error.causes


async def _own_writes_seen(at: Pass) -> None:
    """A child that was made a moment ago may be missing in the local copy: without this it would be applied once more."""
    for (kind, name), last in at.memory.applied.items():
        resource = OF_KIND[kind]
        store = at.ctx.stores.store(resource)
        if store.get(at.database.namespace, name) is None:
            await store.wait_for(Key(at.database.namespace, name), last.resource_version, OWN_WRITE_SECONDS)


class _Todo(Struct, frozen=True):
    resource: Resource
    child: Manifest
    body: bytes
    digest: str


def _todo(at: Pass, child: Manifest) -> _Todo | None:
    resource = by_kind(child["apiVersion"], child["kind"])
    body = msgspec.json.encode(child, order="deterministic")
    wanted = digest(msgspec.Raw(body), 32)
    head = child["metadata"]
    last = at.memory.applied.get((resource.kind, head["name"]))
    seen = at.ctx.stores.store(resource).get(head["namespace"], head["name"])
    if last is not None and last.digest == wanted and seen is not None and clean(last, resource, seen.metadata):
        return None
    return _Todo(resource, child, body, wanted)


async def _apply(at: Pass, todo: _Todo) -> None:
    ctx, memory, database = at.ctx, at.memory, at.database
    resource, head = todo.resource, todo.child["metadata"]
    memo = (resource.kind, head["name"])
    seen = ctx.stores.store(resource).get(head["namespace"], head["name"])
    if seen is not None:
        check_ours(database, resource, seen.metadata)
    try:
        written = await (_first(ctx, database, todo) if seen is None else ctx.client.apply(resource, todo.child, body=todo.body))
    except Forbidden as error:
        if "exceeded quota" in error.message:
            raise Blocked(Reason.QUOTA_EXCEEDED, f"{resource.kind} {head['name']}: {error.message}", after=30.0) from error
        raise
    except Invalid as error:
        if seen is None:
            raise
        around = await _around(at, todo, seen.metadata, error)
        if around is None:
            return
        written = around
    memory.applied[memo] = Applied(todo.digest, written.resource_version, written.generation, marks(written))


async def _around(at: Pass, todo: _Todo, seen: Meta, error: Invalid) -> Meta | None:
    """A part that cannot be changed in place; None where the next pass has to make the object anew. Raises ``error`` for all else.

    A StatefulSet, as whose claim template a new operator plans another, goes without its pods, which run on. A Service's
    load balancer has one class for its life: the Service gives it up and asks for another, and keeps its own address.
    """
    ctx, child = at.ctx, todo.child
    if todo.resource is r.STATEFUL_SET and IMMUTABLE in error.message:
        await delete_guarded(ctx, todo.resource, seen, owner_uid=at.database.uid, propagation="Orphan")
        return None
    if todo.resource is r.SERVICE and CLASS_STAYS in error.message:
        ports = [{key: value for key, value in port.items() if key != "nodePort"} for port in child["spec"]["ports"]]
        inside = {"type": "ClusterIP", "selector": child["spec"]["selector"], "ports": ports}
        await ctx.client.apply(todo.resource, child | {"spec": inside})
        return await ctx.client.apply(todo.resource, child, body=todo.body)
    raise error


async def _first(ctx: Context, database: Resolved, todo: _Todo) -> Meta:
    """Create, in one call that takes nothing over: an apply would, and a watch by our label does not show a stranger's object."""
    head = todo.child["metadata"]
    try:
        return await ctx.client.apply(todo.resource, todo.child | {"metadata": head | {"resourceVersion": ABSENT}})
    except Conflict:
        await _look(ctx, database, todo.resource, head["name"])
        return await ctx.client.apply(todo.resource, todo.child, body=todo.body)


async def _look(ctx: Context, database: Resolved, resource: Resource, name: str) -> None:
    """Raise Blocked where the object of this name is not ours."""
    try:
        found = await ctx.client.get(resource, database.namespace, name, type=AnnotatedObject)
    except NotFound:
        return
    check_ours(database, resource, found.metadata)


def check_ours(database: Resolved, resource: Resource, found: Meta) -> None:
    """Raise Blocked unless the object belongs to this Database."""
    owner = _owner(found)
    if resource is r.PERSISTENT_VOLUME_CLAIM:
        mine = found.labels.get(c.DATA_OF) == database.name
        former = False
    else:
        mine = owner is not None and owner.uid == database.uid
        former = owner is not None and owner.name == database.name
    if mine:
        if found.deletion_timestamp:
            raise Blocked(
                Reason.CREATING, f"{resource.kind} {found.name} is being deleted; it is made anew once it is gone", after=FORMER_AGAIN
            )
        return
    if former:
        message = f"{resource.kind} {found.name} of the former Database {database.name} is still being deleted"
        raise Blocked(Reason.CREATING, message, after=FORMER_AGAIN)
    message = f'{resource.kind} "{found.name}" exists and is not this Database\'s: rename the Database, or remove the {resource.kind}'
    raise Blocked(Reason.NAME_CONFLICT, message, after=30.0)


def _owner(found: Meta) -> OwnerReference | None:
    """The Database that controls this object; other groups have a kind of this name too."""
    owner = found.controller
    return owner if owner is not None and owner.kind == KIND and owner.group == GROUP else None


async def prune(at: Pass, children: Sequence[Manifest]) -> Forbidden | None:
    """Delete what this Database owns and no longer plans: by our controller reference, never by label; no Secrets, no claims.

    Gives the first refusal, by a right or a policy, after all the others were deleted.
    """
    ctx, database = at.ctx, at.database
    keep = {(child["kind"], child["metadata"]["name"]) for child in children}
    refusal: Forbidden | None = None
    for resource, informer in ctx.stores.owned():
        for item in informer.by_owner(database.uid):
            head: Any = item.metadata
            if (resource.kind, head.name) in keep or head.deletion_timestamp or _owner(head) is None:
                continue
            try:
                await delete_guarded(ctx, resource, head, owner_uid=database.uid)
            except Forbidden as error:
                refusal = refusal or error
                continue
            at.memory.applied.pop((resource.kind, head.name), None)
    return refusal


async def delete_guarded(ctx: Context, resource: Resource, seen: Meta, *, owner_uid: str | None, propagation: str = "Background") -> bool:
    """The one way to delete anything: what the local copy says is read again live, and the call carries UID and version.

    False where the object has gone or is no longer what was seen; the next pass looks again.
    """
    try:
        live = (await ctx.client.get(resource, seen.namespace, seen.name, type=AnnotatedObject)).metadata
    except NotFound:
        return False
    if live.uid != seen.uid or (owner_uid is not None and live.controller_uid != owner_uid):
        return False
    try:
        return await ctx.client.delete(
            resource, live.namespace, live.name, uid=live.uid, resource_version=live.resource_version, propagation=propagation
        )
    except Conflict:
        return False
