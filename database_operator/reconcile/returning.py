"""Members that come back together.

Who stops with several members, or leaves several claims behind, may come back with fewer. The data that counts may be
on any of them, and a quorum needs most of them: all that held data start again first, and only then some leave.
"""

from collections.abc import Sequence

import msgspec

from database_operator.api.database import Resolved
from database_operator.build import constants as c
from database_operator.build import names
from database_operator.build.manifest import Manifest
from database_operator.engines.base import Engine
from database_operator.reconcile import observe
from database_operator.reconcile.context import Context
from database_operator.reconcile.data import stored_claims


def holders(ctx: Context, database: Resolved) -> int:
    """Members up to the highest one whose claim holds data that it had not left when all of them stopped."""
    prefix = f"{c.DATA_VOLUME}-{names.workload(database.name)}-"
    held = 0
    for claim in stored_claims(ctx, database):
        head, notes = claim.metadata, claim.metadata.annotations
        ordinal = head.name.removeprefix(prefix)
        if ordinal.isdigit() and c.FORMED in notes and c.LEFT_AT not in notes and not head.deletion_timestamp:
            held = max(held, int(ordinal) + 1)
    return held


def returning(ctx: Context, database: Resolved, engine: Engine) -> Resolved | None:
    """The Database with as many members as come back; None unless they are more than are wanted, and until all are ready."""
    wanted = database.spec.replicas
    if wanted == 0 or engine.workload == "Deployment":
        return None
    workload = observe.workload(ctx, database)
    begun = workload is not None and workload.spec.replicas > 0
    if workload is not None and begun and c.RETURNING not in workload.metadata.labels:
        return None
    members = holders(ctx, database)
    if members <= wanted or (begun and sum(pod.ready for pod in observe.pods(ctx, database)) >= members):
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
