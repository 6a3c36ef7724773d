"""PostgreSQL through Patroni's REST API: reads are open, changes need the password in ``<name>-internal``."""

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec

from database_operator.api.status import Role
from database_operator.build import constants as c
from database_operator.engines.base import Command, Member, Probe
from database_operator.reconcile.connections.base import Connection, Target, Unreachable

USER = "operator"
PROBE_SECONDS = 4.0
ANSWER_SECONDS = 1.5  # a change is taken at once; what it leads to is seen by the next probe
ROLES = {"primary": Role.PRIMARY, "replica": Role.REPLICA, "standby_leader": Role.REPLICA}


def _url(member: Member, path: str) -> str:
    host = member.ip or ""
    return f"http://{f'[{host}]' if ':' in host else host}:{c.AGENT_PORT}{path}"


async def _get(target: Target, member: Member, path: str) -> dict[str, Any]:
    timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS)
    try:
        async with target.session.get(_url(member, path), timeout=timeout, allow_redirects=False) as response:
            body = await response.read()
            if response.status != 200:
                raise Unreachable(f"Patroni on {member.pod} answered {response.status}")
            found: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
            return found
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
        raise Unreachable(f"Patroni on {member.pod} does not answer: {type(error).__name__}") from error


async def _change(target: Target, member: Member, method: str, path: str, body: Mapping[str, Any]) -> None:
    """Patroni answers some requests only when all is done: a late answer is none that matters."""
    password = target.internal.get("rest-password", "")
    try:
        async with target.session.request(
            method,
            _url(member, path),
            json=dict(body),
            headers={"Authorization": aiohttp.encode_basic_auth(USER, password)},
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
            allow_redirects=False,
        ) as response:
            if response.status >= 300:
                text = (await response.text())[:200]
                raise Unreachable(f"Patroni on {member.pod} refused {path}: {response.status} {text}")
    except TimeoutError:
        return
    except aiohttp.ClientError as error:
        raise Unreachable(f"Patroni on {member.pod} does not answer: {type(error).__name__}") from error


def server_version(number: int | None) -> str | None:
    """``17.2`` of 170002, as ``server_version_num`` counts since PostgreSQL 10."""
    return f"{number // 10000}.{number % 10000}" if number else None


def position(status: Mapping[str, Any]) -> int | None:
    """Bytes of WAL written (primary) or replayed (replica)."""
    places = status.get("xlog") or {}
    found = places.get("location", places.get("replayed_location"))
    return int(found) if found is not None else None


async def _primary_position(target: Target, member: Member) -> int | None:
    """None also of a primary that is on its way out: Patroni then takes connections and answers none."""
    candidates = (other for other in target.members if other.role_label == "primary" and other.pod != member.pod)
    primary = next((other for other in candidates if other.ip and not other.terminating), None)
    if primary is None:
        return None
    try:
        return position(await _get(target, primary, "/patroni"))
    except Unreachable:
        return None


async def _parameters(target: Target, member: Member) -> dict[str, dict[str, str]]:
    """``untaken``: what the server does not take, by name; ``durability``: what its files say of it. None where it cannot say."""
    try:
        answer = await _get(target, member, "/parameters")
    except Unreachable:
        answer = {}
    return {part: {str(name): str(text) for name, text in answer.get(part, {}).items()} for part in ("untaken", "durability")}


async def probe(target: Target, member: Member) -> Probe:
    """What ``member`` says of itself, its lag measured against the primary at the same moment. Raises Unreachable."""
    status, config, ahead, parameters = await asyncio.gather(
        _get(target, member, "/patroni"),
        _get(target, member, "/config"),
        _primary_position(target, member),
        _parameters(target, member),
    )
    running = status.get("state") == "running"
    role = ROLES.get(status.get("role", ""), Role.UNKNOWN) if running else Role.UNKNOWN
    here = position(status)
    behind = max(ahead - here, 0) if role is Role.REPLICA and ahead is not None and here is not None else None
    return Probe(
        role=role,
        version=server_version(status.get("server_version")),
        lag_bytes=behind,
        pending_restart=bool(status.get("pending_restart")),
        cluster_id=status.get("database_system_identifier"),
        facts={
            "config": config,
            "state": status.get("state"),
            "timeline": status.get("timeline"),
            "replication_state": status.get("replication_state"),
            "synchronous": bool(status.get("sync_standby") or status.get("quorum_standby")),
            **parameters,
            "pending": status.get("pending_restart_reason") or {},
        },
    )


async def command(target: Target, wanted: Command) -> None:
    """``configure`` changes the dynamic configuration; ``restart`` a server that waits for it; ``rebuild`` clones a replica anew."""
    member = target.member(wanted.pod)
    match wanted.name:
        case "configure":
            await _change(target, member, "PATCH", "/config", wanted.arguments["patch"])
        case "restart":
            await _change(target, member, "POST", "/restart", {"restart_pending": True})
        case "rebuild":
            await _change(target, member, "POST", "/reinitialize", {"force": True})
        case _:
            raise Unreachable(f"PostgreSQL has no command {wanted.name}")


async def switchover(target: Target, to: str) -> None:
    """Asks Patroni for a planned move. Nothing is asked where ``to`` is the primary already."""
    leader = (await _get(target, target.member(to), "/cluster")).get("members", [])
    primary = next((str(member["name"]) for member in leader if member.get("role") == "leader"), None)
    if primary is None:
        raise Unreachable("Patroni knows no leader: a planned move needs one")
    if primary != to:
        await _change(target, target.member(primary), "POST", "/switchover", {"leader": primary, "candidate": to})


CONNECTION = Connection(probe=probe, command=command, switchover=switchover)
