"""Why members are not ready, where waiting alone will not help."""

import msgspec

from database_operator.api.status import Reason
from database_operator.engines.base import Observation
from database_operator.kube import resources as r
from database_operator.reconcile import blockers, claims, observe
from database_operator.reconcile.context import Pass
from database_operator.reconcile.wake import behind

PASSING = 3.0  # seconds that a pod may be missing, or wait for its volume to be bound, before it is said to be stuck
ASK_AGAIN = 10.0  # seconds between two looks for the events that tell why pods are missing: a LIST, which the server answers slowly


async def not_ready(at: Pass, seen: Observation) -> tuple[Reason, str] | None:
    """What keeps members from being ready, where waiting alone will not help."""
    ctx, database, memory = at.ctx, at.database, at.memory
    missing = len(seen.members) < database.spec.replicas
    missing_for = memory.stands("missing", missing, ctx.now())
    if not missing:
        memory.refusal = None
    if database.spec.replicas == 0 or (not missing and all(member.ready for member in seen.members)):
        return None
    missing_class = claims.missing_class(ctx, database)
    if missing_class:
        return Reason.STORAGE_CLASS_NOT_FOUND, missing_class
    found = blockers.first(observe.pods(ctx, database))
    unschedulable = found is not None and found.reason is Reason.UNSCHEDULABLE
    unschedulable_for = memory.stands("unschedulable", unschedulable, ctx.now())
    if found is not None and (not unschedulable or unschedulable_for > PASSING):
        return found.reason, found.message
    if missing_for > PASSING:
        return await _not_made(at)
    return None


class _Event(msgspec.Struct, frozen=True):
    reason: str = ""
    message: str = ""


async def _not_made(at: Pass) -> tuple[Reason, str] | None:
    """Pods that the controllers may not create: only their events tell why (quota, policy, pod security)."""
    ctx, database, memory = at.ctx, at.database, at.memory
    workload = observe.workload(ctx, database)
    if workload is None or behind(at):
        return None  # its controller has not got to it: with many Databases at once the controllers are what takes long
    failures = [it.message for it in workload.status.conditions if it.type == "ReplicaFailure" and it.status == "True"]
    selector = f"involvedObject.uid={workload.metadata.uid},reason=FailedCreate"
    if failures:
        memory.refusal = ctx.now(), _refused(failures[0])
    elif memory.refusal is None or ctx.now() - memory.refusal[0] > ASK_AGAIN:
        found = await ctx.client.list(r.EVENT, database.namespace, type=_Event, field_selector=selector)
        memory.refusal = ctx.now(), _refused(found[-1].message) if found else None
    return memory.refusal[1]


def _refused(message: str) -> tuple[Reason, str]:
    reason = Reason.QUOTA_EXCEEDED if "exceeded quota" in message else Reason.RECONCILIATION_FAILED
    return reason, blockers.short(message)
