"""Whom the prober asks, put together from the local copies."""

from database_operator.build import names
from database_operator.engines.base import Member
from database_operator.kube.objects import Key
from database_operator.reconcile import observe
from database_operator.reconcile.act import target
from database_operator.reconcile.connections.base import connection
from database_operator.reconcile.context import Blocked, Context, Pass
from database_operator.reconcile.database import typed
from database_operator.reconcile.prober import Asked


def asked(ctx: Context, key: Key) -> Asked | None:
    """The running members of a Database and how to log in to them; None where there is nothing to ask."""
    view = ctx.stores.databases.get(*key)
    if view is None or view.metadata.deletion_timestamp:
        return None
    try:
        database, engine = typed(ctx, view)
    except Blocked:
        return None
    members: tuple[Member, ...] = tuple(observe.member(pod, None, False, None, "") for pod in observe.pods(ctx, database))
    if not members:
        return None
    memory = ctx.memory(key, database.uid)
    needed = [names.credentials(database.name)] + ([names.internal(database.name)] if engine.internal else [])
    if any(name not in memory.secrets for name in needed):
        return None  # a new leader's first pass reads them; without, every member would seem to turn the operator away
    at = Pass(ctx, memory, database, engine)
    return Asked(target(at, members), connection(engine.provider), engine.probe_seconds(database))
