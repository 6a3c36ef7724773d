"""The user's Secrets are read, ours are made: random values by POST only, so that nothing ever replaces a key to data."""

import base64
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
from database_operator.kube.objects import AnnotatedMeta, Key
from database_operator.reconcile.context import Blocked, Context, Memory, Pass, SecretData, UserSecret

LOOK_AGAIN = 10.0  # seconds until a missing Secret is looked for again
PASSWORD_BYTES = 24  # 32 characters of base64


class SecretObject(Struct, frozen=True):
    """A Secret as read by name."""

    metadata: AnnotatedMeta
    data: dict[str, str] = field(default_factory=dict)

    def values(self) -> dict[str, str]:
        """Decoded; raises UnicodeDecodeError for a value that is no text."""
        return {key: base64.b64decode(value).decode() for key, value in self.data.items()}


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
    except UnicodeDecodeError:
        raise Blocked(Reason.SECRET_NOT_FOUND, f'Secret "{name}" holds a value that is not UTF-8 text: write it as text') from None
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
            problem = f'{path}: Secret "{reference.name}" has no value under the key "{reference.key}"; add it'
            raise Blocked(Reason.SECRET_NOT_FOUND, problem, after=LOOK_AGAIN)
        if path.endswith("passwordSecret"):
            if any(character in value for character in "\n\r\0"):
                problem = f'{path}: the value in Secret "{reference.name}" holds a line break or NUL; write it without'
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
    changed = {key: value for key, value in wanted.items() if existing is None or existing.values.get(key) != value}
    await _put(at, name, existing, changed, kind=f"servicebinding.io/{engine.provider}")


async def _put(at: Pass, name: str, existing: SecretData | None, values: Mapping[str, str], *, kind: str) -> None:
    """Create, or write only ``values`` into what exists. On a create that meets another's the next pass reads it."""
    ctx, memory, database, engine = at.ctx, at.memory, at.database, at.engine
    if not values:
        return
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    try:
        if existing is None:
            head = data_metadata(database, name, engine.major(database.spec.version))
            written = await ctx.client.create(
                r.SECRET, {"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": head, "data": encoded}
            )
        else:
            patch = {"metadata": {"resourceVersion": existing.resource_version, "uid": existing.uid}, "data": encoded}
            written = await ctx.client.patch(r.SECRET, database.namespace, name, patch)
    except Forbidden as error:
        keys = ", ".join(sorted(values))
        message = (
            f'the operator may not write Secret "{name}": create it with the keys {keys}, or grant the role for Secrets ({error.reason})'
        )
        raise Blocked(Reason.SECRET_NOT_FOUND, message) from error
    except AlreadyExists:
        await take_up(at, name)
        there = memory.secrets[name]
        await _put(at, name, there, {key: value for key, value in values.items() if key not in there.values}, kind=kind)
        return
    base = dict(existing.values) if existing else {}
    memory.secrets[name] = SecretData(written.resource_version, written.uid, base | dict(values))


async def take_up(at: Pass, name: str) -> None:
    """Read a Secret of ours that was there before; raises Blocked where it is somebody else's or another engine's."""
    ctx, memory, database = at.ctx, at.memory, at.database
    found = await ctx.client.get(r.SECRET, database.namespace, name, type=SecretObject)
    if found.metadata.labels.get(c.DATA_OF) != database.name:
        raise Blocked(
            Reason.NAME_CONFLICT,
            f'Secret "{name}" exists and is not this Database\'s: rename the Database or remove the Secret',
            after=30.0,
        )
    engine_of = found.metadata.annotations.get(c.ENGINE)
    if engine_of != database.type.value:
        message = f'Secret "{name}" keeps the login of a {engine_of} Database of this name: delete it, or choose another name'
        raise Blocked(Reason.DATA_CONFLICT, message, after=30.0)
    if found.metadata.annotations.get(c.DATABASE_UID) != database.uid:
        mark = {"metadata": {"annotations": {c.DATABASE_UID: database.uid}, "resourceVersion": found.metadata.resource_version}}
        written = await ctx.client.patch(r.SECRET, database.namespace, name, mark)
        memory.secrets[name] = SecretData(written.resource_version, written.uid, found.values())
    else:
        memory.secrets[name] = SecretData(found.metadata.resource_version, found.metadata.uid, found.values())
