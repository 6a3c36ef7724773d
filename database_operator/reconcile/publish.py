"""The status is written once, last, and only if it differs; what crossed a line becomes an event."""

import datetime
from typing import Any

import msgspec

from database_operator.api.status import DatabaseStatus, Phase, Reason, Role
from database_operator.kube.errors import NotFound
from database_operator.reconcile.context import Pass, Told
from database_operator.reconcile.status import Answered, Outcome, ignored, status, worth_writing
from database_operator.reconcile.views import DATABASE


async def publish(at: Pass, outcome: Outcome) -> DatabaseStatus:
    """Write the status if it differs, and tell what crossed a line as an event."""
    ctx, database = at.ctx, at.database
    _tell_roles(at, outcome)
    now = datetime.datetime.now(datetime.UTC)
    made = status(database, at.engine, ctx.platform, outcome, now)
    if not worth_writing(database.status, made):
        return made
    head = database.metadata
    manifest = {
        "apiVersion": DATABASE.api_version,
        "kind": DATABASE.kind,
        "metadata": {"name": head.name, "namespace": head.namespace, "uid": head.uid},
        "status": _shown(msgspec.to_builtins(made)),
    }
    try:
        written = await ctx.client.apply_status(DATABASE, manifest)
    except NotFound:
        return made
    at.memory.told = Told(written.resource_version, made)
    _tell(at, outcome, made)
    return made


def _shown(value: Any) -> Any:
    """Without what is not known: the schema has no nulls."""
    if isinstance(value, dict):
        return {key: _shown(entry) for key, entry in value.items() if entry is not None}
    return [_shown(entry) for entry in value] if isinstance(value, list | tuple) else value


def _tell(at: Pass, outcome: Outcome, made: DatabaseStatus) -> None:
    """A reason once when it comes and once when it has stood too long; else only what crossed a line."""
    ctx, database = at.ctx, at.database
    before = next((condition.reason for condition in database.status.conditions if condition.type == "Ready"), "")
    ready = made.conditions[0]
    moved = made.phase is not database.status.phase
    if ready.status == "False" and ready.reason not in (Reason.CREATING.value, Reason.STOPPED.value):
        if ready.reason != before or (moved and made.phase is Phase.FAILED):
            ctx.events.warning(database, ready.reason, ready.message)
    elif moved and made.phase in (Phase.READY, Phase.CREATING, Phase.STOPPED, Phase.UPGRADING):
        ctx.events.normal(database, made.phase.value, ready.message)
    without_effect = ignored(database, at.engine)
    if without_effect and database.status.observed_generation != made.observed_generation:
        ctx.events.warning(database, "ParameterIgnored", "; ".join(without_effect))
    _tell_requests(at, outcome, made)


def _tell_requests(at: Pass, outcome: Outcome, made: DatabaseStatus) -> None:
    database, events = at.database, at.ctx.events
    for answer in outcome.answered:
        (events.warning if answer.refused else events.normal)(database, "RequestRefused" if answer.refused else "RequestDone", answer.text)
    restarted = made.requests.get("restartedAt")
    if database.status.phase is not None and restarted and restarted != database.status.requests.get("restartedAt"):
        answer = Answered(name="restartedAt", value=restarted, note="every member has been restarted")
        events.normal(database, "RequestDone", answer.text)


def _tell_roles(at: Pass, outcome: Outcome) -> None:
    """One event for a change of primaries, however many shards it moved; not while nobody leads, and not for the first."""
    known = at.memory.primaries
    if not known:  # a new process: what the status says
        known |= {member.shard: member.name for member in at.database.status.members if member.role is Role.PRIMARY}
    leading = [member for member in outcome.observation.members if member.role is Role.PRIMARY]
    now = {member.shard: member.pod for member in leading}
    if len(now) < len(leading):  # two claim the same: not decided yet
        return
    changed = [(shard, known[shard], pod) for shard, pod in now.items() if shard in known and known[shard] != pod]
    known |= now
    if changed:
        parts = [f"{new} is the primary{'' if shard is None else f' of shard {shard}'} after {old}" for shard, old, new in changed]
        at.ctx.events.normal(at.database, "PrimaryChanged", ", ".join(parts))
