"""How the operator talks to Elasticsearch: plain HTTP, as its own user, which the nodes read from ``<name>-internal``."""

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

import aiohttp
import msgspec
from msgspec import Struct, field

from database_operator.api.status import Role
from database_operator.engines.base import Command, Member, Probe
from database_operator.engines.elasticsearch import USERNAME
from database_operator.engines.elasticsearch.config import PORT
from database_operator.engines.elasticsearch.identity import OPERATOR_PASSWORD
from database_operator.engines.elasticsearch.topology import ordinal
from database_operator.reconcile.connections.base import Connection, Target, Unreachable

T = TypeVar("T")

OPERATOR = "database-operator"
EXCLUDED = "cluster.routing.allocation.exclude._name"
STATE = (
    "/_cluster/state/master_node,nodes,metadata/database-operator-none?local=true&ignore_unavailable=true"
    "&filter_path=cluster_uuid,master_node,nodes.*.name,nodes.*.transport_address"
    ",metadata.cluster_coordination.voting_config_exclusions,metadata.cluster_coordination.last_committed_config"
)
MOST_BYTES = 16 * 2**20  # of an answer; the list of shards is the longest


class Node(Struct, frozen=True):
    name: str
    version: str
    roles: tuple[str, ...] = ()


class Nodes(Struct, frozen=True):
    nodes: dict[str, Node]


class Exclusion(Struct, frozen=True):
    node_name: str


class Coordination(Struct, frozen=True):
    voting_config_exclusions: tuple[Exclusion, ...] = ()
    last_committed_config: tuple[str, ...] = ()  # node ids


class StateMetadata(Struct, frozen=True):
    cluster_coordination: Coordination = Coordination()


class StateNode(Struct, frozen=True):
    """``transport_address``: ``10.0.0.1:9300`` or ``[fd00::1]:9300``."""

    name: str
    transport_address: str

    @property
    def address(self) -> str:
        return self.transport_address.rpartition(":")[0].strip("[]")


class State(Struct, frozen=True):
    cluster_uuid: str = "_na_"
    master_node: str | None = None
    nodes: dict[str, StateNode] = field(default_factory=dict)
    metadata: StateMetadata = StateMetadata()


class Health(Struct, frozen=True):
    status: str
    relocating_shards: int = 0
    initializing_shards: int = 0


class Settings(Struct, frozen=True):
    persistent: dict[str, Any] = field(default_factory=dict)


class Shard(Struct, frozen=True):
    """A line of ``_cat/shards``. ``node`` is a name; of a relocating shard ``from -> ip id to``."""

    index: str
    shard: str
    prirep: str
    state: str
    node: str | None = None

    @property
    def holder(self) -> str:
        return (self.node or "").split(" ")[0]


def _url(member: Member, path: str) -> str:
    if not member.ip:
        raise Unreachable(f"pod {member.pod} has no address yet")
    host = f"[{member.ip}]" if ":" in member.ip else member.ip
    return f"http://{host}:{PORT}{path}"


async def _request(
    target: Target, member: Member, method: str, path: str, content: Any = None, *, username: str = OPERATOR
) -> tuple[int, bytes]:
    """As the operator, or as the users' own login."""
    password = target.internal.get(OPERATOR_PASSWORD, "") if username == OPERATOR else target.credentials.get("password", "")
    headers = {"Authorization": aiohttp.encode_basic_auth(username, password, "utf-8")}
    body = None
    if content is not None:
        body = msgspec.json.encode(content)
        headers["Content-Type"] = "application/json"
    try:
        async with target.session.request(method, _url(member, path), headers=headers, data=body, allow_redirects=False) as response:
            answer = bytearray()
            async for chunk in response.content.iter_any():
                answer += chunk
                if len(answer) > MOST_BYTES:
                    raise Unreachable(f"pod {member.pod} gives a longer answer to {path.partition('?')[0]} than is read")
            return response.status, bytes(answer)
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise Unreachable(f"pod {member.pod} does not answer: {type(error).__name__}") from None


def _reason(body: bytes) -> str:
    """What Elasticsearch gives as reason, for a person."""
    try:
        error = msgspec.json.decode(body).get("error", {})
        return str(error.get("reason", error))[:300] if isinstance(error, dict) else str(error)[:300]
    except (msgspec.DecodeError, AttributeError):
        return "no reason given"


async def _ask(target: Target, member: Member, path: str, type_: type[T]) -> T:
    status, body = await _request(target, member, "GET", path)
    if status != 200:
        raise Unreachable(f"pod {member.pod} answers {path.partition('?')[0]} with HTTP {status}: {_reason(body)}")
    try:
        return msgspec.json.decode(body, type=type_)
    except msgspec.DecodeError:
        raise Unreachable(f"pod {member.pod} answers {path.partition('?')[0]}, but not as Elasticsearch does") from None


async def _login(target: Target, member: Member) -> str:
    """Whether the node takes the password of ``<name>-credentials``."""
    status, _ = await _request(target, member, "GET", "/_security/_authenticate", username=USERNAME)
    return "refused" if status == 401 else "taken"


def shard_facts(shards: tuple[Shard, ...], leaving: frozenset[str] = frozenset()) -> dict[str, Any]:
    """``lonely``: node -> indices whose only started copy of several it holds; ``only``: the same, and those that are to have one copy.
    ``stranded``: leaving node -> number of shards that have no started copy on a node that stays; a second copy that finds no place
    there does not hold the node back. ``lost``: indices of which a shard has no started copy at all.
    """
    copies: dict[tuple[str, str], list[Shard]] = {}
    for shard in shards:
        copies.setdefault((shard.index, shard.shard), []).append(shard)
    lonely: dict[str, set[str]] = {}
    only: dict[str, set[str]] = {}
    stranded: dict[str, int] = {}
    lost: set[str] = set()
    for (index, _), group in copies.items():
        started = [shard for shard in group if shard.state in ("STARTED", "RELOCATING")]
        if not started:
            lost.add(index)
        if len(started) == 1:
            only.setdefault(started[0].holder, set()).add(index)
        if len(group) > 1 and len(started) == 1:
            lonely.setdefault(started[0].holder, set()).add(index)
        if all(shard.holder in leaving for shard in started):
            for shard in started:
                stranded[shard.holder] = stranded.get(shard.holder, 0) + 1
    return {"lonely": _sorted(lonely), "only": _sorted(only), "stranded": dict(sorted(stranded.items())), "lost": sorted(lost)}


def _sorted(found: Mapping[str, set[str]]) -> dict[str, list[str]]:
    return {node: sorted(indices) for node, indices in sorted(found.items())}


def _flat(value: Any) -> str:
    return ",".join(str(part) for part in value) if isinstance(value, list) else str(value)


async def _cluster_facts(target: Target, member: Member, state: State) -> dict[str, Any]:
    """What only the elected master is asked: it speaks for the cluster."""
    health, settings, shards = await asyncio.gather(
        _ask(target, member, "/_cluster/health?timeout=1s", Health),
        _ask(target, member, "/_cluster/settings?flat_settings=true", Settings),
        _ask(target, member, "/_cat/shards?format=json&h=index,shard,prirep,state,node", tuple[Shard, ...]),
    )
    persistent = {name: _flat(value) for name, value in sorted(settings.persistent.items())}
    excluded = persistent.pop(EXCLUDED, "")
    coordination = state.metadata.cluster_coordination
    leaving = frozenset(one.pod for one in target.members if ordinal(one) >= target.database.spec.replicas)
    return shard_facts(shards, leaving) | {
        "status": health.status,
        "addresses": {node.name: node.address for node in sorted(state.nodes.values(), key=lambda node: node.name)},
        "moving": health.relocating_shards + health.initializing_shards,
        "settings": persistent,
        "excluded": tuple(name for name in excluded.split(",") if name),
        "voteless": tuple(sorted(one.node_name for one in coordination.voting_config_exclusions)),
        "voting": tuple(sorted(state.nodes[id_].name for id_ in coordination.last_committed_config if id_ in state.nodes)),
    }


async def probe(target: Target, member: Member) -> Probe:
    """The node's own view, and the cluster's where it is the elected master. Raises Unreachable."""
    nodes, state, login = await asyncio.gather(
        _ask(target, member, "/_nodes/_local/process?filter_path=nodes.*.name,nodes.*.version,nodes.*.roles", Nodes),
        _ask(target, member, STATE, State),
        _login(target, member),
    )
    if len(nodes.nodes) != 1:
        raise Unreachable(f"pod {member.pod} does not say which node it is")
    ((node_id, node),) = nodes.nodes.items()
    elected = state.master_node == node_id
    facts: dict[str, Any] = {"elected": elected, "login": login}
    if elected:
        facts |= await _cluster_facts(target, member, state)
    cluster_id = state.cluster_uuid if state.cluster_uuid != "_na_" else None
    role = Role.PRIMARY if elected else Role.REPLICA
    return Probe(role=role, version=node.version, lag_bytes=0, cluster_id=cluster_id, facts=facts)  # a copy that lags is no copy in sync


async def _change(target: Target, member: Member, method: str, path: str, content: Any = None) -> None:
    status, body = await _request(target, member, method, path, content)
    if status != 200:
        raise Unreachable(f"pod {member.pod} refuses: {_reason(body)}")


async def command(target: Target, wanted: Command) -> None:
    """``configure`` {settings}, ``exclude`` {nodes}, ``readmit``; each may be repeated. Raises Unreachable with the reason given."""
    member = target.member(wanted.pod)
    arguments: Mapping[str, Any] = wanted.arguments
    match wanted.name:
        case "configure":
            await _change(target, member, "PUT", "/_cluster/settings", {"persistent": dict(arguments["settings"])})
        case "exclude":
            names = ",".join(arguments["nodes"])
            await _change(target, member, "PUT", "/_cluster/settings", {"persistent": {EXCLUDED: names}})
            await _change(target, member, "POST", f"/_cluster/voting_config_exclusions?node_names={names}&timeout=1s")
        case "readmit":
            await _change(target, member, "DELETE", "/_cluster/voting_config_exclusions?wait_for_removal=false")
            await _change(target, member, "PUT", "/_cluster/settings", {"persistent": {EXCLUDED: None}})
        case _:
            raise Unreachable(f"Elasticsearch knows no command {wanted.name}")


CONNECTION = Connection(probe=probe, command=command)
