"""How the operator talks to SQLite's server."""

from typing import Any

import aiohttp
import msgspec

from database_operator.api.status import Role
from database_operator.engines.base import Command, Member, Probe
from database_operator.engines.sqlite.plan import PORT
from database_operator.reconcile.connections.base import Connection, Target, Unreachable


class Status(msgspec.Struct, frozen=True):
    """What the server says at ``/-/status``. ``settings`` is the hash of the settings it runs with."""

    version: str
    identity: str
    settings: str
    pragmas: dict[str, str]
    differing: list[str] = []


def _url(member: Member, path: str) -> str:
    if not member.ip:
        raise Unreachable(f"pod {member.pod} has no address yet")
    host = f"[{member.ip}]" if ":" in member.ip else member.ip
    return f"http://{host}:{PORT}{path}"


async def _request(target: Target, member: Member, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {target.credentials.get('password', '')}"}
    options: dict[str, Any] = {"headers": headers, "data": body.encode() if body is not None else None, "allow_redirects": False}
    try:
        async with target.session.request(method, _url(member, path), **options) as response:
            return response.status, await response.read()
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise Unreachable(f"pod {member.pod} does not answer: {type(error).__name__}") from None


async def probe(target: Target, member: Member) -> Probe:
    """Raises Unreachable. A server that does not know the token yet is reached: the kubelet still has to bring it."""
    status, body = await _request(target, member, "GET", "/-/status")
    if status == 401:
        return Probe(role=Role.PRIMARY, facts={"login": "refused"})
    if status != 200:
        raise Unreachable(f"pod {member.pod} answers with HTTP {status}")
    try:
        found = msgspec.json.decode(body, type=Status)
    except msgspec.DecodeError:
        raise Unreachable(f"pod {member.pod} answers, but not as SQLite's server does") from None
    facts = {"settings": found.settings, "pragmas": found.pragmas, "differing": found.differing}
    return Probe(role=Role.PRIMARY, version=found.version, cluster_id=found.identity, facts=facts)


async def command(target: Target, wanted: Command) -> None:
    """``configure``: put ``arguments["settings"]`` in force; a repeat changes nothing. Raises Unreachable."""
    if wanted.name != "configure":
        raise Unreachable(f"SQLite knows no command {wanted.name}")
    member = target.member(wanted.pod)
    status, body = await _request(target, member, "POST", "/-/configure", str(wanted.arguments["settings"]))
    if status != 200:
        raise Unreachable(f"pod {wanted.pod} did not take the settings: HTTP {status} {body[:200].decode('utf-8', 'replace')}")


CONNECTION = Connection(probe=probe, command=command)
