"""MongoDB's agent without a mongod: the first start's mark, the key file, the sidecar's HTTP."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.mongodb import first_start, main, member, sidecar
from agent.mongodb.member import Member
from agent.mongodb.run import copy_key_file
from agent.mongodb.server import CommandFailed, Document, Login, Silent
from agent.mongodb.sidecar import Places, Sidecar, listen

AGENT = Login("database-operator-agent", "own")
HOST = "orders-0.orders-members.shop.svc.cluster.local:27017"


class Scripted:
    """A server whose answers a test writes down: by the command's name."""

    def __init__(self, answers: Mapping[str, Document | Exception | Callable[[Document], Document]]) -> None:
        self.answers = dict(answers)
        self.asked: list[Document] = []

    def run(self, command: Mapping[str, Any], login: Login | None = None, database: str = "admin") -> Document:
        self.asked.append(dict(command))
        found = self.answers.get(next(iter(command)), CommandFailed(59, "no such command"))
        if isinstance(found, Exception):
            raise found
        return found(dict(command)) if callable(found) else found


def of(**answers: Any) -> Member:
    return Member(Scripted(answers), HOST, "rs0", AGENT)


def asked(this: Member) -> list[Document]:
    assert isinstance(this.server, Scripted)
    return this.server.asked


# the first start


def test_empty_volume_is_marked(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    assert first_start.prepare(tmp_path)
    assert (tmp_path / first_start.MARK).exists()


def test_half_done_first_start_is_started_over(tmp_path: Path) -> None:
    first_start.prepare(tmp_path)
    (tmp_path / "WiredTiger.wt").write_text("half")
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "log").touch()
    (tmp_path / "link").symlink_to("/etc/hostname")
    assert first_start.prepare(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [first_start.MARK]
    assert Path("/etc/hostname").exists()


def test_data_without_a_mark_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "WiredTiger.wt").write_text("data")
    assert not first_start.prepare(tmp_path)
    assert (tmp_path / "WiredTiger.wt").read_text() == "data"
    assert not (tmp_path / first_start.MARK).exists()


def test_mark_goes_once_mongod_answers(tmp_path: Path) -> None:
    first_start.prepare(tmp_path)
    (tmp_path / "WiredTiger.wt").touch()
    first_start.done(tmp_path)
    first_start.done(tmp_path)
    assert not first_start.prepare(tmp_path)


def test_key_file_is_private(tmp_path: Path) -> None:
    source, target = tmp_path / "secret", tmp_path / "keyfile"
    source.write_text("key")
    source.chmod(0o440)
    (tmp_path / "keyfile.new").write_text("left by a start that was killed")
    for _ in range(2):
        copy_key_file(source, target)
        assert target.read_text() == "key"
        assert target.stat().st_mode & 0o777 == 0o600


def test_unknown_words_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["run", "more"]) == 2
    assert "usage" in capsys.readouterr().err


# what the member says


@pytest.mark.parametrize(
    ("hello", "status", "state"),
    [
        ({"isWritablePrimary": True, "setName": "rs0"}, None, "PRIMARY"),
        ({"secondary": True, "setName": "rs0"}, None, "SECONDARY"),
        ({"isreplicaset": True}, CommandFailed(94, "no replset config has been received"), "UNINITIALIZED"),
        ({"isreplicaset": True}, CommandFailed(93, "Our replica set config is invalid"), "REMOVED"),
        ({"setName": "rs0"}, CommandFailed(13, "requires authentication"), "STARTUP2"),
        ({"setName": "rs0"}, {"members": [{"self": True, "stateStr": "RECOVERING", "name": HOST}]}, "RECOVERING"),
        ({"isreplicaset": True}, CommandFailed(13, "requires authentication"), "UNKNOWN"),
    ],
)
def test_state(hello: Document, status: Document | Exception | None, state: str) -> None:
    this = of(hello=hello, replSetGetStatus=status)
    assert member.state_of(this, hello) == state


def test_initiate_looks_first() -> None:
    this = of(hello={"setName": "rs0"})
    member.initiate(this, list)
    assert asked(this) == [{"hello": 1}]


@pytest.mark.parametrize("status", [CommandFailed(13, "requires authentication"), {"members": []}])
def test_initiate_refuses_a_volume_with_data(status: Document | Exception) -> None:
    this = of(hello={"isreplicaset": True}, replSetGetStatus=status)
    with pytest.raises(member.Conflict, match="data of its own"):
        member.initiate(this, list)


def test_initiate_refuses_while_a_peer_has_a_set() -> None:
    this = of(hello={"isreplicaset": True}, replSetGetStatus=CommandFailed(94, "none"))
    with pytest.raises(member.Conflict, match=r"192\.0\.2\.7"):
        member.initiate(this, lambda: ["192.0.2.7"])


def test_live_parameters_are_translated() -> None:
    this = of(setParameter={"ok": 1}, profile={"was": 1, "slowms": 100})
    member.configure(this, {"cacheSizeGB": 0.55, "slowms": 7, "notablescan": True})
    assert asked(this) == [
        {"setParameter": 1, "wiredTigerEngineRuntimeConfig": "cache_size=563M"},
        {"setParameter": 1, "notablescan": True},
        {"profile": -1},
        {"profile": 1, "slowms": 7},
    ]


@pytest.mark.parametrize("gigabytes", [0.25, 0.55, 1.0, 1.75, 3.33, 7.75])
def test_cache_size_is_read_back_as_it_was_asked_for(gigabytes: float) -> None:
    size = int(gigabytes * 1024) * 1024**2
    this = of(serverStatus={"wiredTiger": {"cache": {"maximum bytes configured": size}}})
    assert member.in_force(this, ["cacheSizeGB"]) == {"cacheSizeGB": gigabytes}


# HTTP


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Sidecar, int]]:
    for name in ("credentials", "internal", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "internal" / "agent-token").write_text("token")
    (tmp_path / "credentials" / "username").write_text("root")
    (tmp_path / "credentials" / "password").write_text("pw")
    this = of(hello={"isWritablePrimary": True, "setName": "rs0"})
    made = Sidecar(this, "localhost", Places(tmp_path / "credentials", tmp_path / "internal", tmp_path / "data"))
    server = listen(made, 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield made, server.socket.getsockname()[1]
    server.shutdown()
    thread.join()
    server.server_close()


def ask(port: int, method: str, path: str, token: str | None = None, body: str | None = None) -> tuple[int, Document]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path, body=body, headers={"Authorization": f"Bearer {token}"} if token else {})
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def test_probes_ask_for_no_token(served: tuple[Sidecar, int]) -> None:
    made, port = served
    assert ask(port, "GET", "/healthz")[0] == 200
    assert ask(port, "GET", "/liveness")[0] == 200
    assert ask(port, "GET", "/readiness")[0] == 503  # no user was made yet
    made.users_of = Login("root", "pw")
    assert ask(port, "GET", "/readiness")[0] == 200


def test_silent_mongod_fails_the_probes(served: tuple[Sidecar, int]) -> None:
    made, port = served
    assert isinstance(made.member.server, Scripted)
    made.member.server.answers["hello"] = Silent("mongod does not answer")
    assert ask(port, "GET", "/healthz")[0] == 200
    assert ask(port, "GET", "/liveness")[0] == 503
    assert ask(port, "GET", "/readiness")[0] == 503


@pytest.mark.parametrize("path", ["/initiate", "/add-member", "/remove-member", "/add-vote", "/step-down", "/freeze", "/configure"])
@pytest.mark.parametrize("token", [None, "", "wrong", "tokentoken"])
def test_commands_need_the_token(served: tuple[Sidecar, int], path: str, token: str | None) -> None:
    made, port = served
    assert ask(port, "POST", path, token)[0] == 401
    assert ask(port, "GET", "/status", token)[0] == 401
    assert asked(made.member) == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/add-member", "{}"),
        ("/add-member", '{"host": "a b:1"}'),
        ("/add-member", '{"host": 1}'),
        ("/remove-member", '{"host": "$(reboot):1"}'),
        ("/configure", '{"parameters": {"a b": 1}}'),
        ("/configure", '{"parameters": {"notablescan": "text"}}'),
        ("/freeze", '{"seconds": -1}'),
        ("/freeze", "[]"),
        ("/freeze", "no json"),
    ],
)
def test_wrong_bodies_reach_no_server(served: tuple[Sidecar, int], path: str, body: str) -> None:
    made, port = served
    assert ask(port, "POST", path, "token", body)[0] == 400
    assert asked(made.member) == []


def test_initiate_waits_until_the_mark_is_gone(served: tuple[Sidecar, int]) -> None:
    _, port = served
    status, answer = ask(port, "POST", "/initiate", "token")
    assert status == 503
    assert "not been seen to answer" in answer["message"]


def test_unknown_paths(served: tuple[Sidecar, int]) -> None:
    _, port = served
    assert ask(port, "GET", "/")[0] == 404
    assert ask(port, "POST", "/rs.initiate", "token")[0] == 404


def test_changed_password_is_seen_without_a_restart(served: tuple[Sidecar, int]) -> None:
    made, _ = served
    this = of(
        hello={"isWritablePrimary": True, "setName": "rs0"},
        connectionStatus={"ok": 1},
        getDefaultRWConcern={"defaultWriteConcernSource": "global"},
    )
    made.member = this
    made.turn()
    assert made.users_of == Login("root", "pw")
    (made.places.credentials / "password").write_text("next")
    made.turn()
    assert made.users_of == Login("root", "next")


def test_log_is_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    sidecar.log("info", "a\nb", why="c")
    assert json.loads(capsys.readouterr().err) == {"level": "info", "logger": "mongodb-sidecar", "msg": "a\nb", "why": "c"}
