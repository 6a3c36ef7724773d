"""Members that come back together.

Who stops with several members, or leaves several claims behind, may come back with fewer. The data that counts may be
on any of them, and a quorum needs most of them: all that held data start again first, and only then some leave.
"""

from collections.abc import Sequence

import msgspec

from database_operator.api.database import Resolved
from database_operator.api.status import Reason
from database_operator.build import constants as c
from database_operator.build import names
from database_operator.build.manifest import Manifest
from database_operator.engines.base import Engine, Observation, Wait
from database_operator.kube import resources as r
from database_operator.kube.objects import Key
from database_operator.reconcile import observe
from database_operator.reconcile.apply import OWN_WRITE_SECONDS
from database_operator.reconcile.context import Context, Memory, Pass
from database_operator.reconcile.data import stored_claims


def holders(ctx: Context, database: Resolved) -> set[int]:
    """Ordinals whose claims hold data, but for those that had left while others went on."""
    prefix = f"{c.DATA_VOLUME}-{names.workload(database.name)}-"
    held = set()
    for claim in stored_claims(ctx, database):
        head, notes = claim.metadata, claim.metadata.annotations
        ordinal = head.name.removeprefix(prefix)
        if ordinal.isdigit() and c.FORMED in notes and c.LEFT_AT not in notes and not head.deletion_timestamp:
            held.add(int(ordinal))
    return held


async def returning(ctx: Context, memory: Memory, database: Resolved, engine: Engine) -> Resolved | None:
    """The Database with as many members as come back; None unless they are more than are wanted, and until all are ready."""
    wanted, name = database.spec.replicas, names.workload(database.name)
    if wanted == 0 or engine.workload == "Deployment":
        return None
    last = memory.applied.get((r.STATEFUL_SET.kind, name))
    if last is not None:  # a copy from before the stop would show members that are gone
        await ctx.stores.stateful_sets.wait_for(Key(database.namespace, name), last.resource_version, OWN_WRITE_SECONDS)
    workload = observe.workload(ctx, database)
    begun = workload is not None and workload.spec.replicas > 0
    if workload is not None and begun and c.RETURNING not in workload.metadata.labels:
        return None
    held = holders(ctx, database)
    members = max(held, default=-1) + 1
    ready = {pod.metadata.name for pod in observe.pods(ctx, database) if pod.ready}
    if members <= wanted or (begun and all(f"{name}-{ordinal}" in ready for ordinal in held)):
        return None
    return msgspec.structs.replace(database, spec=msgspec.structs.replace(database.spec, replicas=members))


def marked(database: Resolved, children: Sequence[Manifest]) -> list[Manifest]:
    """The children, with the mark on the workload by which the next pass knows that its members are coming back."""
    name = names.workload(database.name)
    made = []
    for child in children:
        head = child["metadata"]
        if child["kind"] == "StatefulSet" and head["name"] == name:
            child = child | {"metadata": head | {"labels": head["labels"] | {c.RETURNING: "true"}}}
        made.append(child)
    return made


def holders_first(at: Pass, seen: Observation) -> Wait | None:
    """What nobody leaves before: those that come back, and one that is not there while nobody leads: it may have led."""
    if at.returning:
        return Wait(f"the {seen.wanted} members that hold data come back before some leave", Reason.SCALING)
    database, workload = at.database, observe.workload(at.ctx, at.database)
    if workload is None or not 0 < database.spec.replicas < workload.spec.replicas:
        return None
    sharded = at.engine.sharded(database)  # its members tell whether a shard has lost its primary
    if any(member.reached for member in seen.members) if sharded else seen.primary is not None:
        return None
    there = {member.pod for member in seen.members if not member.terminating}
    leaving = range(database.spec.replicas, workload.spec.replicas)
    pods = [f"{names.workload(database.name)}-{ordinal}" for ordinal in sorted(holders(at.ctx, database)) if ordinal in leaving]
    away = [pod for pod in pods if pod not in there]
    return Wait(f"{', '.join(away)} holds data and is not there, and no primary is known: nobody leaves", Reason.SCALING) if away else None
