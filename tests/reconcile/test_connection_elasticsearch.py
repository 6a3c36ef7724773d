"""How the operator asks Elasticsearch, against a server over loopback that answers as 8.11 did."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from database_operator.api.database import Database, Metadata, resolve
from database_operator.api.spec import DatabaseSpec
from database_operator.api.status import Role
from database_operator.engines.base import Command, Member, Platform, Probe
from database_operator.reconcile.connections import elasticsearch
from database_operator.reconcile.connections.base import Target, Unreachable
from database_operator.reconcile.connections.elasticsearch import CONNECTION, Shard, shard_facts

ADDRESS = "127.0.0.78"  # of loopback's own range, so that the engine's fixed port is free
SPEC = {"type": "Elasticsearch", "version": "8.11.0"}
DATABASE = resolve(Database(metadata=Metadata(name="logs", namespace="shop", uid="u"), spec=msgspec.convert(SPEC, DatabaseSpec)))
POD = Member(pod="logs-0", ip=ADDRESS)


class Node:
    """Answers of one node; tests change what it holds."""

    def __init__(self) -> None:
        self.elected = True
        self.password = "right"
        self.health_status = 200
        self.persistent: dict[str, Any] = {"search.max_buckets": "1000", "cluster.routing.allocation.exclude._name": "logs-1,logs-2"}
        self.seen: list[tuple[str, str, Any]] = []
        self.refused_status = 400
        self.refuse: dict[str, Any] | None = None

    def login(self, request: web.Request) -> str | None:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        username, _, password = base64.b64decode(value).decode().partition(":") if scheme == "Basic" else ("", "", "")
        known = {"elastic": self.password, "database-operator": "internal"}
        return username if known.get(username) == password else None

    def get(self, path: str) -> Any:
        match path:
            case "/_nodes/_local/process":
                return {"nodes": {"n0": {"name": "logs-0", "version": "8.11.0", "roles": ["data", "master"]}}}
            case "/_cluster/settings":
                return {"persistent": self.persistent, "transient": {}}
            case "/_cat/shards":
                shards = [{"index": "i", "shard": "0", "prirep": "p", "state": "STARTED", "node": "logs-0"}]
                return [*shards, {"index": "i", "shard": "0", "prirep": "r", "state": "UNASSIGNED", "node": None}]
        if path.startswith("/_cluster/state/"):
            coordination = {
                "voting_config_exclusions": [{"node_id": "n2", "node_name": "logs-2"}],
                "last_committed_config": ["n0", "n1", "x"],
            }
            master = "n0" if self.elected else "n1"
            nodes = {
                "n0": {"name": "logs-0", "transport_address": f"{ADDRESS}:9300"},
                "n1": {"name": "logs-1", "transport_address": "[fd00::1]:9300"},
            }
            return {"cluster_uuid": "uuid-1", "master_node": master, "nodes": nodes, "metadata": {"cluster_coordination": coordination}}
        return {"status": "yellow", "relocating_shards": 1, "initializing_shards": 2, "more": 1}

    async def handle(self, request: web.Request) -> web.Response:
        user = self.login(request)
        if user is None:
            return web.json_response({"error": {"reason": "unable to authenticate"}}, status=401)
        if request.method != "GET":
            content = msgspec.json.decode(await request.read() or b"null")
            self.seen.append((request.method, request.path_qs, content))
            return web.json_response(self.refuse or {}, status=self.refused_status if self.refuse else 200)
        if request.path == "/_security/_authenticate":
            return web.json_response({"username": user})
        assert user == "database-operator"
        return web.json_response(self.get(request.path), status=self.health_status if request.path == "/_cluster/health" else 200)


def serving(node: Node, work: Callable[[Target], Awaitable[Any]], password: str = "right") -> Any:
    async def body() -> Any:
        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", node.handle)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, ADDRESS, 9200).start()
        try:
            async with aiohttp.ClientSession() as session:
                credentials, internal = {"password": password}, {"operator-password": "internal"}
                target = Target(
                    database=DATABASE,
                    platform=Platform(agent_image="a"),
                    session=session,
                    members=(POD,),
                    credentials=credentials,
                    internal=internal,
                )
                return await work(target)
        finally:
            await runner.cleanup()

    return asyncio.run(body())


def probe(node: Node, password: str = "right") -> Probe:
    found = serving(node, lambda target: CONNECTION.probe(target, POD), password)
    assert isinstance(found, Probe)
    return found


def command(node: Node, name: str, **arguments: Any) -> None:
    assert CONNECTION.command is not None
    run = CONNECTION.command
    serving(node, lambda target: run(target, Command(name, "logs-0", arguments)))


def test_the_elected_master_speaks_for_the_cluster() -> None:
    found = probe(Node())
    assert (found.role, found.version, found.cluster_id) == (Role.PRIMARY, "8.11.0", "uuid-1")
    assert found.facts == {
        "elected": True,
        "login": "taken",
        "status": "yellow",
        "addresses": {"logs-0": ADDRESS, "logs-1": "fd00::1"},
        "moving": 3,
        "settings": {"search.max_buckets": "1000"},
        "excluded": ("logs-1", "logs-2"),
        "voteless": ("logs-2",),
        "voting": ("logs-0", "logs-1"),
        "lonely": {"logs-0": ["i"]},
        "only": {"logs-0": ["i"]},
        "stranded": {},
        "lost": [],
    }


def test_another_node_speaks_for_itself() -> None:
    node = Node()
    node.elected = False
    found = probe(node)
    assert (found.role, found.facts) == (Role.REPLICA, {"elected": False, "login": "taken"})


def test_a_node_with_the_old_password_is_reached() -> None:
    assert probe(Node(), password="new").facts["login"] == "refused"


def test_without_a_majority_the_node_counts_as_silent() -> None:
    node = Node()
    node.health_status = 503
    with pytest.raises(Unreachable, match="HTTP 503"):
        probe(node)


def test_nobody_there() -> None:
    async def body() -> None:
        async with aiohttp.ClientSession() as session:
            target = Target(database=DATABASE, platform=Platform(agent_image="a"), session=session, members=(POD,))
            await elasticsearch.probe(target, POD)

    with pytest.raises(Unreachable, match="does not answer"):
        asyncio.run(body())


def test_commands() -> None:
    node = Node()
    command(node, "configure", settings={"a": "1", "b": None})
    command(node, "exclude", nodes=["logs-1", "logs-2"])
    command(node, "readmit")
    excluded = "cluster.routing.allocation.exclude._name"
    assert node.seen == [
        ("PUT", "/_cluster/settings", {"persistent": {"a": "1", "b": None}}),
        ("PUT", "/_cluster/settings", {"persistent": {excluded: "logs-1,logs-2"}}),
        ("POST", "/_cluster/voting_config_exclusions?node_names=logs-1,logs-2&timeout=1s", None),
        ("DELETE", "/_cluster/voting_config_exclusions?wait_for_removal=false", None),
        ("PUT", "/_cluster/settings", {"persistent": {excluded: None}}),
    ]


def test_a_refusal_gives_its_reason() -> None:
    node = Node()
    node.refuse = {"error": {"reason": "persistent setting [x], not recognized"}}
    with pytest.raises(Unreachable, match="not recognized"):
        command(node, "configure", settings={"x": "1"})
    with pytest.raises(Unreachable, match="knows no command"):
        command(node, "fly")


def shards(*lines: tuple[str, str, str | None]) -> tuple[Shard, ...]:
    return tuple(Shard(index=index, shard="0", prirep="p", state=state, node=node) for index, state, node in lines)


@pytest.mark.parametrize(
    ("found", "lonely", "stranded"),
    [
        ((), {}, {}),
        (shards(("a", "STARTED", "x"), ("a", "STARTED", "y")), {}, {}),
        (shards(("a", "STARTED", "x"), ("a", "UNASSIGNED", None)), {"x": ["a"]}, {}),
        (shards(("a", "STARTED", "x"), ("a", "INITIALIZING", "y")), {"x": ["a"]}, {}),
        (shards(("a", "INITIALIZING", "x"), ("a", "STARTED", "y")), {"y": ["a"]}, {"y": 1}),
        (shards(("a", "STARTED", "x")), {}, {}),
        (shards(("a", "STARTED", "y")), {}, {"y": 1}),
        (shards(("a", "STARTED", "y"), ("a", "STARTED", "z")), {}, {"y": 1, "z": 1}),
        (shards(("a", "RELOCATING", "y -> 10.0.0.2 n2 x"), ("a", "STARTED", "x")), {}, {}),
        (shards(("a", "RELOCATING", "y -> 10.0.0.2 n2 x")), {}, {"y": 1}),
        (shards(("a", "UNASSIGNED", None), ("a", "UNASSIGNED", None)), {}, {}),
    ],
    ids=[
        "empty",
        "two",
        "one missing",
        "one being built",
        "not there yet",
        "stays",
        "leaves",
        "both leave",
        "moves, one is there",
        "moves",
        "lost",
    ],
)
def test_e04_which_shards_are_lonely_or_stranded(found: tuple[Shard, ...], lonely: dict[str, list[str]], stranded: dict[str, int]) -> None:
    facts = shard_facts(found, frozenset({"y", "z"}))
    assert (facts["lonely"], facts["stranded"]) == (lonely, stranded)
    assert facts["lost"] == (["a"] if found and all(shard.state == "UNASSIGNED" for shard in found) else [])


@pytest.mark.parametrize(
    ("found", "only"),
    [
        ((), {}),
        (shards(("a", "STARTED", "x"), ("a", "STARTED", "y")), {}),
        (shards(("a", "STARTED", "x")), {"x": ["a"]}),
        (shards(("a", "STARTED", "x"), ("a", "UNASSIGNED", None)), {"x": ["a"]}),
        (shards(("a", "STARTED", "x"), ("a", "INITIALIZING", "y")), {"x": ["a"]}),
        (shards(("a", "RELOCATING", "y -> 10.0.0.2 n2 x")), {"y": ["a"]}),
        (shards(("a", "UNASSIGNED", None)), {}),
    ],
)
def test_a_node_with_the_only_copy_of_a_shard_is_known(found: tuple[Shard, ...], only: dict[str, list[str]]) -> None:
    assert shard_facts(found)["only"] == only


def test_e06_votes_that_cannot_be_given_up_or_back_now_are_asked_for_again() -> None:
    """503 while a master is elected, or while a removed node is still there: the pass says so, and the next one repeats it."""
    node = Node()
    node.refuse, node.refused_status = {"error": {"reason": "timed out waiting for voting config exclusions"}}, 503
    for name, arguments in (("exclude", {"nodes": ["logs-2"]}), ("readmit", {})):
        with pytest.raises(Unreachable, match="timed out waiting"):
            command(node, name, **arguments)
    node.refuse = None
    command(node, "readmit")
    assert [path.partition("?")[0] for _, path, _ in node.seen[-2:]] == ["/_cluster/voting_config_exclusions", "/_cluster/settings"]
