"""The status is written once, last, and only if it differs; what crossed a line becomes an event."""

import datetime
from typing import Any

import msgspec

from database_operator.api.database import Resolved
from database_operator.api.status import DatabaseStatus, Phase, Reason
from database_operator.kube.errors import NotFound
from database_operator.reconcile.context import Context, Pass, Told
from database_operator.reconcile.status import Outcome, status, worth_writing
from database_operator.reconcile.views import DATABASE


async def publish(at: Pass, outcome: Outcome) -> DatabaseStatus:
    """Write the status if it differs, and tell what crossed a line as an event."""
    ctx, database = at.ctx, at.database
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
    _tell(ctx, database, made)
    for warning in outcome.warnings:
        if warning not in (database.status.message or ""):
            ctx.events.warning(database, "ParameterIgnored", warning)
    return made


def _shown(value: Any) -> Any:
    """Without what is not known: the schema has no nulls."""
    if isinstance(value, dict):
        return {key: _shown(entry) for key, entry in value.items() if entry is not None}
    return [_shown(entry) for entry in value] if isinstance(value, list | tuple) else value


def _tell(ctx: Context, database: Resolved, made: DatabaseStatus) -> None:
    """A reason once when it comes and once when it has stood too long; else only what crossed a line."""
    before = next((condition.reason for condition in database.status.conditions if condition.type == "Ready"), "")
    ready = made.conditions[0]
    moved = made.phase is not database.status.phase
    if ready.status == "False" and ready.reason not in (Reason.CREATING.value, Reason.STOPPED.value):
        if ready.reason != before or (moved and made.phase is Phase.FAILED):
            ctx.events.warning(database, ready.reason, ready.message)
    elif moved and made.phase in (Phase.READY, Phase.CREATING, Phase.STOPPED, Phase.UPGRADING):
        ctx.events.normal(database, made.phase.value, ready.message)
