"""How the operator talks to MongoDB: through the sidecar of each member, which carries the driver."""

from typing import Any

import aiohttp
import msgspec
from msgspec import Struct, field

from database_operator.api.status import Role
from database_operator.build import constants as c
from database_operator.engines.base import Command, Member, Probe
from database_operator.engines.mongodb import config
from database_operator.reconcile.connections.base import Connection, Target, Unreachable

COMMANDS = frozenset({"initiate", "add-member", "remove-member", "add-vote", "configure"})
FREEZE_SECONDS = 30  # as long as an election may take
CURRENT_SECONDS = 10.0  # a secondary that is no further behind counts as current
_ROLES = {"PRIMARY": Role.PRIMARY, "SECONDARY": Role.REPLICA, "ARBITER": Role.ARBITER}
_PARAMETERS = ",".join(sorted(live.parameter for live in config.LIVE.values()))


class Status(Struct, frozen=True, rename="camel"):
    """What the sidecar says at ``/status``."""

    state: str
    self: str
    users: bool
    version: str | None = None
    set_id: str | None = None
    config: list[dict[str, Any]] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    lag_seconds: float | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    complaint: str | None = None


async def _request(target: Target, member: Member, method: str, path: str, body: Any = None) -> bytes:
    if not member.ip:
        raise Unreachable(f"pod {member.pod} has no address yet")
    host = f"[{member.ip}]" if ":" in member.ip else member.ip
    url = f"http://{host}:{c.AGENT_PORT}{path}"
    headers = {"Authorization": f"Bearer {target.internal.get('agent-token', '')}"}
    data = None if body is None else msgspec.json.encode(body)
    try:
        async with target.session.request(method, url, headers=headers, data=data, allow_redirects=False) as response:
            answer = await response.read()
            if response.status == 200:
                return answer
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise Unreachable(f"pod {member.pod} does not answer: {type(error).__name__}") from None
    raise Unreachable(f"pod {member.pod} answers HTTP {response.status}: {_message(answer)}")


def _message(answer: bytes) -> str:
    try:
        return str(msgspec.json.decode(answer, type=dict[str, Any]).get("message", ""))[:300]
    except msgspec.DecodeError:
        return ""


def _lag_bytes(found: Status) -> int | None:
    """The oplog is measured in time: no more than a moment behind is 0 bytes; further back there is no number of them."""
    if found.state == "PRIMARY":
        return 0
    return 0 if found.lag_seconds is not None and found.lag_seconds <= CURRENT_SECONDS else None


def answer(found: Status) -> Probe:
    """What a member says of itself, for ``topology`` to read."""
    facts = {
        "state": found.state,
        "self": found.self,
        "setId": found.set_id,
        "users": found.users,
        "config": found.config,
        "states": found.states,
        "parameters": found.parameters,
        "complaint": found.complaint,
    }
    role = _ROLES.get(found.state, Role.UNKNOWN)
    return Probe(role=role, version=found.version, lag_bytes=_lag_bytes(found), cluster_id=found.set_id, facts=facts)


async def probe(target: Target, member: Member) -> Probe:
    """Raises Unreachable."""
    body = await _request(target, member, "GET", f"/status?parameters={_PARAMETERS}")
    try:
        return answer(msgspec.json.decode(body, type=Status))
    except msgspec.DecodeError:
        raise Unreachable(f"pod {member.pod} answers, but not as MongoDB's sidecar does") from None


async def command(target: Target, wanted: Command) -> None:
    """Carried out by the sidecar of ``wanted.pod``, which looks first: a repeat changes nothing. Raises Unreachable."""
    if wanted.name not in COMMANDS:
        raise Unreachable(f"MongoDB knows no command {wanted.name}")
    await _request(target, target.member(wanted.pod), "POST", f"/{wanted.name}", dict(wanted.arguments))


async def switchover(target: Target, to: str) -> None:
    """Ask the primary to step down, with the other secondaries held back. The members elect. Raises Unreachable."""
    primary = next((member for member in target.members if member.role is Role.PRIMARY), None)
    if primary is None or primary.pod == to:
        return
    for member in target.members:
        if member.pod not in (to, primary.pod) and member.role is Role.REPLICA:
            await _request(target, member, "POST", "/freeze", {"seconds": FREEZE_SECONDS})
    await _request(target, primary, "POST", "/step-down", {})


CONNECTION = Connection(probe=probe, command=command, switchover=switchover)
