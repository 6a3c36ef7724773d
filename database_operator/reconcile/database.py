"""The pipeline: one pass brings one Database one step nearer its spec.

Level-triggered: it sees a key, reads the whole state, and keeps nothing between passes that may not be lost.
"""

import datetime

import msgspec

from database_operator.api.database import FINALIZER, Metadata, Resolved, Stored, decode, resolve
from database_operator.api.status import Phase, Reason
from database_operator.api.validation import explanation, problems
from database_operator.build import constants as c
from database_operator.build import names
from database_operator.engines.base import Action, Engine, Inputs, Observation, Restart, Wait
from database_operator.kube.controller import DONE, Result
from database_operator.kube.errors import Forbidden, Invalid, NotFound
from database_operator.kube.objects import Key
from database_operator.reconcile import blockers, claims, data, observe, requests, secrets, versions
from database_operator.reconcile.act import act
from database_operator.reconcile.apply import FORMER_AGAIN, Refusal, apply, prune
from database_operator.reconcile.connections.base import Unreachable
from database_operator.reconcile.context import Blocked, Context, Memory, Pass
from database_operator.reconcile.finalize import finalize, vanished
from database_operator.reconcile.not_ready import not_ready
from database_operator.reconcile.publish import publish
from database_operator.reconcile.refresh import refresh
from database_operator.reconcile.returning import holders_first, marked, returning
from database_operator.reconcile.status import PATIENCE, Outcome, ready, stood
from database_operator.reconcile.steady import just_changed, rolls, steady, still_wanted
from database_operator.reconcile.views import DATABASE, DatabaseView
from database_operator.reconcile.wake import overlooked, wake

WORKLOADS = frozenset({"StatefulSet", "Deployment"})
HELD = WORKLOADS | {"ConfigMap", "PersistentVolumeClaim"}
MOVING = 2.0  # seconds until the next pass while an action goes on; events mostly come sooner
SOON = 0.2  # seconds until a member that has just become ready is looked at again
KNOWN_ANSWER = 6.0  # seconds that it may take where the Database was Ready before: nobody waits for it, and a probe ends after 5
ANSWER = 2.0  # seconds that such a member may take before it counts as ready all the same
RARELY = 30.0  # seconds between passes once a reason has stood so long that the phase is Failed
WAITING = 5.0  # seconds until the next pass while pods are not ready: what no event tells, as a reason that has stood too long


async def reconcile(ctx: Context, key: Key) -> Result:
    """Bring the Database at ``key`` one step nearer its spec.

    Raises what ``kube`` raises (the controller backs off); anything a user can mend becomes a condition instead.
    """
    view = ctx.stores.databases.get(*key)
    if view is None:
        return await vanished(ctx, key)
    memory = ctx.memory(key, view.metadata.uid)
    if view.metadata.deletion_timestamp:
        return await finalize(ctx, memory, stored(view))
    try:
        return await _living(ctx, memory, view)
    except _Gone:
        return Result(after=WAITING)


class _Gone(Exception):
    """The Database went after it was read; an event follows."""


async def _living(ctx: Context, memory: Memory, view: DatabaseView) -> Result:
    if view.metadata.annotations.get(c.RECONCILE) == "disabled":
        return await _paused(ctx, memory, view)
    try:
        database, engine = typed(ctx, view)
    except Blocked as blocked:
        return await _invalid(ctx, memory, view, blocked)
    if FINALIZER not in view.metadata.finalizers:
        memory.begun = stored(view)
    database = _as_told(memory, database)
    back = await returning(ctx, memory, database, engine)
    return await _bring(Pass(ctx, memory, back or database, engine, returning=back is not None))


def _as_told(memory: Memory, database: Resolved) -> Resolved:
    """The status as this process wrote it last, where the local copy has not seen that write yet."""
    told, seen = memory.told, database.metadata.resource_version
    behind = told is not None and seen.isdigit() and told.resource_version.isdigit() and int(seen) < int(told.resource_version)
    return msgspec.structs.replace(database, status=told.status) if told is not None and behind else database


def stored(view: DatabaseView) -> Stored:
    head = view.metadata
    metadata = Metadata(
        name=head.name,
        namespace=head.namespace,
        uid=head.uid,
        resource_version=head.resource_version,
        generation=head.generation,
        creation_timestamp=head.creation_timestamp,
        deletion_timestamp=head.deletion_timestamp,
        labels=head.labels,
        annotations=head.annotations,
        finalizers=head.finalizers,
    )
    return Stored(metadata=metadata, spec=view.spec, status=view.status)


def typed(ctx: Context, view: DatabaseView) -> tuple[Resolved, Engine]:
    """The Database with its defaults, and its engine. Raises Blocked(InvalidSpec) for what slipped past admission."""
    try:
        database = decode(stored(view))
    except msgspec.ValidationError as error:
        problem = explanation(error)
        raise Blocked(Reason.INVALID_SPEC, f"{problem.field}: {problem.message}", after=None) from error
    resolved = resolve(database)
    engine = ctx.engines[database.type]
    memory, generation = ctx.memory(view.metadata.key, view.metadata.uid), view.metadata.generation
    if memory.valid == generation:  # most of a pass at rest would be this judgement over again
        return resolved, engine
    found = problems(database) or engine.problems(resolved)
    if found:
        message = "; ".join(f"{problem.field}: {problem.message}" for problem in found[:5])
        raise Blocked(Reason.INVALID_SPEC, message, after=None)
    memory.valid = generation
    return resolved, engine


async def _bring(at: Pass) -> Result:
    ctx, memory, database = at.ctx, at.memory, at.database
    key = Key(database.namespace, database.name)
    failure: Exception | None = None
    after: float | None = None
    try:
        outcome, refusal = await _steps(at)
    except (Blocked, Invalid, Forbidden) as error:
        outcome, refusal = Outcome(observation=observe.observation(ctx, database, [])), error
    if isinstance(refusal, Blocked):
        outcome, after = msgspec.structs.replace(outcome, blocked=(refusal.reason, str(refusal))), refusal.after
    elif refusal is not None:
        if "NamespaceTerminating" in refusal.causes:  # nothing can be made there any more; the Database's own deletion follows
            return Result(after=WAITING)
        # What no retry mends by itself is shown; it is tried again all the same, for rights and policies change.
        why = (Reason.RECONCILIATION_FAILED, f"{refusal.reason}: {refusal.message}")
        outcome, failure = msgspec.structs.replace(outcome, blocked=why), refusal
    waited = _patience(ctx, memory, database, outcome)
    if _about_to_answer(ctx, memory, database, waited):
        ctx.probes.want(key, settled=False)
        return Result(after=SOON)
    written = await publish(at, waited)
    done = waited.growing is None and not any(member.outdated for member in waited.observation.members)
    settled = waited.action is None and (
        (written.phase is Phase.READY and done) or (written.phase is Phase.STOPPED and not waited.observation.members)
    )
    ctx.probes.want(key, settled=settled)
    if failure is not None:
        raise failure
    if after is not None or (settled and not overlooked(at)):
        return Result(after=after)
    slowly = waited.stands_for >= PATIENCE  # nothing but events will help it now
    return Result(after=MOVING if waited.action is not None else RARELY if slowly else WAITING)


def _about_to_answer(ctx: Context, memory: Memory, database: Resolved, outcome: Outcome) -> bool:
    """All members are ready and were not asked yet, by this process: their answer comes at once, and is told together with it."""
    asked = all(member.reached is not None for member in outcome.observation.members)
    fresh = not asked and not outcome.blocked and ready(database, outcome)
    patience = KNOWN_ANSWER if database.status.phase is Phase.READY else ANSWER
    return memory.stands("unasked", fresh, ctx.now()) < patience and fresh


def _patience(ctx: Context, memory: Memory, database: Resolved, outcome: Outcome) -> Outcome:
    """Since when the reason stands; a new operator goes on from what the status says of it."""
    if outcome.blocked is None:
        memory.not_ready = None
        return outcome
    reason = outcome.blocked[0].value
    if memory.not_ready is None:
        memory.not_ready = (reason, ctx.now() - stood(database.status, reason, datetime.datetime.now(datetime.UTC)))
    elif memory.not_ready[0] != reason:
        memory.not_ready = (reason, ctx.now())
    return msgspec.structs.replace(outcome, stands_for=ctx.now() - memory.not_ready[1])


async def _steps(at: Pass) -> tuple[Outcome, Refusal | None]:
    """Each step may raise Blocked; what was done before it stands. Gives also why a child was refused, the first of them.

    Without a Secret of the user's no members are made; those that run go on as they are, and are looked after.
    """
    ctx, database, engine = at.ctx, at.database, at.engine
    await _finalizer(ctx, database)
    missing: Blocked | None = None
    try:
        secret_versions, password = await secrets.user_secrets(at)
    except Blocked as blocked:
        if observe.workload(ctx, database) is None:
            raise
        secret_versions, password, missing = {}, None, blocked
    _former_gone(at)
    await data.admit(at)
    await secrets.ensure(at, password)
    answered = await requests.credentials(at)
    inputs = _inputs(at, secret_versions)
    children = engine.plan(database, inputs)
    if at.returning:
        children = marked(database, children)
    seen = observe.observation(ctx, database, children if missing is None else [])
    held = versions.held(database, engine, data.stored_claims(ctx, database), seen)
    if held is not None:  # the members stay as they are, with the files they read; all around them is looked after
        refused = await apply(at, [child for child in children if child["kind"] not in HELD])
        return Outcome(observation=seen, held=held, answered=answered), _first(refused)
    action = steady(at, seen, _next(ctx, database, engine, seen) or holders_first(at, seen))
    await still_wanted(ctx, database, action)
    growing = await claims.grow(ctx, database) if missing is None else None
    wanted = claims.adapted(ctx, database, children, action, hold=just_changed(at))
    refused = await apply(at, [child for child in wanted if missing is None or child["kind"] not in WORKLOADS])
    kept = await prune(at, children)
    await refresh(at, children, inputs.formed)
    await claims.keep_up(ctx, database, engine, seen)
    if action is not None:
        action = await _act(at, seen, Wait("what its pod is made of was refused") if rolls(action) and HELD & refused.keys() else action)
    action, moved = await requests.moves(at, seen, action)
    why = (missing.reason, str(missing)) if missing is not None else await not_ready(at, seen)
    refusal = at.memory.refusal if len(seen.members) < database.spec.replicas else None
    await wake(at, stuck=overlooked(at) or (refusal is not None and refusal[1] is not None))
    outcome = Outcome(
        observation=seen,
        blocked=why,
        action=action,
        update_pending=any(member.revision_outdated for member in seen.members),
        growing=growing,
        answered=answered + moved,
        storage=claims.in_force(ctx, database),
    )
    return outcome, _first(refused) or kept


def _first(refused: dict[str, Refusal]) -> Refusal | None:
    return next(iter(refused.values()), None)


def _former_gone(at: Pass) -> None:
    """Raise Blocked while the pod of a Deployment that is gone still ends: a file has one server. A StatefulSet's pods bear their names.

    Pods whose Deployment was only taken off them are younger than the Database, and are taken up again.
    """
    ctx, database = at.ctx, at.database
    if at.engine.workload != "Deployment" or observe.workload(ctx, database) is not None:
        return
    born = database.metadata.creation_timestamp or ""
    for pod in observe.pods(ctx, database):
        if pod.metadata.deletion_timestamp or (pod.metadata.creation_timestamp or "") < born:
            raise Blocked(Reason.CREATING, f"pod {pod.metadata.name} of the former workload is still ending", after=FORMER_AGAIN)


def _inputs(at: Pass, secret_versions: dict[str, str]) -> Inputs:
    ctx, database = at.ctx, at.database
    internal = at.memory.secrets.get(names.internal(database.name))
    formed = any(c.FORMED in claim.metadata.annotations for claim in data.stored_claims(ctx, database))
    pods = observe.pods(ctx, database)
    labelled = any(pod.metadata.labels.get(c.ROLE) == "primary" for pod in pods)
    return Inputs(
        platform=ctx.platform,
        internal=internal.values if internal else {},
        secret_versions=secret_versions,
        formed=formed,
        labelled=labelled,
        members=max(len(pods), database.spec.replicas),
    )


def _next(ctx: Context, database: Resolved, engine: Engine, seen: Observation) -> Action | None:
    """A pod of an old template that cannot become ready goes first: that is how reverting a bad change heals."""
    for pod in observe.pods(ctx, database):
        member = next((member for member in seen.members if member.pod == pod.metadata.name), None)
        old = member is not None and (member.outdated or member.revision_outdated)
        if member is not None and old and not member.was_ready and not member.terminating and blockers.stuck(pod):
            return Restart(member.pod, "it never became ready and its template is no longer wanted")
    if engine.topology is not None:
        return engine.topology(database, seen)
    outdated = [member.pod for member in seen.members if member.outdated]
    return Wait(f"the Deployment replaces {outdated[0]}") if outdated else None


async def _act(at: Pass, seen: Observation, action: Action) -> Action:
    try:
        await act(at, seen, action)
    except (Unreachable, TimeoutError) as error:
        return Wait(f"{type(action).__name__.lower()} not taken yet: {str(error) or 'no answer in time'}")
    if not isinstance(action, Wait):
        at.ctx.probes.event(Key(at.database.namespace, at.database.name))  # what the engine says now decides the next step
    return action


async def _finalizer(ctx: Context, database: Resolved) -> None:
    head = database.metadata
    if FINALIZER in head.finalizers:
        return
    patch = {"metadata": {"finalizers": [*head.finalizers, FINALIZER], "resourceVersion": head.resource_version, "uid": head.uid}}
    try:
        written = await ctx.client.patch(DATABASE, head.namespace, head.name, patch)
    except NotFound as error:
        raise _Gone from error
    await ctx.stores.databases.wait_for(Key(head.namespace, head.name), written.resource_version, 2.0)


async def _paused(ctx: Context, memory: Memory, view: DatabaseView) -> Result:
    """Hands off; the finalizer is set all the same, so that deletion keeps its promises."""
    try:
        database, engine = typed(ctx, view)
    except Blocked as blocked:
        return await _invalid(ctx, memory, view, blocked)
    await _finalizer(ctx, database)
    await publish(Pass(ctx, memory, database, engine), Outcome(observation=observe.observation(ctx, database, []), paused=True))
    return DONE


async def _invalid(ctx: Context, memory: Memory, view: DatabaseView, blocked: Blocked) -> Result:
    """A spec that cannot be read: said in the status, nothing touched, not tried again until it changes."""
    head = view.metadata
    document = stored(view)
    lenient = _lenient(document)
    if lenient is not None:
        engine = ctx.engines[lenient.type]
        seen = observe.observation(ctx, lenient, [])
        outcome = Outcome(observation=seen, blocked=(blocked.reason, str(blocked)))
        await publish(Pass(ctx, memory, lenient, engine), outcome)
        return DONE
    made = {
        "phase": Phase.FAILED.value,
        "observedGeneration": head.generation,
        "message": str(blocked),
    }
    current = msgspec.json.decode(view.status) if view.status else {}
    if all(current.get(field) == value for field, value in made.items()):
        return DONE
    manifest = {
        "apiVersion": DATABASE.api_version,
        "kind": DATABASE.kind,
        "metadata": {"name": head.name, "namespace": head.namespace, "uid": head.uid},
        "status": made,
    }
    await ctx.client.apply_status(DATABASE, manifest)
    return DONE


def _lenient(document: Stored) -> Resolved | None:
    """The Database with as much of its spec as has the right types, for the status alone."""
    try:
        return resolve(decode(document))
    except msgspec.ValidationError:
        raw = msgspec.json.decode(document.spec)
        kept = {name: raw[name] for name in ("type", "version", "replicas") if name in raw}
        try:
            return resolve(decode(msgspec.structs.replace(document, spec=msgspec.Raw(msgspec.json.encode(kept)))))
        except msgspec.ValidationError:
            return None
