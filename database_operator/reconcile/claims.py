"""Claims in their life: the size in force, growth, the mark that data was formed, and members that left."""

import datetime
from collections.abc import Sequence

from database_operator.api.database import Resolved
from database_operator.api.quantity import parse
from database_operator.build import constants as c
from database_operator.build import names
from database_operator.build.manifest import Manifest
from database_operator.engines.base import Action, Engine, Observation
from database_operator.kube import resources as r
from database_operator.kube.errors import Conflict, Forbidden, Invalid, NotFound
from database_operator.kube.objects import Key
from database_operator.reconcile import blockers, observe
from database_operator.reconcile.apply import delete_guarded
from database_operator.reconcile.context import Context, Refused
from database_operator.reconcile.data import stored_claims
from database_operator.reconcile.status import timestamp
from database_operator.reconcile.views import ClaimView, WorkloadView

REFUSED_AGAIN = 60.0  # seconds
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def in_force(ctx: Context, database: Resolved) -> str | None:
    """The smallest capacity among the members' claims, as their status says it; None while none is bound."""
    sizes = [claim.status.capacity["storage"] for claim in _members_claims(ctx, database) if "storage" in claim.status.capacity]
    return min(sizes, key=parse) if sizes else None


def _members_claims(ctx: Context, database: Resolved) -> list[ClaimView]:
    """Without those of members that left: nothing mounts them, so they could not grow either; they follow once they are used again."""
    return [claim for claim in stored_claims(ctx, database) if c.LEFT_AT not in claim.metadata.annotations]


def template_outgrown(workload: WorkloadView | None, database: Resolved) -> bool:
    """The StatefulSet's claim template, which cannot be changed, is not of the wanted size."""
    if workload is None or not workload.spec.volume_claim_templates:
        return False
    return parse(workload.spec.volume_claim_templates[0].spec.request) != parse(database.spec.storage.size)


def adapted(ctx: Context, database: Resolved, children: Sequence[Manifest], action: Action | None, *, hold: bool) -> list[Manifest]:
    """The children to apply now, with what of the main workload has to wait.

    Members leave only once topology has nothing left to do for it; a StatefulSet whose claim template is outgrown is
    made anew first; and a Deployment is paused while its pod lacks nothing the user wrote, so that a new operator's
    template restarts nothing, and with ``hold`` also where it does.
    """
    workload = observe.workload(ctx, database)
    name = names.workload(database.name)
    made = []
    for child in children:
        main = workload is not None and child["metadata"]["name"] == name
        if child["kind"] == "PersistentVolumeClaim":
            made.append(_as_claimed(ctx, child))
        elif not main or workload is None or child["kind"] not in ("StatefulSet", "Deployment"):
            made.append(child)
        elif child["kind"] == "Deployment":
            made.append(child | {"spec": child["spec"] | {"paused": _waits(ctx, database, child, hold)}})
        elif not template_outgrown(workload, database):
            leaving = action is not None and 0 < database.spec.replicas < workload.spec.replicas
            made.append(child | {"spec": child["spec"] | {"replicas": workload.spec.replicas}} if leaving else child)
    return made


def _as_claimed(ctx: Context, child: Manifest) -> Manifest:
    """A claim that exists keeps its size, which ``grow`` changes, and its class: one taken up may be larger, or of another class."""
    stored = ctx.stores.claims.get(child["metadata"]["namespace"], child["metadata"]["name"])
    if stored is None:
        return child
    spec = dict(child["spec"])
    if parse(stored.spec.request) != parse(spec["resources"]["requests"]["storage"]):
        spec["resources"] = {"requests": {"storage": stored.spec.request}}
    if "storageClassName" in spec and stored.spec.storage_class_name is not None:
        spec["storageClassName"] = stored.spec.storage_class_name
    return child | {"spec": spec}


def _waits(ctx: Context, database: Resolved, deployment: Manifest, hold: bool) -> bool:
    """The answering pod is of another template, but, unless held, of the wanted inputs."""
    wanted = deployment["spec"]["template"]["metadata"]["annotations"]
    running = [pod.metadata.annotations for pod in observe.pods(ctx, database) if pod.ready]
    return bool(running) and all((hold or own.inputs == wanted[c.INPUTS]) and own.template != wanted[c.TEMPLATE] for own in running)


async def grow(ctx: Context, database: Resolved) -> str | None:
    """Ask for the wanted size on every claim, and make an outgrown StatefulSet anew around its running pods.

    Gives what goes on or stands in the way, None at rest. A claim never shrinks.
    """
    wanted = parse(database.spec.storage.size)
    going = None
    for claim in _members_claims(ctx, database):
        if parse(claim.spec.request) < wanted:
            going = await _ask(ctx, database, claim)
        elif parse(claim.status.capacity.get("storage", "0")) < parse(claim.spec.request) and claim.status.phase == "Bound":
            going = f"claim {claim.metadata.name} grows to {claim.spec.request}"
    workload = observe.workload(ctx, database)
    if workload is not None and template_outgrown(workload, database):
        head = workload.metadata
        if head.deletion_timestamp is None:
            await delete_guarded(ctx, r.STATEFUL_SET, head, owner_uid=database.uid, propagation="Orphan")
        going = going or f"StatefulSet {head.name} is made anew with its new claim size; its pods run on"
    return going


async def _ask(ctx: Context, database: Resolved, claim: ClaimView) -> str:
    """Ask once, and after a refusal only now and then: what stands in the way is mostly the class."""
    head, size = claim.metadata, database.spec.storage.size
    refused = ctx.memory(Key(database.namespace, database.name), database.uid).refused
    before = refused.get(head.name)
    if before is not None and before.size == size and ctx.now() - before.at < REFUSED_AGAIN:
        return before.message
    patch = {
        "metadata": {"uid": head.uid, "resourceVersion": head.resource_version},
        "spec": {"resources": {"requests": {"storage": size}}},
    }
    try:
        await ctx.client.patch(r.PERSISTENT_VOLUME_CLAIM, database.namespace, head.name, patch)
    except (Forbidden, Invalid) as error:
        refused[head.name] = Refused(size, blockers.short(f"claim {head.name} cannot grow: {error.message}"), ctx.now())
        return refused[head.name].message
    except (Conflict, NotFound):
        pass
    return f"claim {head.name} grows to {size}"


async def keep_up(ctx: Context, database: Resolved, engine: Engine, seen: Observation) -> None:
    """Mark the claims of answering members ``formed``, with the engine's cluster id, and those of members that left ``left-at``.

    A stored claim may be a moment old: the patch carries its version, and a conflict is looked at again later.
    """
    ready = {member.pod: member.version or database.spec.version for member in seen.members if member.ready}
    used = {pod.claim: pod.metadata.name for pod in observe.pods(ctx, database)}
    workload = observe.workload(ctx, database)
    others = workload is not None and workload.spec.replicas > 0 and database.spec.replicas > 0  # with 0 replicas nobody left
    for claim in stored_claims(ctx, database):
        head = claim.metadata
        if head.deletion_timestamp:
            continue
        marks: dict[str, str | None] = {}
        version = ready.get(used.get(head.name, ""))
        if seen.cluster_id and version is not None and c.FORMED not in head.annotations:
            marks |= {c.FORMED: seen.cluster_id, c.MAJOR: engine.major(version)}
        left, surplus = c.LEFT_AT in head.annotations, _surplus(head.name, database, workload)
        if left and head.name in used and not surplus:
            marks[c.LEFT_AT] = None
        elif not left and others and surplus:  # its pod may still be ending: the others go on without it
            marks[c.LEFT_AT] = timestamp(datetime.datetime.now(datetime.UTC))
        if marks:
            patch = {"metadata": {"annotations": marks, "uid": head.uid, "resourceVersion": head.resource_version}}
            try:
                await ctx.client.patch(r.PERSISTENT_VOLUME_CLAIM, database.namespace, head.name, patch)
            except (Conflict, NotFound):
                continue


def _surplus(claim: str, database: Resolved, workload: WorkloadView | None) -> bool:
    """A claim whose ordinal is beyond the members that are wanted and those that the workload has."""
    ordinal = claim.rpartition("-")[2]
    members = max(workload.spec.replicas, database.spec.replicas) if workload is not None else 0
    return ordinal.isdigit() and int(ordinal) >= members


def missing_class(ctx: Context, database: Resolved) -> str | None:
    """A message where a claim waits for a StorageClass that does not exist."""
    pending = [claim for claim in stored_claims(ctx, database) if claim.status.phase == "Pending"]
    found = [item.metadata for item in ctx.stores.storage_classes.all()] if pending else []
    default = next((item.name for item in found if item.annotations.get(DEFAULT_CLASS) == "true"), None)
    return blockers.of_claims(pending, frozenset(item.name for item in found), default)
