"""A replica set of several members in one process: the stand-in's rules, with time, elections, copies and cuts by hand.

No mongod is in it. A step is a second: heartbeats, then elections, then one round of copying.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from agent.mongodb.server import CommandFailed, Document, Login, Silent
from localcluster.standin_mongo import config_rules, rules
from localcluster.standin_mongo.connection import FIRST, OPEN, READS, WRITES
from localcluster.standin_mongo.errors import Refused
from localcluster.standin_mongo.parameters import Parameters

VERSION = "7.0.14"


@dataclass(frozen=True)
class Entry:
    """One write in the oplog."""

    term: int
    what: tuple[Any, ...]


@dataclass
class Disk:
    """What a member's volume holds."""

    kept: Document = field(default_factory=dict)
    oplog: list[Entry] = field(default_factory=list)


@dataclass
class View:
    """What heartbeats tell: ``rules.Peer``."""

    state: str
    last_write: int
    term_of_last_write: int


@dataclass
class Mongod:
    host: str
    disk: Disk
    node: rules.Node
    parameters: Parameters = field(default_factory=lambda: Parameters({}))
    up: bool = True

    @property
    def users(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for entry in self.disk.oplog:
            if entry.what[0] == "user":
                found[entry.what[1]] = entry.what[2]
        return found

    @property
    def defaults(self) -> Document:
        return next((dict(entry.what[1]) for entry in reversed(self.disk.oplog) if entry.what[0] == "defaults"), {})

    @property
    def last_term(self) -> int:
        return self.disk.oplog[-1].term if self.disk.oplog else 0

    def position(self) -> tuple[int, int]:
        return self.last_term, len(self.disk.oplog)


class World:
    """``cut`` holds pairs of hosts that do not hear each other; ``unknown`` names that DNS does not give yet."""

    def __init__(self, set_name: str = "rs0") -> None:
        self.set_name = set_name
        self.clock = 0.0
        self.members: dict[str, Mongod] = {}
        self.cut: set[frozenset[str]] = set()
        self.unknown: set[str] = set()
        self.sets: set[str] = set()  # every replicaSetId ever made
        self.committed: dict[tuple[int, tuple[Any, ...]], int] = {}  # writes that a majority has had -> step

    # machines

    def start(self, host: str, disk: Disk | None = None) -> None:
        disk = disk or Disk()

        def keep(kept: Document) -> None:
            disk.kept = copy.deepcopy(kept)

        node = rules.Node(
            self.set_name,
            lambda name: name == host and host not in self.unknown,
            lambda: self.clock,
            keep=keep,
            peer=lambda other: self._peer(host, other),
            caught_up=lambda other: self._caught_up(host, other),
            config_committed=lambda: self._config_committed(host),
        )
        node.load(disk.kept)
        mongod = Mongod(host, disk, node)
        self.members[host] = mongod
        self._settle_state(mongod)

    def stop(self, host: str) -> None:
        self.members[host].up = False

    def restart(self, host: str, *, wiped: bool = False) -> None:
        self.start(host, Disk() if wiped else self.members[host].disk)

    def _hears(self, one: str, other: str) -> bool:
        found = self.members.get(other)
        return (
            found is not None
            and found.up
            and self.members[one].up
            and frozenset((one, other)) not in self.cut
            and other not in self.unknown
        )

    def _peer(self, host: str, other: str) -> View | None:
        if not self._hears(host, other):
            return None
        found = self.members[other]
        return View(found.node.state, len(found.disk.oplog), found.last_term)

    def _caught_up(self, host: str, other: str) -> bool:
        mine, found = self.members[host], self.members.get(other)
        return self._hears(host, other) and found is not None and found.node.state == "SECONDARY" and found.position() == mine.position()

    def _config_committed(self, host: str) -> bool:
        config = self.members[host].node.config
        assert config is not None
        holding = 0
        for voter in config_rules.voters(config):
            found = self.members.get(voter["host"])
            theirs = found.node.config if found else None
            if theirs is not None and (theirs["term"], theirs["version"]) == (config["term"], config["version"]):
                holding += 1
        return holding >= config_rules.majority(config)

    # time

    def step(self) -> None:
        self.clock += 1
        self._heartbeats()
        self._abdicate()
        self._elect()
        self._copy()
        self._grown_up()
        self._commit()
        self.check()

    def check(self) -> None:
        """What must hold at any time."""
        assert len(self.sets) <= 1, f"more than one replica set was made: {self.sets}"
        leading = [(m.node.term, m.host) for m in self.members.values() if m.up and m.node.state == "PRIMARY"]
        for (term, host), (other_term, other) in pairwise(sorted(leading)):
            assert term != other_term, f"{host} and {other} are both primary in term {term}"

    def _settle_state(self, mongod: Mongod) -> None:
        node = mongod.node
        if node.config is None or node.state == "PRIMARY":
            return
        if node.mine is None:
            node.become("REMOVED")
        elif not mongod.disk.oplog:
            node.become("STARTUP2")
        else:
            node.become("SECONDARY", node.primary_host)

    def _heartbeats(self) -> None:
        for one in self.members.values():
            config = one.node.config
            if config is None or not one.up:
                continue
            for other in self.members.values():
                theirs = other.node.config
                known = any(member["host"] == other.host for member in config["members"]) or (
                    theirs is not None and any(member["host"] == one.host for member in theirs["members"])
                )
                if other is one or not known or not self._hears(one.host, other.host):
                    continue
                same = theirs is None or theirs["settings"]["replicaSetId"] == config["settings"]["replicaSetId"]
                if same and config_rules.newer(config, theirs):
                    if other.node.state == "PRIMARY" and one.node.term > other.node.term:
                        other.node.become("SECONDARY")
                    other.node.install(copy.deepcopy(config))
                    self._settle_state(other)
                if same and one.node.term > other.node.term:
                    if other.node.state == "PRIMARY":
                        other.node.become("SECONDARY")
                    other.node.term = one.node.term
                    other.node.save()
            self._settle_state(one)

    def _voters_heard(self, mongod: Mongod) -> list[Mongod]:
        config = mongod.node.config
        assert config is not None
        hosts = [voter["host"] for voter in config_rules.voters(config)]
        return [self.members[host] for host in hosts if host == mongod.host or self._hears(mongod.host, host)]

    def _abdicate(self) -> None:
        for mongod in self.members.values():
            config = mongod.node.config
            leads = mongod.up and mongod.node.state == "PRIMARY"
            if leads and config is not None and len(self._voters_heard(mongod)) < config_rules.majority(config):
                mongod.node.become("SECONDARY")

    def _elect(self) -> None:
        for mongod in sorted(self.members.values(), key=lambda m: (m.position(), m.host), reverse=True):
            node, config = mongod.node, mongod.node.config
            if not mongod.up or config is None or not node.may_stand():
                continue
            heard = self._voters_heard(mongod)
            if any(other.node.state == "PRIMARY" for other in heard):
                continue
            votes = [o for o in heard if o.node.config is not None and o.node.term <= node.term and o.position() <= mongod.position()]
            if mongod in votes and len(votes) >= config_rules.majority(config):
                for voter in votes:
                    voter.node.term = node.term + (0 if voter is mongod else 1)
                    voter.node.save()
                node.win()
                mongod.disk.oplog.append(Entry(node.term, ("new primary", mongod.host)))

    def _copy(self) -> None:
        leaders = [m for m in self.members.values() if m.up and m.node.state == "PRIMARY"]
        for mongod in self.members.values():
            node = mongod.node
            if not mongod.up or node.config is None or node.mine is None or node.state == "PRIMARY":
                continue
            heard = [leader for leader in leaders if self._hears(mongod.host, leader.host) and leader.node.term >= node.term]
            leader = max(heard, key=lambda m: m.node.term, default=None)
            inside = leader is not None and any(entry["host"] == mongod.host for entry in (leader.node.config or {}).get("members", ()))
            if leader is None or not inside:
                node.primary_host = None
                continue
            mongod.disk.oplog[:] = leader.disk.oplog  # a copy from the beginning, or a rollback, or the tail: the same in the end
            node.become("SECONDARY", leader.host)

    def _grown_up(self) -> None:
        """A member that was added gets its vote once it has the data, by a step of the primary's own."""
        for mongod in self.members.values():
            node, config = mongod.node, mongod.node.config
            if not mongod.up or node.state != "PRIMARY" or config is None or not self._config_committed(mongod.host):
                continue
            for member in config["members"]:
                found = self.members.get(member["host"])
                if member.get("newlyAdded") and found and self._hears(mongod.host, found.host) and found.node.state == "SECONDARY":
                    new = copy.deepcopy(config) | {"version": config["version"] + 1, "term": node.term}
                    for entry in new["members"]:
                        if entry["_id"] == member["_id"]:
                            entry.pop("newlyAdded")
                    node.install(new)
                    break

    def _commit(self) -> None:
        for mongod in self.members.values():
            config = mongod.node.config
            if not mongod.up or mongod.node.state != "PRIMARY" or config is None:
                continue
            voters = [self.members[v["host"]] for v in config_rules.voters(config) if v["host"] in self.members]
            for index, entry in enumerate(mongod.disk.oplog):
                holding = sum(1 for voter in voters if len(voter.disk.oplog) > index and voter.disk.oplog[index] == entry)
                if entry.term == mongod.node.term and holding >= config_rules.majority(config):
                    self.committed.setdefault((entry.term, entry.what), int(self.clock))

    def primary(self) -> Mongod | None:
        leading = [m for m in self.members.values() if m.up and m.node.state == "PRIMARY"]
        return max(leading, key=lambda m: m.node.term, default=None)

    def insert(self, what: str) -> bool:
        """A client's write to whoever leads. Whether it lasts shows in ``committed``."""
        found = self.primary()
        if found is not None:
            found.disk.oplog.append(Entry(found.node.term, ("insert", what)))
        return found is not None

    def lost(self) -> list[tuple[Any, ...]]:
        """Committed writes that the primary does not have."""
        found = self.primary()
        have = {(entry.term, entry.what) for entry in found.disk.oplog} if found else set()
        return [what for term, what in self.committed if (term, what) not in have]

    # clients

    def run(self, host: str, command: Mapping[str, Any], login: Login | None = None) -> Document:
        mongod = self.members.get(host)
        if mongod is None or not mongod.up:
            raise Silent("mongod does not answer")
        try:
            return self._run(mongod, dict(command), login)
        except Refused as error:
            raise CommandFailed(error.code, str(error)) from error

    def _run(self, mongod: Mongod, command: Document, login: Login | None) -> Document:
        name = next(iter(command))
        if login is not None and mongod.users.get(login.username) != login.password:
            raise Refused(18, "Authentication failed.")
        allowed = login is not None or name in OPEN or (name in FIRST and not mongod.users)
        if not allowed:
            raise Refused(13, f"Command {name} requires authentication")
        if name in WRITES and mongod.node.state != "PRIMARY":
            raise Refused(10107, "not primary")
        if name in READS and mongod.node.state not in ("PRIMARY", "SECONDARY"):
            raise Refused(13436, "node is not in primary or recovering state")
        if name in rules.COMMANDS:
            reply = mongod.node.command(name, command)
            if name == "replSetInitiate":
                assert mongod.node.config is not None
                self.sets.add(str(mongod.node.config["settings"]["replicaSetId"]))
                mongod.disk.oplog.append(Entry(1, ("initiating set",)))
            return reply
        return self._server(mongod, name, command)

    def _server(self, mongod: Mongod, name: str, command: Document) -> Document:
        match name:
            case "hello":
                return mongod.node.hello()
            case "buildInfo":
                return {"version": VERSION}
            case "getParameter":
                return mongod.parameters.get(command)
            case "setParameter":
                return mongod.parameters.set(command)
            case "serverStatus":
                return {"wiredTiger": {"cache": {"maximum bytes configured": mongod.parameters.cache_bytes}}}
            case "profile":
                mongod.parameters.slow_ms = int(command.get("slowms", mongod.parameters.slow_ms))
                return {"was": 0, "slowms": mongod.parameters.slow_ms}
            case _:
                return self._replicated(mongod, name, command)

    def _replicated(self, mongod: Mongod, name: str, command: Document) -> Document:
        """Users and defaults live in the data, and so on every member."""
        match name:
            case "connectionStatus":
                return {"ok": 1.0}
            case "createUser":
                if command["createUser"] in mongod.users:
                    raise Refused(51003, f'User "{command["createUser"]}@admin" already exists')
                self._write(mongod, ("user", command["createUser"], command["pwd"]))
            case "updateUser":
                self._write(mongod, ("user", command["updateUser"], command["pwd"]))
            case "usersInfo":
                wanted = command["usersInfo"]["user"]
                return {"users": [{"user": wanted}] if wanted in mongod.users else []}
            case "getDefaultRWConcern":
                chosen = mongod.defaults
                return {"defaultWriteConcernSource": "global" if chosen else "implicit", "defaultWriteConcern": chosen}
            case "setDefaultRWConcern":
                self._write(mongod, ("defaults", tuple(sorted(command["defaultWriteConcern"].items()))))
            case _:
                raise Refused(59, f"no such command: '{name}'")
        return {"ok": 1.0}

    def _write(self, mongod: Mongod, what: tuple[Any, ...]) -> None:
        mongod.disk.oplog.append(Entry(mongod.node.term, what))
