"""Carry out one Action. What it rests on is read again live; every one of them may be repeated."""

import asyncio

import msgspec

from database_operator.api.database import Resolved
from database_operator.api.status import Role
from database_operator.build import constants as c
from database_operator.build import names
from database_operator.engines.base import Action, Command, Label, Member, Observation, Restart, Switchover, Wait, Wipe
from database_operator.kube import resources as r
from database_operator.kube.errors import NotFound
from database_operator.kube.objects import Key, Object
from database_operator.reconcile.apply import OWN_WRITE_SECONDS, delete_guarded
from database_operator.reconcile.connections.base import Target, Unreachable, connection
from database_operator.reconcile.context import Context, Pass

LOOK_AGAIN = 0.02  # seconds between two looks at the local copy


def target(at: Pass, members: tuple[Member, ...]) -> Target:
    """How to reach the members of this Database, logins included."""
    ctx, memory, database = at.ctx, at.memory, at.database
    internal = memory.secrets.get(names.internal(database.name))
    credentials = memory.secrets.get(names.credentials(database.name))
    return Target(
        database=database,
        platform=ctx.platform,
        session=ctx.session,
        members=members,
        credentials=credentials.values if credentials else {},
        internal=internal.values if internal else {},
    )


async def act(at: Pass, seen: Observation, action: Action) -> None:
    """Raises Unreachable where the engine did not take it; the next pass decides anew from what is then seen."""
    ctx, database, engine = at.ctx, at.database, at.engine
    if not ctx.client.may_write():
        raise Unreachable("this process may have lost its lease")
    match action:
        case Wait():
            return
        case Restart(pod=pod, why=why):
            if await restart(ctx, database.namespace, seen, pod):
                ctx.events.normal(database, "MemberRestarted", f"restarting {pod}: {why or 'its inputs have changed'}")
        case Label(pod=pod, role=role, shard=shard):
            await label(ctx, database, pod, role, shard)
        case Wipe(pod=pod):
            await wipe(at, seen, pod)
        case Switchover(to=to, why=why):
            move = connection(engine.provider).switchover
            if move is None:
                raise Unreachable(f"{engine.title} has no planned switchover")
            _ask_again(at)
            async with asyncio.timeout(engine.default_command_seconds):
                now = await move(target(at, seen.members), to)
            if now is not None:
                await label(ctx, database, now, Role.PRIMARY.value, None)  # first: kube-proxy looks once, and then not for a second
                others = [member.pod for member in seen.members if member.pod != now]
                await asyncio.gather(*(label(ctx, database, pod, Role.REPLICA.value, None) for pod in others))
            ctx.events.normal(database, "Switchover", f"asked {engine.title} to make {to} the primary{': ' + why if why else ''}")
        case Command():
            run = connection(engine.provider).command
            if run is None:
                raise Unreachable(f"{engine.title} takes no command {action.name}")
            _ask_again(at)
            async with asyncio.timeout(engine.default_command_seconds):
                await run(target(at, seen.members), action)


def _ask_again(at: Pass) -> None:
    """What came of it shows in no pod: have the members asked often for a while."""
    at.ctx.probes.event(Key(at.database.namespace, at.database.name))


async def restart(ctx: Context, namespace: str, seen: Observation, pod: str) -> bool:
    """Delete a pod for its workload to make anew, if it is still the one that was looked at."""
    member = next((member for member in seen.members if member.pod == pod), None)
    if member is None or member.terminating:
        return False
    view = ctx.stores.pods.get(namespace, pod)
    if view is None or view.metadata.uid != member.uid:
        return False
    gone = await delete_guarded(ctx, r.POD, view.metadata, owner_uid=view.metadata.controller_uid)
    if gone:
        await _seen_going(ctx, namespace, pod, member.uid)
    return gone


async def _seen_going(ctx: Context, namespace: str, pod: str, uid: str) -> None:
    """Until the local copy shows it: a pass of a spec that has changed meanwhile would count on this member and take another."""
    for _ in range(int(OWN_WRITE_SECONDS / LOOK_AGAIN)):
        view = ctx.stores.pods.get(namespace, pod)
        if view is None or view.metadata.uid != uid or view.metadata.deletion_timestamp:
            return
        await asyncio.sleep(LOOK_AGAIN)


async def ask(at: Pass, seen: Observation) -> Observation:
    """The same members with what each of them says at this moment; one that does not answer in time is not reached."""
    who, probe = target(at, seen.members), connection(at.engine.provider).probe

    async def one(member: Member) -> Member:
        silent = msgspec.structs.replace(member, role=Role.UNKNOWN, lag_bytes=None, reached=False, facts={})
        if not member.ip or not member.running or member.terminating:
            return silent
        try:
            async with asyncio.timeout(at.engine.default_command_seconds):
                answer = await probe(who, member)
        except (Unreachable, TimeoutError, OSError):
            return silent
        said = {"role": answer.role, "lag_bytes": answer.lag_bytes, "shard": answer.shard, "facts": answer.facts}
        return msgspec.structs.replace(member, reached=True, **said)

    members = await asyncio.gather(*(one(member) for member in seen.members))
    return msgspec.structs.replace(seen, members=tuple(members))


async def wipe(at: Pass, seen: Observation, pod: str) -> None:
    """The one way to throw a member's data away: its claim, then its pod; the workload makes both anew.

    The caller has asked every member a moment ago. A crash between the two leaves a claim that goes with its pod, which
    the next pass deletes. Raises Unreachable where one of them is no longer what was looked at.
    """
    ctx, database = at.ctx, at.database
    member = next((member for member in seen.members if member.pod == pod), None)
    view = ctx.stores.pods.get(database.namespace, pod)
    if member is None or view is None or view.metadata.uid != member.uid or view.claim is None:
        raise Unreachable(f"{pod} is no longer the pod that was looked at")
    try:
        live = (await ctx.client.get(r.POD, database.namespace, pod, type=Object)).metadata
    except NotFound:
        raise Unreachable(f"{pod} is gone") from None
    if live.uid != member.uid or live.labels.get(c.ROLE) == Role.PRIMARY.value:
        raise Unreachable(f"{pod} was replaced, or is labelled as the primary")
    claim = ctx.stores.claims.get(database.namespace, view.claim)
    if claim is None or claim.metadata.labels.get(c.DATA_OF) != database.name:
        raise Unreachable(f"claim {view.claim} is not known as this Database's")
    going = claim.metadata.deletion_timestamp is not None
    if not going and not await delete_guarded(ctx, r.PERSISTENT_VOLUME_CLAIM, claim.metadata, owner_uid=None):
        raise Unreachable(f"claim {view.claim} was changed meanwhile")
    await delete_guarded(ctx, r.POD, view.metadata, owner_uid=view.metadata.controller_uid)


async def label(ctx: Context, database: Resolved, pod: str, role: str | None, shard: int | None) -> None:
    """Set the role of a pod for the Services; not of one that was replaced meanwhile."""
    try:
        live = (await ctx.client.get(r.POD, database.namespace, pod, type=Object)).metadata
    except NotFound:
        return
    wanted: dict[str, str | None] = {c.ROLE: role}
    if shard is not None:
        wanted[c.SHARD] = str(shard)
    if all(live.labels.get(key) == value for key, value in wanted.items()):
        return
    await ctx.client.patch(r.POD, database.namespace, pod, {"metadata": {"uid": live.uid, "labels": wanted}})
