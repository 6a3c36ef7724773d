"""The stand-in for mongod: flags, key file, parameters and the rules of one member, without its data server."""

from pathlib import Path
from typing import Any

import bson
import pytest

from localcluster.standin_mongo import options, wire
from localcluster.standin_mongo.errors import Refused
from localcluster.standin_mongo.parameters import Parameters
from localcluster.standin_mongo.rules import Node

ME = "m0:27017"


def node(**more: Any) -> Node:
    return Node("rs0", lambda host: host == ME, lambda: 0.0, **more)


def config(**more: Any) -> dict[str, Any]:
    return {"_id": "rs0", "members": [{"_id": 0, "host": ME}]} | more


def initiated() -> Node:
    made = node()
    made.initiate(config())
    made.win()
    return made


def code(work: Any) -> int:
    with pytest.raises(Refused) as refused:
        work()
    return refused.value.code


def test_standin_before_initiate() -> None:
    made = node()
    assert made.hello()["isreplicaset"] is True
    assert "setName" not in made.hello()
    for name in ("replSetGetStatus", "replSetGetConfig", "replSetReconfig", "replSetStepDown"):
        assert code(lambda name=name: made.command(name, {name: 1})) == 94


def test_standin_initiate_once() -> None:
    made = initiated()
    assert made.hello()["isWritablePrimary"] is True
    assert code(lambda: made.initiate(config())) == 23


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (config(version=2), 103),
        (config(_id="other"), 93),
        (config(members=[{"_id": 0, "host": "elsewhere:27017"}]), 93),
        (config(members=[]), 93),
        (config(members=[{"_id": 0, "host": ME, "priority": 0}]), 93),
        (config(members=[{"_id": 0, "host": ME, "votes": 0}]), 93),
        (config(members=[{"_id": 0, "host": ME, "colour": 1}]), 93),
        (config(members=[{"_id": 0, "host": ME}, {"_id": 1, "host": "m1:27017"}]), 74),
        ("no document", 93),
    ],
)
def test_standin_initiate_refuses(given: Any, expected: int) -> None:
    made = node()
    assert code(lambda: made.initiate(given)) == expected
    assert made.config is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"version": 1}, 103),
        ({"version": 0}, 93),
        ({"_id": "other"}, 93),
        ({"members": [{"_id": 7, "host": ME}]}, 103),
        ({"members": [{"_id": 0, "host": "elsewhere:27017"}]}, 74),
        ({"members": [{"_id": 0, "host": ME, "priority": 0}, {"_id": 1, "host": "m1:27017"}]}, 119),
        ({"members": [{"_id": i, "host": f"m{i}:27017"} for i in range(3)]}, 93),
        ({"members": [{"_id": i, "host": f"m{i}:27017"} for i in range(8)]}, 93),
    ],
)
def test_standin_reconfig_refuses(change: dict[str, Any], expected: int) -> None:
    made = initiated()
    before = made.config
    assert code(lambda: made.reconfigure(config(version=2) | change)) == expected
    assert made.config == before


def test_standin_reconfig_on_a_secondary() -> None:
    made = initiated()
    made.become("SECONDARY")
    assert code(lambda: made.reconfigure(config(version=2))) == 10107


def test_standin_reconfig_waits_for_the_one_before() -> None:
    made = node(config_committed=lambda: False)
    made.initiate(config())
    made.win()
    assert code(lambda: made.reconfigure(config(version=2))) == 308


def test_standin_step_down_of_the_only_member() -> None:
    made = initiated()
    assert code(lambda: made.step_down({"replSetStepDown": 60})) == 262
    assert code(lambda: made.step_down({"replSetStepDown": 5})) == 2
    made.step_down({"replSetStepDown": 60, "force": True})
    assert made.hello()["secondary"] is True
    assert code(lambda: made.step_down({"replSetStepDown": 60})) == 10107
    assert not made.may_stand()


def test_standin_freeze() -> None:
    made = initiated()
    assert code(lambda: made.freeze(10)) == 95
    made.become("SECONDARY")
    made.freeze(10)
    assert not made.may_stand()
    made.freeze(0)
    assert made.may_stand()


def test_standin_comes_up_with_what_it_kept() -> None:
    kept: dict[str, Any] = {}
    made = node(keep=kept.update)
    made.initiate(config())
    made.win()
    again = node()
    again.load(kept)
    assert again.hello()["setName"] == "rs0"
    assert again.term == made.term
    assert again.state == "SECONDARY"


def test_standin_every_change_of_state_moves_the_topology_version() -> None:
    made = initiated()
    before = made.counter
    made.become("SECONDARY")
    assert made.counter == before + 1


# flags


def write(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "mongod.conf"
    file.write_text(text)
    return ["--config", str(file)]


def test_standin_reads_flags_and_file(tmp_path: Path) -> None:
    argv = write(tmp_path, "net:\n  port: 1\nstorage:\n  wiredTiger:\n    engineConfig:\n      cacheSizeGB: 0.5\n")
    values = options.read([*argv, "--port=2", "--replSet", "rs0", "--setParameter", "logLevel=1"])
    assert values["net.port"] == 2
    assert values["replication.replSetName"] == "rs0"
    assert values["setParameter.logLevel"] == "1"
    assert Parameters(values).cache_bytes == 512 * 1024**2


@pytest.mark.parametrize(
    ("text", "argv", "message"),
    [
        ("net:\n  colour: 1\n", [], "Unrecognized option: net.colour"),
        ("[", [], "Error parsing YAML"),
        ("", ["--nonsense"], "unrecognised option"),
        ("", ["word"], "positional"),
        ("net:\n  port: 70000\n", [], "net.port must be between"),
        ("storage:\n  wiredTiger:\n    engineConfig:\n      cacheSizeGB: 0.1\n", [], "cacheSizeGB must be between"),
    ],
)
def test_standin_refuses_options(tmp_path: Path, text: str, argv: list[str], message: str) -> None:
    with pytest.raises(options.Bad, match=message):
        options.read(write(tmp_path, text) + argv)


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        ("a" * 10, 0o640, "too open"),
        ("short", 0o600, "length 5"),
        ("a" * 1025, 0o600, "length 1025"),
        ("a!b c d e f g", 0o600, "invalid char"),
    ],
)
def test_standin_checks_the_key_file(tmp_path: Path, content: str, mode: int, message: str) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    file.chmod(mode)
    with pytest.raises(options.Bad, match=message):
        options.read(["--keyFile", str(file)])


def test_standin_key_file_turns_authorization_on(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("a" * 16 + "\n")
    file.chmod(0o600)
    assert options.read(["--keyFile", str(file)])["security.authorization"] == "enabled"


# parameters


def test_standin_parameters() -> None:
    made = Parameters({"systemLog.verbosity": 1, "setParameter.notablescan": True})
    assert made.get({"getParameter": 1, "logLevel": 1, "notablescan": 1, "unknown": 1}) == {"logLevel": 1, "notablescan": True, "ok": 1.0}
    made.set({"setParameter": 1, "cursorTimeoutMillis": 5, "$db": "admin"})
    assert made.get({"getParameter": 1, "cursorTimeoutMillis": 1})["cursorTimeoutMillis"] == 5
    made.set({"setParameter": 1, "wiredTigerEngineRuntimeConfig": "cache_size=300M"})
    assert made.cache_bytes == 300 * 1024**2


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"setParameter": 1}, 72),
        ({"setParameter": 1, "unknown": 1}, 72),
        ({"setParameter": 1, "enableTestCommands": 1}, 20),
        ({"setParameter": 1, "logLevel": "much"}, 2),
        ({"setParameter": 1, "wiredTigerEngineRuntimeConfig": "log=(enabled=false)"}, 2),
    ],
)
def test_standin_refuses_parameters(document: dict[str, Any], expected: int) -> None:
    assert code(lambda: Parameters({}).set(document)) == expected


def test_standin_unknown_parameter_in_the_file() -> None:
    assert code(lambda: Parameters({"setParameter.nonsense": 1})) == 2


# frames


def test_standin_frame_is_read_and_answered() -> None:
    frame = wire.Frame(wire.message({"hello": 1, "$db": "admin"}, request_id=7))
    assert (frame.name, frame.database) == ("hello", "admin")
    reply = wire.Frame(wire.answer(frame, {"ok": 1.0}))
    assert reply.response_to == 7
    assert reply.document == {"ok": 1.0}
    changed = wire.Frame(frame.with_document({"ping": 1}))
    assert changed.name == "ping"
    assert changed.request_id == 7


def test_standin_frame_with_a_sequence_before_the_body() -> None:
    documents = b"documents\0" + bson.encode({"_id": 1})
    section = b"\x01" + (len(documents) + 4).to_bytes(4, "little") + documents
    body = b"\0" + bson.encode({"insert": "x", "$db": "shop"})
    data = (0).to_bytes(4, "little") + section + body
    raw = (16 + len(data)).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes(4) + (2013).to_bytes(4, "little") + data
    assert wire.Frame(raw).name == "insert"
