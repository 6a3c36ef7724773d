"""The data group: claims, credentials and identity live and die together, and outlive their Database.

Before any child is made it is decided, on live reads, whether a Database may take up what stands under its name.
"""

import asyncio
from collections.abc import Sequence

from database_operator.api.database import Resolved
from database_operator.api.status import Reason
from database_operator.build import constants as c
from database_operator.build import names
from database_operator.engines.base import Engine
from database_operator.kube import resources as r
from database_operator.kube.errors import NotFound
from database_operator.kube.objects import AnnotatedObject, Key, Object
from database_operator.reconcile import secrets
from database_operator.reconcile.context import Blocked, Context, Pass
from database_operator.reconcile.views import ClaimView

CONFLICT_AGAIN = 30.0  # seconds


def _blocked(reason: Reason, message: str) -> Blocked:
    return Blocked(reason, message, after=CONFLICT_AGAIN)


def claim_names(database: Resolved, engine: Engine) -> list[str]:
    """Names of the claims that the workload will use; the one place that computes them, to look for strangers."""
    if engine.workload == "Deployment":
        return [names.single_claim(database.name)]
    workload = names.workload(database.name)
    return [f"{c.DATA_VOLUME}-{workload}-{ordinal}" for ordinal in range(database.spec.replicas)]


def check(database: Resolved, engine: Engine, claims: Sequence[ClaimView], secrets_there: frozenset[str]) -> None:
    """Raise Blocked(DataConflict) unless the group can be taken up as a whole. Pure."""
    major = engine.major(database.spec.version)
    for claim in claims:
        name, notes = claim.metadata.name, claim.metadata.annotations
        other = notes.get(c.ENGINE, database.type.value)
        if other != database.type.value:
            message = f'claim "{name}" holds data of {other}, not of {database.type.value}: delete the claim, or choose another name'
            raise _blocked(Reason.DATA_CONFLICT, message)
        kept = notes.get(c.MAJOR)
        other_life = notes.get(c.DATABASE_UID) != database.uid  # a step of a Database that runs is held by ``versions``
        if other_life and c.FORMED in notes and kept and major and kept != major:
            message = f'claim "{name}" holds data of {engine.title} {kept}: set spec.version to a {kept} version, or delete the claim'
            raise _blocked(Reason.DATA_CONFLICT, message)
    formed = [claim.metadata.name for claim in claims if c.FORMED in claim.metadata.annotations]
    needed = [names.credentials(database.name)] + ([names.internal(database.name)] if engine.internal else [])
    lost = [name for name in needed if name not in secrets_there]
    if formed and lost:
        message = f'claim "{formed[0]}" holds data but Secret "{lost[0]}" is gone: restore the Secret, or delete the claims'
        raise _blocked(Reason.DATA_CONFLICT, message)


async def admit(at: Pass) -> None:
    """Before members are made, the first and those that come later: look live at what stands under their names.

    It is taken up as a whole, or refused before any of it is marked: what is marked goes with ``deletionPolicy: Delete``.
    Raises Blocked (NameConflict, DataConflict). Sets ``memory.admitted``.
    """
    ctx, memory, database, engine = at.ctx, at.memory, at.database, at.engine
    if database.spec.replicas <= memory.admitted:
        return
    selector = f"{c.DATA_OF}={database.name}"
    claims = await ctx.client.list(r.PERSISTENT_VOLUME_CLAIM, database.namespace, type=ClaimView, label_selector=selector)
    await _strangers(ctx, database, engine, {claim.metadata.name for claim in claims})
    found = await _secrets(at) if claims else {}
    check(database, engine, claims, frozenset(found))
    await asyncio.gather(*(_take_up_claim(ctx, database, claim) for claim in claims))
    for name, secret in found.items():  # after the claims: their keys never belong to a life that the data does not
        await secrets.keep(at, name, secret)
    memory.admitted = database.spec.replicas


async def _strangers(ctx: Context, database: Resolved, engine: Engine, known: set[str]) -> None:
    for name in claim_names(database, engine):
        if name in known:
            continue
        try:
            await ctx.client.get(r.PERSISTENT_VOLUME_CLAIM, database.namespace, name, type=AnnotatedObject)
        except NotFound:
            continue
        message = f'claim "{name}" exists and is not this Database\'s: rename the Database, or remove the claim'
        raise _blocked(Reason.NAME_CONFLICT, message)
    found = await asyncio.gather(*(_engines_own(ctx, database, engine, name) for name in engine.own_config_maps(database.name)))
    if any(found) and not known:
        kept = ", ".join(name for name in found if name)
        message = f"the claims are gone but their cluster's identity is kept by the ConfigMaps {kept}: delete these too to begin anew"
        raise _blocked(Reason.DATA_CONFLICT, message)


async def _engines_own(ctx: Context, database: Resolved, engine: Engine, name: str) -> str | None:
    """The name if a member has made this ConfigMap; raises Blocked if it is a stranger's."""
    try:
        found = await ctx.client.get(r.CONFIG_MAP, database.namespace, name, type=Object)
    except NotFound:
        return None
    if found.metadata.labels.get(c.SCOPE) != names.scope(database.name):
        where = f'ConfigMap "{name}", where a member of {engine.title} would write,'
        message = f"{where} exists and is not its own: rename the Database, or remove the ConfigMap"
        raise _blocked(Reason.NAME_CONFLICT, message)
    return name


async def _secrets(at: Pass) -> dict[str, secrets.SecretObject]:
    """Those of the data group that are there, as they are."""
    found = {}
    for name in (names.internal(at.database.name), names.credentials(at.database.name)):
        try:
            found[name] = await secrets.look(at, name)
        except NotFound:
            at.memory.secrets.pop(name, None)
    return found


async def _take_up_claim(ctx: Context, database: Resolved, claim: ClaimView) -> None:
    head = claim.metadata
    if head.annotations.get(c.DATABASE_UID) == database.uid or head.deletion_timestamp:
        return
    mark = {"metadata": {"annotations": {c.DATABASE_UID: database.uid}, "uid": head.uid, "resourceVersion": head.resource_version}}
    await ctx.client.patch(r.PERSISTENT_VOLUME_CLAIM, database.namespace, head.name, mark)


def stored_claims(ctx: Context, database: Resolved) -> list[ClaimView]:
    return ctx.stores.claims.by_index("data-of", str(Key(database.namespace, database.name)))
