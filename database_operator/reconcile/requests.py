"""What annotations on a Database ask for once: a switchover, a member cloned anew, a new password.

Each pass judges a request anew from what it sees, so a process that died in the middle costs a repeat: a move to a pod
that leads is none, Patroni clones again, and a password is noted together with its request. A volume is thrown away
once: which one is noted on the workload first. One that cannot be done counts as done all the same, with a Warning:
nothing is tried for ever.
"""

import msgspec

from database_operator.api.database import Resolved
from database_operator.build import constants as c
from database_operator.build.requests import pending, pod
from database_operator.engines.base import Action, Engine, Handled, Observation, Refused, Verdict, Wait, Wipe
from database_operator.kube import resources as r
from database_operator.kube.errors import Forbidden, Invalid, NotFound
from database_operator.kube.objects import AnnotatedMeta, AnnotatedObject, Key, Object
from database_operator.reconcile import observe, secrets
from database_operator.reconcile.act import act, ask
from database_operator.reconcile.blockers import short
from database_operator.reconcile.connections.base import Unreachable
from database_operator.reconcile.context import Pass, Request
from database_operator.reconcile.status import Answered
from database_operator.reconcile.views import DATABASE

MOVES = ("switchover", "rebuild")
PATIENCE = 60.0  # seconds that a request may take to be carried out; a planned move takes a few, Sentinel's up to 20
FRESH = 1.0  # seconds in which members are asked anew before anything is decided: of a settled Database the answers are minutes old
CLONED = "{} is being cloned from the others"
AGAIN = 15.0  # seconds until an engine that took a request is asked once more; an election may take as long

Answers = tuple[Answered, ...]


def judge(database: Resolved, engine: Engine, seen: Observation, name: str, value: str) -> Verdict:
    """What to do about a ``switchover`` or ``rebuild``. Pure."""
    decide = {"switchover": engine.switchover, "rebuild": engine.rebuild}[name]
    wanted = pod(value)
    if decide is None:
        return Refused(f"{engine.title} has no {name}")
    if database.spec.replicas == 0:
        return Refused("the database is stopped")
    if not seen.members:
        return Wait("no member runs yet")
    member = next((member for member in seen.members if member.pod == wanted), None)
    if member is None:
        return Refused(f"there is no member of this name: {', '.join(member.pod for member in seen.members)} are there")
    if any(other.ready and other.reached is None for other in seen.members):
        return Wait("the members are being asked")
    return decide(database, seen, member)


async def credentials(at: Pass) -> Answers:
    """A new random password where one is asked for, in ``<name>-credentials``; the members follow it as they always do."""
    value = pending(at.database).get("credentialsRotatedAt")
    if value is None:
        return ()
    section = getattr(at.database.spec, at.engine.provider)
    if section is not None and section.password_secret is not None:
        why = f"the password is that of Secret {section.password_secret.name}: change it there"
        return (Answered(name="credentialsRotatedAt", value=value, note=why, refused=True),)
    try:
        await secrets.rotate(at, value)
    except Forbidden as error:
        why = f"the operator may not write Secrets: {short(error.message)}"
        return (Answered(name="credentialsRotatedAt", value=value, note=why, refused=True),)
    return (Answered(name="credentialsRotatedAt", value=value, note="a new password is in the Secret of the credentials"),)


async def moves(at: Pass, seen: Observation, action: Action | None) -> tuple[Action | None, Answers]:
    """Requests that concern a member, one at a time, and only while ``topology`` itself has nothing to carry out.

    Gives the action of this pass, which may be a request's, and the requests that are answered.
    """
    waiting = pending(at.database)
    answers: list[Answered] = []
    for name in MOVES:
        if name not in waiting:
            at.memory.requests.pop(name, None)
        elif action is None or isinstance(action, Wait):
            found = await _step(at, seen, name, waiting[name])
            if not isinstance(found, Answered):
                return found, tuple(answers)
            answers.append(found)
            at.memory.requests.pop(name, None)
    return action, tuple(answers)


async def _step(at: Pass, seen: Observation, name: str, value: str) -> Action | Answered:
    ctx, known = at.ctx, at.memory.requests
    if name not in known or known[name].value != value:
        if name == "rebuild" and at.engine.rebuild is not None and await _wiped_before(at, value):
            return Answered(name=name, value=value, note=CLONED.format(pod(value)))
        known[name] = Request(value, ctx.now())
    request = known[name]
    if ctx.now() - request.since < FRESH:
        ctx.probes.event(Key(at.database.namespace, at.database.name))
        return Wait("the members are being asked")
    verdict = judge(at.database, at.engine, seen, name, value)
    going = request.acted_at is not None and ctx.now() - request.acted_at < AGAIN
    tried = request.tried_at is not None and ctx.now() - request.tried_at < AGAIN
    match verdict:
        case Refused(why=why) if tried:  # a member on its way to lead is neither a replica in sync nor the primary
            return Wait(f"{name} goes on: {why}")
        case Refused(why=why):
            return Answered(name=name, value=value, note=why, refused=True)
        case Handled(note=note):
            idle = request.tried_at is None and at.database.status.primary == pod(value)  # nobody moved it there for this request
            return Answered(name=name, value=value, note=note, refused=idle)
    late = ctx.now() - request.since > PATIENCE
    if late:
        why = verdict.message if isinstance(verdict, Wait) else request.last or "the engine did not do it"
        return Answered(name=name, value=value, note=f"given up after {PATIENCE:.0f} s: {why}", refused=True)
    if isinstance(verdict, Wait) or going:
        return verdict
    request.tried_at = ctx.now()
    try:
        await _carry_out(at, seen, request, verdict, name)
    except (Unreachable, TimeoutError) as error:
        request.last = str(error) or "no answer in time"
        return Wait(f"{name} not taken yet: {request.last}")
    except (Forbidden, Invalid) as error:
        return Answered(name=name, value=value, note=short(error.message), refused=True)
    ctx.probes.event(Key(at.database.namespace, at.database.name))
    return Answered(name=name, value=value, note=CLONED.format(pod(value))) if name == "rebuild" else verdict


async def _carry_out(at: Pass, seen: Observation, request: Request, verdict: Action, name: str) -> None:
    """What throws data away rests on what every member says now, and all of it on the request as it stands now.

    Raises Unreachable where they say otherwise.
    """
    await _still_asked(at, name, request.value)
    if name == "rebuild":
        seen = await ask(at, seen)
        again = judge(at.database, at.engine, seen, name, request.value)
        if isinstance(again, Refused | Handled) or type(again) is not type(verdict):
            raise Unreachable(_why(again))
        verdict = again
    if isinstance(verdict, Wipe):
        await _note(at, request.value, verdict.pod)
    await act(at, seen, verdict)
    request.acted_at = at.ctx.now()


async def _note(at: Pass, value: str, member: str) -> None:
    """Whose volume is thrown away for this request: a process that comes after this one must not take the next one for it."""
    ctx, database = at.ctx, at.database
    view, found = ctx.stores.pods.get(database.namespace, member), observe.workload(ctx, database)
    claim = ctx.stores.claims.get(database.namespace, view.claim) if view is not None and view.claim else None
    if claim is None or found is None:
        raise Unreachable(f"the volume of {member} is not known")
    head = {"uid": found.metadata.uid, "annotations": {c.REBUILT: f"{claim.metadata.uid} {value}"}}
    await ctx.client.patch(r.STATEFUL_SET, database.namespace, found.metadata.name, {"metadata": head})


async def _wiped_before(at: Pass, value: str) -> bool:
    """Live: the volume that was noted for this request is no more."""
    ctx, database = at.ctx, at.database
    found = observe.workload(ctx, database)
    if found is None:
        return False
    try:
        live = await ctx.client.get(r.STATEFUL_SET, database.namespace, found.metadata.name, type=AnnotatedObject)
    except NotFound:
        return False
    uid, _, noted = live.metadata.annotations.get(c.REBUILT, "").partition(" ")
    selector = f"{c.DATA_OF}={database.name}"
    if noted != value:
        return False
    claims = await ctx.client.list(r.PERSISTENT_VOLUME_CLAIM, database.namespace, type=Object, label_selector=selector)
    return all(claim.metadata.uid != uid for claim in claims)


class _Handled(msgspec.Struct, frozen=True):
    requests: dict[str, str] = {}


class _Live(msgspec.Struct, frozen=True):
    """What of a Database a request rests on."""

    metadata: AnnotatedMeta
    status: _Handled = _Handled()


async def _still_asked(at: Pass, name: str, value: str) -> None:
    """Live: a late copy may show a request that another process has handled, or that was taken back."""
    database = at.database
    try:
        live = await at.ctx.client.get(DATABASE, database.namespace, database.name, type=_Live)
    except NotFound:
        raise Unreachable("the Database is gone") from None
    head = live.metadata
    stands = head.annotations.get(c.REQUESTS[name]) == value and live.status.requests.get(name) != value
    if head.uid != database.uid or head.deletion_timestamp or head.annotations.get(c.RECONCILE) == "disabled" or not stands:
        raise Unreachable("the Database has changed since it was read")


def _why(verdict: Verdict) -> str:
    match verdict:
        case Refused(why=why):
            return why
        case Wait(message=message) | Handled(note=message):
            return message
    return "the members say something else now"
