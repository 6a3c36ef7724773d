"""One member of a replica set by mongod's rules: what it answers in which state. Time and peers come from outside.

The front gives it no peers; the simulator gives it several. What mongod keeps on disk goes through ``keep``.
"""

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from bson import Int64, ObjectId, Timestamp

from . import config_rules
from .config_rules import Document
from .errors import Refused

STATES = {
    "STARTUP": 0,
    "PRIMARY": 1,
    "SECONDARY": 2,
    "RECOVERING": 3,
    "STARTUP2": 5,
    "UNKNOWN": 6,
    "ARBITER": 7,
    "DOWN": 8,
    "ROLLBACK": 9,
    "REMOVED": 10,
}
COMMANDS = frozenset(
    {"replSetInitiate", "replSetGetStatus", "replSetGetConfig", "replSetReconfig", "replSetStepDown", "replSetFreeze", "replSetStepUp"}
)


class Peer(Protocol):
    """What heartbeats tell of another member."""

    state: str
    last_write: int  # position of its last write; the unit is the member's own
    term_of_last_write: int


@dataclass
class Node:
    """``set_name`` is the command line's; ``host`` the name it has in the configuration, once there is one."""

    set_name: str
    is_self: Callable[[str], bool]
    now: Callable[[], float]  # seconds; only differences count
    keep: Callable[[Document], None] = lambda kept: None
    peer: Callable[[str], Peer | None] = lambda host: None  # None: does not answer
    caught_up: Callable[[str], bool] = lambda host: False  # whether a peer has every write of this node
    config_committed: Callable[[], bool] = lambda: True  # the configuration in force reached a majority
    process_id: ObjectId = field(default_factory=ObjectId)
    config: Document | None = None
    term: int = 0
    state: str = "STARTUP"
    frozen_until: float = 0.0
    stepped_down_until: float = 0.0
    primary_host: str | None = None
    counter: int = 0  # of hello's topologyVersion
    last_write: int = 0
    reconfiguring: bool = False

    # what is kept

    def load(self, kept: Mapping[str, Any]) -> None:
        """Come up with what was kept; the name is looked for as mongod looks for itself in its configuration."""
        self.config = kept.get("config")
        self.term = int(kept.get("term", 0))
        if self.config is not None:
            self.state = "SECONDARY" if self.mine else "REMOVED"

    def save(self) -> None:
        self.keep({"config": self.config, "term": self.term})

    @property
    def mine(self) -> Document | None:
        """This node's entry in the configuration."""
        if self.config is None:
            return None
        return next((member for member in self.config["members"] if self.is_self(member["host"])), None)

    def become(self, state: str, primary: str | None = None) -> None:
        if (state, primary) != (self.state, self.primary_host):
            self.state, self.primary_host = state, primary
            self.counter += 1

    def install(self, config: Document) -> None:
        """Take up a configuration, from a command or a heartbeat."""
        self.config = config
        self.counter += 1
        self.save()
        if self.mine is None:
            self.become("REMOVED")

    # what it answers

    def hello(self) -> Document:
        """The replica set's part of ``hello``: src/mongo/db/repl/hello_response.cpp."""
        version = {"topologyVersion": {"processId": self.process_id, "counter": Int64(self.counter)}}
        mine = self.mine
        if self.config is None or mine is None:
            none = {"isreplicaset": True, "info": "Does not have a valid replica set config"}
            return version | {"isWritablePrimary": False, "ismaster": False, "secondary": False} | none
        visible = [member for member in self.config["members"] if not member["hidden"]]
        reply: Document = version | {
            "hosts": [member["host"] for member in visible if member["priority"] > 0 and not member["arbiterOnly"]],
            "passives": [member["host"] for member in visible if member["priority"] == 0 and not member["arbiterOnly"]],
            "arbiters": [member["host"] for member in visible if member["arbiterOnly"]],
            "setName": self.set_name,
            "setVersion": self.config["version"],
            "isWritablePrimary": self.state == "PRIMARY",
            "ismaster": self.state == "PRIMARY",
            "secondary": self.state == "SECONDARY",
            "me": mine["host"],
        }
        if self.primary_host:
            reply["primary"] = self.primary_host
        if self.state == "PRIMARY":
            reply["electionId"] = ObjectId(f"7fffffff{self.term:016x}")
        return reply

    def command(self, name: str, document: Mapping[str, Any]) -> Document:
        """One of ``COMMANDS``. Raises Refused."""
        match name:
            case "replSetInitiate":
                return self.initiate(document["replSetInitiate"])
            case "replSetReconfig":
                return self.reconfigure(document["replSetReconfig"], force=bool(document.get("force")))
            case "replSetStepDown":
                return self.step_down(document)
            case "replSetFreeze":
                return self.freeze(document["replSetFreeze"])
            case "replSetGetConfig":
                return self.get_config()
            case "replSetGetStatus":
                return self.get_status()
            case _:
                raise Refused(59, f"no such command: '{name}'")

    def _initialized(self) -> Document:
        if self.config is None:
            raise Refused(94, "no replset config has been received", info="run rs.initiate(...) if not yet done for the set")
        return self.config

    def initiate(self, given: Any) -> Document:
        """``processReplSetInitiate``: only where there is no configuration, of any kind."""
        if self.config is not None:
            raise Refused(23, "already initialized", info="try querying local.system.replset to see current configuration")
        config = config_rules.whole_config(given, self.set_name)
        config_rules.check_initiate(config, self.is_self)
        for member in config["members"]:  # checkQuorumForInitiate: every member must answer and be empty
            if not self.is_self(member["host"]) and self.peer(member["host"]) is None:
                raise Refused(74, f"replSetInitiate quorum check failed because not all proposed set members responded: {member['host']}")
        config["settings"]["replicaSetId"] = ObjectId()
        config["term"] = 1
        self.term = 1
        self.install(config)
        self.become("SECONDARY")
        return {"ok": 1.0}

    def get_config(self) -> Document:
        config = self._initialized()
        shown = [{key: value for key, value in member.items() if key != "newlyAdded"} for member in config["members"]]
        return {"config": config | {"members": shown}, "ok": 1.0}

    def reconfigure(self, given: Any, *, force: bool = False) -> Document:
        """``processReplSetReconfig``. A new voter has no vote until it has copied the data (``newlyAdded``)."""
        old = self._initialized()
        if self.reconfiguring:
            raise Refused(109, "Cannot run replSetReconfig because the node is currently updating its configuration")
        if not force and self.state != "PRIMARY":
            raise Refused(
                10107,
                f"New config is rejected :: caused by :: replSetReconfig should only be run on a writable PRIMARY. State: {self.state}",
            )
        if not force and not self.config_committed():
            raise Refused(308, "Cannot run replSetReconfig because the current config has not been committed by a majority yet")
        given = dict(given) if isinstance(given, Mapping) else given
        if isinstance(given, dict):
            given["term"] = self.term
            given["settings"] = old["settings"] | dict(given.get("settings", {}))
        new = config_rules.whole_config(given, self.set_name)
        known = {member["_id"]: member for member in old["members"]}
        for member in new["members"]:
            before = known.get(member["_id"])
            if (before is None and member["votes"]) or (before is not None and before.get("newlyAdded")):
                member["newlyAdded"] = True
        config_rules.check_successor(old, new, force=force)
        mine = config_rules.itself(new, self.is_self)
        if not force and mine["priority"] == 0:
            raise Refused(119, f"This node, {mine['host']}, with _id {mine['_id']} is not electable under the new configuration")
        answering = sum(1 for member in new["members"] if member["votes"] and (self.is_self(member["host"]) or self.peer(member["host"])))
        if not force and answering * 2 <= sum(member["votes"] for member in new["members"]):
            raise Refused(74, "Quorum check failed because not enough voting nodes responded")
        self.install(new)
        return {"ok": 1.0}

    def step_down(self, document: Mapping[str, Any]) -> Document:
        """``stepDown``: to a secondary that has every write, or with force to nobody. The wait for one is the caller's."""
        self._initialized()
        seconds = document["replSetStepDown"]
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
            raise Refused(2, "stepdown period must be a positive integer")
        force = bool(document.get("force"))
        catch_up = document.get("secondaryCatchUpPeriodSecs", 0 if force else 10)
        if seconds <= catch_up and not force:
            raise Refused(2, "stepdown period must be longer than secondaryCatchUpPeriodSecs")
        if self.state != "PRIMARY":
            raise Refused(10107, "not primary so can't step down")
        if not force and not self.electable_successors():
            raise Refused(262, "No electable secondaries caught up")
        self.stepped_down_until = self.now() + float(seconds)
        self.become("SECONDARY")
        return {"ok": 1.0}

    def electable_successors(self) -> list[str]:
        config = self._initialized()
        others = [member["host"] for member in config["members"] if member["priority"] > 0 and not member.get("newlyAdded")]
        return [host for host in others if not self.is_self(host) and self.caught_up(host)]

    def freeze(self, seconds: Any) -> Document:
        self._initialized()
        if self.state == "PRIMARY":
            raise Refused(95, f"cannot freeze node when primary or running for election. state: {self.state.title()}")
        self.frozen_until = self.now() + float(seconds)
        if not seconds:
            self.stepped_down_until = 0.0
        return {"ok": 1.0}

    def may_stand(self) -> bool:
        """Whether this node may run for election, as far as it concerns itself."""
        mine = self.mine
        if mine is None or self.state != "SECONDARY" or mine["priority"] == 0 or mine.get("newlyAdded"):
            return False
        return self.now() >= max(self.frozen_until, self.stepped_down_until)

    def win(self) -> None:
        """Become primary in a new term, and mark the configuration with it, as a new primary does."""
        config, mine = self._initialized(), self.mine
        if mine is None:
            return
        self.term += 1
        self.install(config | {"term": self.term})
        self.become("PRIMARY", mine["host"])

    def _status_of(self, member: Mapping[str, Any]) -> Document:
        entry: Document = {"_id": member["_id"], "name": member["host"], "health": 1.0}
        if self.is_self(member["host"]):
            state, position, term = self.state, self.last_write, self.term
            entry["self"] = True
        else:
            peer = self.peer(member["host"])
            if peer is None:
                return entry | {"health": 0.0, "state": STATES["DOWN"], "stateStr": "(not reachable/healthy)"}
            state, position, term = peer.state, peer.last_write, peer.term_of_last_write
        entry |= {"state": STATES[state], "stateStr": state}
        if state in ("PRIMARY", "SECONDARY", "RECOVERING"):
            entry["optime"] = {"ts": Timestamp(position, 1), "t": Int64(term)}
            entry["optimeDate"] = datetime.datetime.fromtimestamp(position, datetime.UTC).replace(tzinfo=None)
        return entry

    def get_status(self) -> Document:
        config = self._initialized()
        if self.mine is None:
            raise Refused(93, "Our replica set config is invalid or we are not a member of it")
        return {
            "set": self.set_name,
            "myState": STATES[self.state],
            "term": Int64(self.term),
            "majorityVoteCount": config_rules.majority(config),
            "votingMembersCount": len(config_rules.voters(config)),
            "members": [self._status_of(member) for member in config["members"]],
            "ok": 1.0,
        }
