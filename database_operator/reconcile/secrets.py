"""The user's Secrets are read, ours are made: random values by POST only, so that nothing ever replaces a key to data."""

import base64
import contextlib
import secrets as random
from collections.abc import Mapping

from msgspec import Struct, field

from database_operator.api.database import Resolved
from database_operator.api.spec import SecretKeyRef
from database_operator.api.status import Reason
from database_operator.build import constants as c
from database_operator.build import names
from database_operator.build.manifest import data_metadata, digest
from database_operator.engines.base import Engine
from database_operator.kube import resources as r
from database_operator.kube.errors import AlreadyExists, Forbidden, NotFound
from database_operator.kube.objects import AnnotatedMeta, Key, Meta
from database_operator.reconcile.context import Blocked, Context, Memory, Pass, SecretData, UserSecret

LOOK_AGAIN = 10.0  # seconds until a missing Secret is looked for again
LONGEST_PASSWORD = 4096  # characters: it is copied several times into one Secret, of which there is 1 MiB, and URIs encode it
PASSWORD_BYTES = 24  # 32 characters of base64
WITH_MEMBERS = frozenset({"ro-host", "ro-uri", "sentinel-host", "sentinel-master"})  # keys of a login that come, and go again


class SecretObject(Struct, frozen=True):
    """A Secret as read by name."""

    metadata: AnnotatedMeta
    data: dict[str, str] = field(default_factory=dict)

    def values(self) -> dict[str, str]:
        """Those that are text; a user may keep a keystore beside the password."""
        found = {}
        for key, value in self.data.items():
            with contextlib.suppress(UnicodeDecodeError):
                found[key] = base64.b64decode(value).decode()
        return found


def references(database: Resolved, engine: Engine) -> dict[str, SecretKeyRef]:
    """The keys of the user's Secrets that the spec names, by the field that names them."""
    section = getattr(database.spec, engine.provider)
    found = {}
    if section is not None and section.password_secret is not None:
        found[f"spec.{engine.provider}.passwordSecret"] = section.password_secret
    for index, variable in enumerate(database.spec.env):
        if variable.value_from is not None:
            found[f"spec.env[{index}].valueFrom.secretKeyRef"] = variable.value_from.secret_key_ref
    return found


async def _read(ctx: Context, memory: Memory, namespace: str, name: str) -> Mapping[str, str] | None:
    """A user's Secret, at most one GET a resync period, and sooner while it is missing."""
    known = memory.user_secrets.get(name)
    if known is not None:
        fresh_for = LOOK_AGAIN if known.values is None else ctx.resync * 0.85
        if ctx.now() - known.read_at < fresh_for:
            return known.values
    try:
        values = (await ctx.client.get(r.SECRET, namespace, name, type=SecretObject)).values()
    except NotFound:
        values = None
    memory.user_secrets[name] = UserSecret(ctx.now(), values)
    return values


async def user_secrets(at: Pass) -> tuple[dict[str, str], str | None]:
    """What the spec refers to: ``<name>/<key>`` -> hash of the value, and the password, None where none is named.

    Raises Blocked(SecretNotFound) naming the field, the Secret and the key.
    """
    ctx, memory, database = at.ctx, at.memory, at.database
    versions: dict[str, str] = {}
    password = None
    for path, reference in references(database, at.engine).items():
        values = await _read(ctx, memory, database.namespace, reference.name)
        missing = f'{path}: Secret "{reference.name}" was not found in namespace "{database.namespace}"'
        if values is None:
            raise Blocked(Reason.SECRET_NOT_FOUND, f'{missing}; create it with the key "{reference.key}"', after=LOOK_AGAIN)
        value = values.get(reference.key)
        if not value:
            memory.user_secrets.pop(reference.name, None)
            problem = f'{path}: Secret "{reference.name}" has no text under the key "{reference.key}"; add it'
            raise Blocked(Reason.SECRET_NOT_FOUND, problem, after=LOOK_AGAIN)
        if path.endswith("passwordSecret"):
            if any(character in value for character in "\n\r\0"):
                problem = f'{path}: the value in Secret "{reference.name}" holds a line break or NUL; write it without'
                raise Blocked(Reason.SECRET_NOT_FOUND, problem, after=LOOK_AGAIN)
            if len(value) > LONGEST_PASSWORD:
                problem = f'{path}: the value in Secret "{reference.name}" is longer than {LONGEST_PASSWORD} characters; shorten it'
                raise Blocked(Reason.SECRET_NOT_FOUND, problem, after=LOOK_AGAIN)
            password = value
        else:
            versions[f"{reference.name}/{reference.key}"] = digest(value)
    return versions, password


async def ours(at: Pass, name: str) -> SecretData | None:
    """One of our Secrets, read again only when its version has changed; None where it is not, or no longer."""
    memory, namespace = at.memory, at.database.namespace
    informer = at.ctx.stores.children[r.SECRET]
    seen = informer.get(namespace, name)
    known = memory.secrets.get(name)
    if known is None and seen is None:
        return None  # a stranger's of this name is met by the POST
    if known is not None:
        if seen is not None and _not_newer(seen.metadata.resource_version, known.resource_version):
            return known
        if seen is None and not await informer.wait_for(Key(namespace, name), known.resource_version, 0.0):
            return known  # the copy has not seen our own write yet
    try:
        await take_up(at, name)
    except NotFound:
        lost = memory.secrets.pop(name, None)
        if lost is not None:
            memory.lost_secrets[name] = lost.values
        return None
    return memory.secrets[name]


def _not_newer(seen: str, known: str) -> bool:
    return int(seen) <= int(known) if seen.isdigit() and known.isdigit() else seen == known


async def ensure(at: Pass, password: str | None) -> None:
    """``<name>-internal`` and ``<name>-credentials`` exist and hold what they must; their values are then in ``memory``.

    One that was deleted by hand comes back as it was, while this process still knows it: data is locked with it.
    """
    ctx, memory, database, engine = at.ctx, at.memory, at.database, at.engine
    if engine.internal is not None:
        name = names.internal(database.name)
        existing = await ours(at, name)
        kept = existing.values if existing else memory.lost_secrets.get(name, {})
        missing = engine.internal(database, kept) | ({} if existing else dict(kept))
        await _put(at, name, existing, missing, kind="Opaque")
    name = names.credentials(database.name)
    existing = await ours(at, name)
    kept = existing.values if existing else memory.lost_secrets.get(name, {})
    password = password or kept.get("password") or random.token_urlsafe(PASSWORD_BYTES)
    wanted = engine.credentials(database, password, ctx.platform)
    changed: dict[str, str | None] = {key: value for key, value in wanted.items() if existing is None or existing.values.get(key) != value}
    changed |= dict.fromkeys(key for key in WITH_MEMBERS - wanted.keys() if existing is not None and key in existing.values)
    await _put(at, name, existing, changed, kind=f"servicebinding.io/{engine.provider}")


async def _put(at: Pass, name: str, existing: SecretData | None, values: Mapping[str, str | None], *, kind: str) -> None:
    """Create, or write only ``values`` into what exists; None takes a key away. On a create that meets another's the next pass reads it."""
    ctx, memory, database = at.ctx, at.memory, at.database
    if not values:
        return
    encoded = _encoded(values)
    try:
        if existing is None:
            head = data_metadata(database, name)
            written = await ctx.client.create(
                r.SECRET, {"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": head, "data": encoded}
            )
        else:
            patch = {"metadata": {"resourceVersion": existing.resource_version, "uid": existing.uid}, "data": encoded}
            written = await ctx.client.patch(r.SECRET, database.namespace, name, patch)
    except Forbidden as error:
        if existing is not None or not await _users_own(at, name):
            raise _refused(database, name, values, error) from error
    except AlreadyExists:
        await take_up(at, name)
    else:
        merged = (dict(existing.values) if existing else {}) | dict(values)
        kept = {key: value for key, value in merged.items() if value is not None}
        rotated = existing.rotated if existing else None
        memory.secrets[name] = SecretData(written.resource_version, written.uid, kept, rotated)
        return
    there = memory.secrets[name]
    await _put(at, name, there, {key: value for key, value in values.items() if key not in there.values}, kind=kind)


def _encoded(values: Mapping[str, str | None]) -> dict[str, str | None]:
    """As a Secret's ``data``; None takes a key away."""
    return {key: value if value is None else base64.b64encode(value.encode()).decode() for key, value in values.items()}


async def _users_own(at: Pass, name: str) -> bool:
    """Where the operator may not write Secrets the user makes them; the local copy shows only what carries our labels."""
    try:
        await take_up(at, name)
    except NotFound:
        return False
    return True


def _refused(database: Resolved, name: str, values: Mapping[str, str | None], error: Forbidden) -> Exception:
    """What the user can do about it: a quota is not a missing right."""
    if "exceeded quota" in error.message:
        return Blocked(Reason.QUOTA_EXCEEDED, f"Secret {name}: {error.message}", after=30.0)
    if "NamespaceTerminating" in error.causes:
        return error
    keys = ", ".join(sorted(values))
    label = f"the label {c.DATA_OF}={database.name}"
    message = f'the operator may not write Secret "{name}": create it with {label} and the keys {keys}, or grant the role for Secrets'
    return Blocked(Reason.SECRET_NOT_FOUND, message)


async def take_up(at: Pass, name: str) -> None:
    """Read a Secret of ours that was there before and mark it as of this Database. Raises as ``look`` does."""
    await keep(at, name, await look(at, name))


async def look(at: Pass, name: str) -> SecretObject:
    """A Secret of ours as it is; raises NotFound, and Blocked where it is somebody else's or another engine's."""
    ctx, database = at.ctx, at.database
    found = await ctx.client.get(r.SECRET, database.namespace, name, type=SecretObject)
    if found.metadata.labels.get(c.DATA_OF) != database.name:
        raise Blocked(
            Reason.NAME_CONFLICT,
            f'Secret "{name}" exists and is not this Database\'s: rename the Database or remove the Secret',
            after=30.0,
        )
    engine_of = found.metadata.annotations.get(c.ENGINE, database.type.value)  # one that a user made has none
    if engine_of != database.type.value:
        kept = f'Secret "{name}" keeps the login of a {engine_of} Database of this name'
        message = f"{kept}: delete it and the claims of its data, or choose another name"
        raise Blocked(Reason.DATA_CONFLICT, message, after=30.0)
    return found


async def keep(at: Pass, name: str, found: SecretObject) -> None:
    """Mark a Secret as of this very Database, where it may be written at all, and remember its values."""
    ctx, memory, database = at.ctx, at.memory, at.database
    head: Meta = found.metadata
    if found.metadata.annotations.get(c.DATABASE_UID) != database.uid:
        mark = {"metadata": {"annotations": {c.DATABASE_UID: database.uid}, "resourceVersion": head.resource_version, "uid": head.uid}}
        with contextlib.suppress(Forbidden):  # without the right to write Secrets they are the user's: nothing of ours deletes them
            head = await ctx.client.patch(r.SECRET, database.namespace, name, mark)
    memory.secrets[name] = SecretData(head.resource_version, head.uid, found.values(), found.metadata.annotations.get(c.ROTATED))


async def rotate(at: Pass, request: str) -> None:
    """A new random password in ``<name>-credentials``, once for one value of the request: it is noted in the same write.

    The members take it up as they take a changed ``passwordSecret``. Raises Forbidden where the operator may not write Secrets.
    """
    memory, database = at.memory, at.database
    name = names.credentials(database.name)
    known = memory.secrets[name]
    if known.rotated == request:
        return
    wanted = at.engine.credentials(database, random.token_urlsafe(PASSWORD_BYTES), at.ctx.platform)
    head = {"resourceVersion": known.resource_version, "uid": known.uid, "annotations": {c.ROTATED: request}}
    written = await at.ctx.client.patch(r.SECRET, database.namespace, name, {"metadata": head, "data": _encoded(wanted)})
    memory.secrets[name] = SecretData(written.resource_version, written.uid, dict(known.values) | wanted, request)
