"""What the sidecar does for its mongod: the truth about it, its first users, and the commands the operator asks for.

Each function looks first and acts on what it finds, so that a repeat after a crash at any point ends the same. None
initiates a set but ``initiate``, and none forces a reconfiguration.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct

from agent.mongodb import server as s
from agent.mongodb.server import CommandFailed, Document, Login, Server

ELECTION_TIMEOUT_MS = 5000  # mongod's 10 s, halved: heartbeats come every 2 s
MAX_VOTERS = 7  # mongodb.com/docs/manual/reference/limits
STEP_DOWN_SECONDS = 60
CATCH_UP_SECONDS = 10
UNINITIALIZED = "UNINITIALIZED"
REMOVED = "REMOVED"
_ROOT = [{"role": "root", "db": "admin"}]


class Conflict(Exception):
    """The command must not be carried out as things stand; the message says why."""


class NotYet(Exception):
    """Try again: something is still on its way."""


class Member(Struct, frozen=True):
    """This pod's mongod. ``host`` is the name the other members know it by."""

    server: Server
    host: str
    set_name: str
    agent: Login


def hello(member: Member) -> Document:
    """Needs no login. Raises Silent."""
    return member.server.run({"hello": 1})


def works(member: Member, login: Login) -> bool:
    """Whether mongod knows ``login``. Raises Silent, and CommandFailed for anything but a refused login."""
    try:
        member.server.run({"connectionStatus": 1}, login)
    except CommandFailed as error:
        if error.code == s.AUTHENTICATION_FAILED:
            return False
        raise
    return True


def _replica_set(member: Member, command: str, login: Login | None) -> Document | int:
    """The reply, or the code of the refusal."""
    try:
        return member.server.run({command: 1}, login)
    except CommandFailed as error:
        return error.code


def state_of(member: Member, greeting: Mapping[str, Any]) -> str:
    """mongod's own word for its state; UNINITIALIZED where it never had a configuration.

    A member that was removed from its set greets like one that never had one, but it holds users: nobody may then ask
    without a login.
    """
    if greeting.get("isWritablePrimary"):
        return "PRIMARY"
    if greeting.get("secondary"):
        return "SECONDARY"
    if _replica_set(member, "replSetGetStatus", None) == s.NOT_YET_INITIALIZED:
        return UNINITIALIZED
    status = _replica_set(member, "replSetGetStatus", member.agent)
    if isinstance(status, dict):
        mine = next((entry for entry in status.get("members", ()) if entry.get("self")), None)
        return str(mine["stateStr"]) if mine else "UNKNOWN"
    if status == s.INVALID_REPLICA_SET_CONFIG:
        return REMOVED
    return "STARTUP2" if greeting.get("setName") else "UNKNOWN"  # before its copy holds the users; or data that is not ours


def _lag_seconds(status: Mapping[str, Any]) -> float | None:
    """How far the last write of this member lies behind the primary's."""
    entries = status.get("members", ())
    primary = next((entry for entry in entries if entry.get("stateStr") == "PRIMARY"), None)
    mine = next((entry for entry in entries if entry.get("self")), None)
    if not primary or not mine or "optimeDate" not in primary or "optimeDate" not in mine:
        return None
    behind: float = (primary["optimeDate"] - mine["optimeDate"]).total_seconds()
    return max(0.0, behind)


def _set_facts(member: Member) -> Document:
    """What the set says of itself, as far as this member may be asked."""
    facts: Document = {}
    reply = _replica_set(member, "replSetGetConfig", member.agent)
    if isinstance(reply, dict):
        config = reply["config"]
        facts["setId"] = str(config.get("settings", {}).get("replicaSetId", "")) or None
        facts["configVersion"] = int(config["version"])
        facts["config"] = [
            {"id": entry["_id"], "host": entry["host"], "votes": int(entry.get("votes", 1)), "priority": float(entry.get("priority", 1))}
            for entry in config["members"]
        ]
    status = _replica_set(member, "replSetGetStatus", member.agent)
    if isinstance(status, dict):
        facts["term"] = int(status.get("term", 0))
        facts["states"] = {entry["name"]: entry["stateStr"] for entry in status["members"]}
        facts["lagSeconds"] = _lag_seconds(status)
    return facts


def status(member: Member, parameters: Iterable[str] = ()) -> Document:
    """All the operator asks for, without a secret. ``parameters``: which of mongod's to report. Raises Silent."""
    greeting = hello(member)
    facts: Document = {
        "state": state_of(member, greeting),
        "self": member.host,
        "setName": greeting.get("setName"),
        "primary": greeting.get("primary"),
        "version": member.server.run({"buildInfo": 1}).get("version"),
    }
    if facts["state"] != UNINITIALIZED:
        facts |= _set_facts(member)
    names = sorted(parameters)
    if names and "config" in facts:  # before that there is no login to ask with
        try:
            facts["parameters"] = in_force(member, names)
        except CommandFailed:
            facts["parameters"] = {}
    return facts


def in_force(member: Member, names: Iterable[str]) -> Document:
    """The values of the named parameters; one that this version does not know is left out."""
    found: Document = {}
    plain = [name for name in names if name not in ("cacheSizeGB", "slowms")]
    if plain:
        reply = member.server.run({"getParameter": 1} | dict.fromkeys(plain, 1), member.agent)
        found |= {name: reply[name] for name in plain if name in reply}
    if "cacheSizeGB" in names:
        cache = member.server.run({"serverStatus": 1}, member.agent).get("wiredTiger", {}).get("cache", {})
        size = cache.get("maximum bytes configured")
        if size is not None:
            found["cacheSizeGB"] = round(size / 1024**3, 2)
    if "slowms" in names:
        found["slowms"] = member.server.run({"profile": -1}, member.agent)["slowms"]
    return found


def configure(member: Member, parameters: Mapping[str, int | float | bool]) -> None:
    """Set parameters of the running mongod; those that stand already are set to the same."""
    for name, value in sorted(parameters.items()):
        if name == "cacheSizeGB":
            text = f"cache_size={int(value * 1024)}M"
            member.server.run({"setParameter": 1, "wiredTigerEngineRuntimeConfig": text}, member.agent)
        elif name == "slowms":
            level = member.server.run({"profile": -1}, member.agent)["was"]
            member.server.run({"profile": level, "slowms": value}, member.agent)
        else:
            member.server.run({"setParameter": 1, name: value}, member.agent)


def initiate(member: Member, formed_peers: Callable[[], list[str]]) -> None:
    """Form the set with this member alone. The caller is the operator, and has seen that no set is formed.

    ``formed_peers`` asks the other members that answer. Raises Conflict where a set is there already, NotYet while the
    member's own name does not lead back to it. The permit holds for this one call: nothing of it is kept.
    """
    if hello(member).get("setName"):
        return
    if _replica_set(member, "replSetGetStatus", None) != s.NOT_YET_INITIALIZED:
        raise Conflict(f"{member.host} holds data of its own")  # there are users: the localhost exception is closed
    peers = formed_peers()
    if peers:
        raise Conflict(f"{peers[0]} belongs to a replica set already")
    config = {
        "_id": member.set_name,
        "version": 1,
        "members": [{"_id": 0, "host": member.host}],
        "settings": {"electionTimeoutMillis": ELECTION_TIMEOUT_MS},
    }
    try:
        member.server.run({"replSetInitiate": config})  # the localhost exception allows it while there is no user
    except CommandFailed as error:
        if error.code == s.ALREADY_INITIALIZED:
            return
        if error.code in (s.INVALID_REPLICA_SET_CONFIG, s.NODE_NOT_FOUND):
            raise NotYet(f"{member.host} does not lead to this mongod yet: {error}") from error
        raise


def _read_config(member: Member) -> Document:
    config: Document = member.server.run({"replSetGetConfig": 1}, member.agent)["config"]
    return config


def _reconfigure(member: Member, config: Document) -> None:
    """One step of the configuration. A step that races with another is refused by mongod and asked for again."""
    config = config | {"version": int(config["version"]) + 1}
    config.pop("term", None)  # mongod fills in its own
    try:
        member.server.run({"replSetReconfig": config}, member.agent)
    except CommandFailed as error:
        passing = {s.CONFIGURATION_IN_PROGRESS, s.CURRENT_CONFIG_NOT_COMMITTED, s.NEW_CONFIG_INCOMPATIBLE} | s.NO_PRIMARY
        if error.code in passing:
            raise NotYet(str(error)) from error
        raise


def add_member(member: Member, host: str) -> None:
    """``host`` joins the set that this primary leads; its votes and priority are 0 beyond the seventh voter."""
    config = _read_config(member)
    members = config["members"]
    if any(entry["host"] == host for entry in members):
        return
    votes = 1 if sum(1 for entry in members if entry.get("votes", 1)) < MAX_VOTERS else 0
    entry = {"_id": max(entry["_id"] for entry in members) + 1, "host": host, "votes": votes, "priority": votes}
    _reconfigure(member, config | {"members": [*members, entry]})


def remove_member(member: Member, host: str) -> None:
    """``host`` leaves the set. Raises Conflict for the primary itself: it must hand over first."""
    config = _read_config(member)
    staying = [entry for entry in config["members"] if entry["host"] != host]
    if len(staying) == len(config["members"]):
        return
    if host == member.host:
        raise Conflict(f"{host} is the primary and must step down first")
    _reconfigure(member, config | {"members": staying})


def add_vote(member: Member, host: str) -> None:
    """Give a vote to a member that joined while seven others had theirs."""
    config = _read_config(member)
    voters = sum(1 for entry in config["members"] if entry.get("votes", 1))
    chosen = next((entry for entry in config["members"] if entry["host"] == host), None)
    if chosen is None or chosen.get("votes", 1) or voters >= MAX_VOTERS:
        return
    members = [entry | {"votes": 1, "priority": 1} if entry is chosen else entry for entry in config["members"]]
    _reconfigure(member, config | {"members": members})


def step_down(member: Member) -> None:
    """Hand over to a secondary that has every write. Raises NotYet where none has caught up."""
    if not hello(member).get("isWritablePrimary"):
        return
    command = {"replSetStepDown": STEP_DOWN_SECONDS, "secondaryCatchUpPeriodSecs": CATCH_UP_SECONDS}
    try:
        member.server.run(command, member.agent)
    except CommandFailed as error:
        if error.code == s.NO_ELECTABLE_SECONDARY or error.code in s.NO_PRIMARY:
            raise NotYet(str(error)) from error
        raise
    except s.Silent:
        return  # mongod closes client connections as it steps down


def freeze(member: Member, seconds: int) -> None:
    """Keep this secondary from standing for election. A primary is left alone."""
    if hello(member).get("secondary"):
        member.server.run({"replSetFreeze": seconds}, member.agent)


def _create_user(member: Member, login: Login, by: Login | None) -> None:
    command = {"createUser": login.username, "pwd": login.password, "roles": _ROOT, "writeConcern": {"w": "majority", "wtimeout": 10000}}
    try:
        member.server.run(command, by)
    except CommandFailed as error:
        if error.code != s.USER_EXISTS:
            raise


def ensure_users(member: Member, login: Login) -> None:
    """On the primary: the agent's user, then the login of ``<name>-credentials``. Raises Conflict where no known login is let in.

    The first user closes the localhost exception, so it is the agent's own, whose password never changes: whatever
    happens after it, the next turn can log in and go on.
    """
    if not works(member, member.agent):
        known = works(member, login)
        try:
            _create_user(member, member.agent, login if known else None)
        except CommandFailed as error:
            if error.code == s.UNAUTHORIZED:
                raise Conflict("neither the agent's login nor that of the credentials is known to mongod") from error
            raise
        if not works(member, member.agent):  # the user is there, with another password
            change = {"updateUser": member.agent.username, "pwd": member.agent.password, "roles": _ROOT}
            member.server.run(change, login)
    if works(member, login):
        return
    found = member.server.run({"usersInfo": {"user": login.username, "db": "admin"}}, member.agent)["users"]
    if found:
        member.server.run({"updateUser": login.username, "pwd": login.password}, member.agent)
    else:
        _create_user(member, login, member.agent)


def ensure_write_concern(member: Member) -> None:
    """Writes wait for a majority unless they say otherwise. What a person has set stays."""
    found = member.server.run({"getDefaultRWConcern": 1}, member.agent)
    if found.get("defaultWriteConcernSource", "implicit") == "implicit":
        member.server.run({"setDefaultRWConcern": 1, "defaultWriteConcern": {"w": "majority"}}, member.agent)
