"""What a replica set's configuration must be, and which may follow which. Pure.

Rules, codes and their order follow ``repl_set_config.cpp`` and ``repl_set_config_checks.cpp`` of mongodb/mongo 7.0.
"""

from collections.abc import Callable, Mapping
from typing import Any

from .errors import Refused

Document = dict[str, Any]

MAX_MEMBERS = 50
MAX_VOTERS = 7
SETTINGS: Mapping[str, Any] = {
    "chainingAllowed": True,
    "heartbeatIntervalMillis": 2000,
    "heartbeatTimeoutSecs": 10,
    "electionTimeoutMillis": 10000,
    "catchUpTimeoutMillis": -1,
    "catchUpTakeoverDelayMillis": 30000,
    "getLastErrorModes": {},
    "getLastErrorDefaults": {"w": 1, "wtimeout": 0},
}
_MEMBER_FIELDS = frozenset(
    {"_id", "host", "arbiterOnly", "buildIndexes", "hidden", "priority", "tags", "secondaryDelaySecs", "votes", "newlyAdded"}
)
_CONFIG_FIELDS = frozenset({"_id", "version", "term", "members", "protocolVersion", "writeConcernMajorityJournalDefault", "settings"})


def voters(config: Mapping[str, Any]) -> list[Document]:
    """Members with a vote now: one that was just added has none until it has copied the data."""
    return [member for member in config["members"] if member["votes"] and not member.get("newlyAdded")]


def majority(config: Mapping[str, Any]) -> int:
    return len(voters(config)) // 2 + 1


def newer(one: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    """Configurations are ordered by term, then version."""
    return other is None or (one["term"], one["version"]) > (other["term"], other["version"])


def _whole(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise Refused(93, f"{what} must be a whole number")
    return int(value)


def _member(given: Any) -> Document:
    if not isinstance(given, Mapping) or "_id" not in given or not isinstance(given.get("host"), str):
        raise Refused(93, "Each member of a replica set configuration needs _id and host")
    unknown = sorted(set(given) - _MEMBER_FIELDS)
    if unknown:
        raise Refused(93, f"BSON field 'MemberConfig.{unknown[0]}' is an unknown field.")
    member: Document = {
        "_id": _whole(given["_id"], "_id"),
        "host": given["host"] if ":" in given["host"] else f"{given['host']}:27017",
        "arbiterOnly": bool(given.get("arbiterOnly", False)),
        "buildIndexes": bool(given.get("buildIndexes", True)),
        "hidden": bool(given.get("hidden", False)),
        "priority": float(given.get("priority", 0 if given.get("arbiterOnly") else 1)),
        "tags": dict(given.get("tags", {})),
        "secondaryDelaySecs": _whole(given.get("secondaryDelaySecs", 0), "secondaryDelaySecs"),
        "votes": _whole(given.get("votes", 1), "votes"),
    }
    if not 0 <= member["_id"] <= 255:
        raise Refused(93, f"_id field value of {member['_id']} is out of range.")
    if not 0 <= member["priority"] <= 1000:
        raise Refused(93, f"priority field value of {member['priority']} is out of range")
    if member["votes"] not in (0, 1):
        raise Refused(93, f"votes field value is {member['votes']} but must be 0 or 1")
    if member["priority"] > 0 and not member["votes"]:
        raise Refused(93, "priority must be 0 when non-voting (votes:0)")
    if member["priority"] > 0 and member["hidden"]:
        raise Refused(93, "priority must be 0 when hidden=true")
    return member | ({"newlyAdded": True} if given.get("newlyAdded") else {})


def whole_config(given: Any, set_name: str) -> Document:
    """``given`` with mongod's defaults filled in. Raises Refused for what no set may have."""
    if not isinstance(given, Mapping):
        raise Refused(93, "no configuration specified")
    unknown = sorted(set(given) - _CONFIG_FIELDS)
    if unknown:
        raise Refused(93, f"BSON field 'ReplSetConfig.{unknown[0]}' is an unknown field.")
    if given.get("_id") != set_name:
        raise Refused(93, f"Rejecting a configuration for replica set {given.get('_id')}; the command line says {set_name}")
    version = _whole(given.get("version", 1), "version")
    if version < 1:
        raise Refused(93, f"version field value of {version} is out of range.")
    members = [_member(member) for member in given.get("members") or ()]
    if not 1 <= len(members) <= MAX_MEMBERS:
        raise Refused(
            93, f"Replica set configuration contains {len(members)} members, but must have at least 1 and no more than {MAX_MEMBERS}"
        )
    for field in ("_id", "host"):
        values = [member[field] for member in members]
        if len(set(values)) != len(values):
            raise Refused(103 if field == "host" else 93, f"Found two member configurations with same {field} field")
    voting = sum(member["votes"] for member in members)
    if not 1 <= voting <= MAX_VOTERS:
        raise Refused(
            93, f"Replica set configuration contains {voting} voting members, but must be at least 1 and no more than {MAX_VOTERS}"
        )
    if not any(member["priority"] > 0 for member in members):
        raise Refused(93, "Replica set configuration must contain at least one non-arbiter member with priority > 0")
    return {
        "_id": set_name,
        "version": version,
        "term": _whole(given.get("term", 0), "term"),
        "members": members,
        "protocolVersion": 1,
        "writeConcernMajorityJournalDefault": bool(given.get("writeConcernMajorityJournalDefault", True)),
        "settings": dict(SETTINGS) | dict(given.get("settings", {})),
    }


def itself(config: Mapping[str, Any], is_self: Callable[[str], bool]) -> Document:
    """The member of ``config`` that this node is. Raises Refused with NodeNotFound, or InvalidReplicaSetConfig for two."""
    mine: list[Document] = [member for member in config["members"] if is_self(member["host"])]
    described = f"{{version: {config['version']}, term: {config['term']}}} for replica set {config['_id']}"
    if not mine:
        raise Refused(74, f"No host described in new configuration with {described} maps to this node")
    if len(mine) > 1:
        hosts = " and ".join(member["host"] for member in mine)
        raise Refused(93, f"The hosts {hosts} all map to this node in new configuration with {described}")
    return mine[0]


def check_initiate(config: Mapping[str, Any], is_self: Callable[[str], bool]) -> None:
    """The first configuration. Whatever is wrong with its hosts comes back as InvalidReplicaSetConfig, as mongod has it."""
    if config["version"] != 1:
        raise Refused(103, f"Configuration used to initiate a replica set must have version 1, but found {config['version']}")
    if any(member.get("newlyAdded") for member in config["members"]):
        raise Refused(93, "a newlyAdded field is not valid for initial configuration of a replica set")
    try:
        mine = itself(config, is_self)
    except Refused as error:
        raise Refused(93, str(error)) from error
    if mine["priority"] == 0:
        raise Refused(93, f"This node, {mine['host']}, with _id {mine['_id']} is not electable under the new configuration")


def check_successor(old: Mapping[str, Any], new: Mapping[str, Any], *, force: bool = False) -> None:
    """Whether ``new`` may follow ``old``. Raises Refused."""
    if not newer(new, old):
        raise Refused(
            103,
            "New replica set configuration version and term must be greater than old, but "
            f"{{version: {new['version']}, term: {new['term']}}} is not greater than "
            f"{{version: {old['version']}, term: {old['term']}}} for replica set {new['_id']}",
        )
    if new["settings"].get("replicaSetId") != old["settings"].get("replicaSetId"):
        raise Refused(103, "New and old configurations differ in replica set ID")
    known = {member["host"]: member for member in old["members"]}
    by_id = {member["_id"]: member for member in old["members"]}
    for member in new["members"]:
        before = known.get(member["host"])
        if before and before["_id"] != member["_id"]:
            raise Refused(103, f"New and old configurations both have members with host of {member['host']} but with another _id")
        same = by_id.get(member["_id"])
        if same and same["arbiterOnly"] != member["arbiterOnly"]:
            raise Refused(103, f"New and old configurations differ in the setting of the arbiterOnly field for member {member['host']}")
    if force:
        return
    before_votes = {member["_id"] for member in old["members"] if member["votes"]}
    after_votes = {member["_id"] for member in new["members"] if member["votes"]}
    if len(before_votes ^ after_votes) > 1:
        raise Refused(93, "Non force replica set reconfig can only add or remove at most 1 voting member.")
