"""What members suffer from is done for a spec that stands, and that the API server still has."""

from database_operator.api.database import Resolved
from database_operator.engines.base import Action, Command, Observation, Restart, Switchover, Wait
from database_operator.kube.errors import Conflict
from database_operator.kube.objects import Object
from database_operator.reconcile import observe
from database_operator.reconcile.context import Context, Pass
from database_operator.reconcile.views import DATABASE

STEADY = 2.0  # seconds that a spec must stand before members are restarted for it


def steady(at: Pass, seen: Observation, action: Action | None) -> Action | None:
    """Members that serve are restarted for a spec that stands: one that flaps restarts nobody. What heals a pod does not wait."""
    serves = not isinstance(action, Restart) or any(member.pod == action.pod and member.ready for member in seen.members)
    return Wait("the spec has just been changed") if rolls(action) and serves and just_changed(at) else action


def rolls(action: Action | None) -> bool:
    """A member is restarted by it, or the primary moves for that."""
    return isinstance(action, Restart | Switchover) or (isinstance(action, Command) and action.name == "restart")


def just_changed(at: Pass) -> bool:
    memory, generation, now = at.memory, at.database.metadata.generation, at.ctx.now()
    if memory.generation is None or memory.generation[0] != generation:
        memory.generation = (generation, now)
    return now - memory.generation[1] < STEADY


async def still_wanted(ctx: Context, database: Resolved, action: Action | None) -> None:
    """What members suffer from rests on the spec as it is, not on a copy that may be late. Raises Conflict."""
    workload = observe.workload(ctx, database)
    shrinks = workload is not None and database.spec.replicas < workload.spec.replicas
    if not shrinks and not isinstance(action, Restart | Switchover | Command):
        return
    live = (await ctx.client.get(DATABASE, database.namespace, database.name, type=Object)).metadata
    if live.uid != database.uid or live.generation != database.metadata.generation:
        raise Conflict(409, "Conflict", f"Database {database.name} has changed since it was read")
