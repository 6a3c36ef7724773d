"""PostgreSQL's agent beside Patroni: what it watches, keeps up and changes in it."""

import importlib
import inspect
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import json

from agent.postgresql import init, keep, logins, main, postmaster, report, settings, watch
from agent.postgresql.layout import Layout, Server
from agent.postgresql.watch import Answer, Watch
from tests.agent.test_postgresql import POD

# --- the watch


def serving(path: Path, behaviour: Callable[[socket.socket], None]) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen(1)
    threading.Thread(target=behaviour, args=(server,), daemon=True).start()
    return server


def answers(server: socket.socket) -> None:
    connection, _ = server.accept()
    connection.recv(1024)
    connection.sendall(b"R\0\0\0\x17\0\0\0\nSCRAM-SHA-256\0\0")
    connection.close()


def test_any_answer_is_a_sign_of_life_and_silence_is_not(tmp_path: Path) -> None:
    message = watch.startup_message("u", "d")
    assert message == b"\0\0\0\x1b\0\x03\0\0user\0u\0database\0d\0\0"
    path = tmp_path / "s"
    assert watch.ask(path, message, 0.2) is Answer.ABSENT
    with serving(path, answers):
        assert watch.ask(path, message, 5) is Answer.ALIVE
    path.unlink()
    with serving(path, lambda server: None):  # a stopped server: the kernel takes connections, nobody answers
        assert watch.ask(path, message, 0.2) is Answer.SILENT
    assert watch.ask(path, message, 0.2) is Answer.ABSENT


def test_what_the_kernel_says_of_a_process() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert not watch.is_stopped(process.pid)
        assert not watch.ended(process.pid, 0.01)
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        assert watch.is_stopped(process.pid)
    finally:
        process.kill()
    assert watch.ended(process.pid, 5)
    process.wait()
    assert watch.ended(process.pid, 5)
    assert not watch.is_stopped(process.pid)


class Daemon(SimpleNamespace):
    """As much of Patroni as the helpers look at."""

    def __init__(self, leader: bool = True, role: str = "primary", state: str = "running") -> None:
        self.woken = self.reloads = 0
        postgresql = SimpleNamespace(state=state, role=role, name="orders-0")
        ha = SimpleNamespace(is_leader=lambda: leader, wakeup=self.wake)
        super().__init__(postgresql=postgresql, ha=ha, received_sigterm=False)

    def wake(self) -> None:
        self.woken += 1

    def sighup_handler(self) -> None:
        self.reloads += 1


@pytest.mark.parametrize(
    ("answer", "stopped", "turns", "kills"),
    [
        (Answer.SILENT, True, 1, 0),
        (Answer.SILENT, True, 2, 1),
        (Answer.SILENT, False, 9, 0),
        (Answer.SILENT, False, 10, 1),
        (Answer.ALIVE, True, 30, 0),
        (Answer.ABSENT, True, 3, 0),
    ],
)
def test_p03_only_a_hung_server_is_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: Answer, stopped: bool, turns: int, kills: int
) -> None:
    monkeypatch.setattr(watch, "ask", lambda path, message: answer)
    monkeypatch.setattr(watch, "is_stopped", lambda pid: stopped)
    monkeypatch.setattr(watch, "AGAIN", 0.0)
    killed: list[int] = []
    patroni = Daemon()
    watcher = Watch(patroni, tmp_path, b"")
    for _ in range(turns):
        watcher.turn(SimpleNamespace(pid=7, signal_kill=lambda: killed.append(7)))
    assert len(killed) == kills
    assert patroni.woken == (kills or (turns if answer is Answer.ABSENT else 0))


# --- what is kept up


class Connected:
    def __enter__(self) -> "Connected":
        return self

    def __exit__(self, *_: object) -> None:
        return None


@pytest.fixture
def files(mounts: Layout, pg_server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[Daemon], tuple[keep.Files, list[str]]]:
    for name, value in POD.items():
        monkeypatch.setenv(name, value)
    taken: list[str] = []
    monkeypatch.setattr(logins, "connect", lambda where, known: Connected())
    monkeypatch.setattr(logins, "ensure_roles", lambda connection, known: taken.append(known.password) or [])

    def make(patroni: Daemon) -> tuple[keep.Files, list[str]]:
        return keep.Files(patroni, mounts, pg_server, settings.configuration(mounts, pg_server, os.environ)), taken

    return make


def test_b08_a_new_password_reaches_the_server_once(files: Any, mounts: Layout) -> None:
    patroni = Daemon()
    keeper, taken = files(patroni)
    keeper.turn()
    keeper.turn()
    assert taken == ["pw-user"]
    (mounts.credentials / "password").write_text("another")
    keeper.turn()
    keeper.turn()
    assert taken == ["pw-user", "another"]
    assert patroni.reloads == 0  # Patroni has no use for a tenant's password


def test_new_settings_and_internal_passwords_reach_patroni(files: Any, mounts: Layout) -> None:
    patroni = Daemon()
    keeper, _ = files(patroni)
    (mounts.internal / "rest-password").write_text("another")
    keeper.turn()
    keeper.turn()
    assert (patroni.reloads, patroni.woken) == (1, 1)
    assert json.decode(mounts.configuration.read_bytes())["restapi"]["authentication"]["password"] == "another"
    content = json.decode((mounts.settings / "patroni.json").read_bytes())
    del content["bootstrap"]  # it formed: only a first start would have read it
    (mounts.settings / "patroni.json").write_bytes(json.encode(content))
    keeper.turn()
    assert patroni.reloads == 1


@pytest.mark.parametrize("patroni", [Daemon(leader=False), Daemon(role="replica"), Daemon(state="starting")])
def test_only_a_running_primary_with_the_lock_sets_passwords(files: Any, patroni: Daemon) -> None:
    keeper, taken = files(patroni)
    keeper.turn()
    assert taken == []


def test_a_stale_label_is_found_on_others_only() -> None:
    def pod(role: str | None) -> Any:
        return SimpleNamespace(metadata=SimpleNamespace(labels={"role": role} if role else None))

    pods = {"orders-0": pod("primary"), "orders-1": pod("primary"), "orders-2": pod("replica"), "orders-3": pod(None)}
    assert keep.stale(pods, "role", "orders-0") == ["orders-1"]


# --- the daemon's extensions


class Store:
    """As much of Patroni's store as a member changes: what was written, and who wins a race."""

    def __init__(self, members: int, wins: bool = True) -> None:
        self.written: list[dict[str, Any]] = []
        self.wins, self.cancelled = wins, 0
        own = SimpleNamespace(data={"xlog_location": 1, "state": "running"})
        self.cluster = SimpleNamespace(
            members=[own] * members, get_member=lambda name, fallback: own, initialize="", is_unlocked=lambda: True
        )

    def touch(self, data: dict[str, Any]) -> bool:
        self.written.append(data)
        return True

    def initialize(self, create_new: bool, sysid: str) -> bool:
        return self.wins

    def get_cluster(self) -> Any:
        return self.cluster

    def cancel_initialization(self) -> None:
        self.cancelled += 1


def a_member(store: Store, pg_server: Server, cleared: str | None = None) -> Any:
    from agent.postgresql.member import Member

    made = Member.__new__(Member)
    made.dcs, made.config, made.found, made.cleared = store, {"name": "orders-0"}, pg_server, cleared
    made._touch, made._initialize = store.touch, store.initialize
    return made


@pytest.mark.parametrize(("members", "position"), [(1, 1), (3, 2)])
def test_a_single_member_does_not_write_each_position(pg_server: Server, members: int, position: int) -> None:
    store = Store(members)
    a_member(store, pg_server).touch_member({"xlog_location": 2, "state": "running"})
    assert store.written == [{"xlog_location": position, "state": "running"}]


@pytest.mark.parametrize(("wins", "sysid", "marked"), [(True, "", True), (False, "", False), (True, "7711618459600317634", False)])
def test_a_first_start_is_marked_before_it_is_entered(pg_server: Server, wins: bool, sysid: str, marked: bool) -> None:
    made = a_member(Store(1, wins), pg_server)
    pg_server.unfinished.parent.mkdir(parents=True)
    assert made.initialize(create_new=True, sysid=sysid) is wins
    assert pg_server.unfinished.exists() is marked


@pytest.mark.parametrize(("cleared", "holds", "cancelled"), [("first start", "", 1), ("first start", "77116184596", 0), ("clone", "", 0)])
def test_only_the_own_unfinished_race_is_given_up(pg_server: Server, cleared: str, holds: str, cancelled: int) -> None:
    store = Store(1)
    store.cluster.initialize = holds
    a_member(store, pg_server, cleared)._give_up_race()
    assert store.cancelled == cancelled


# --- the program


@pytest.mark.parametrize("argv", [[], ["fly"], ["run", "now"]])
def test_unknown_words_are_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert "usage" in capsys.readouterr().err


def test_everything_that_leaves_the_fork_becomes_an_exit_status(capfd: pytest.CaptureFixture[str]) -> None:
    assert init._guarded(lambda: 3) == 3
    assert init._guarded(lambda: sys.exit("bad configuration")) == 1
    assert init._guarded(lambda: sys.exit(None)) == 0
    assert init._guarded(lambda: [][0]) == 1
    assert "bad configuration" in capfd.readouterr().err


@pytest.mark.parametrize("number", sorted(init.FORWARDED))
def test_every_stop_signal_becomes_patronis_own(number: signal.Signals) -> None:
    assert init.FORWARDED[number] is (signal.SIGHUP if number is signal.SIGHUP else signal.SIGTERM)


@pytest.mark.parametrize(
    ("state", "failures", "ready"), [("running", 0, True), ("running", 1, False), ("starting", 0, False), ("crashed", 0, False)]
)
def test_a_leader_whose_server_is_down_is_not_ready(state: str, failures: int, ready: bool) -> None:
    from agent.postgresql.member import unready

    patroni = Daemon(state=state)
    patroni.watch = SimpleNamespace(failures=failures)
    assert (unready(patroni) is None) is ready


def test_the_server_is_started_as_an_orphan() -> None:
    from multiprocessing import Pipe

    here, there = Pipe(False)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    process = postmaster.Process(target=None, args=(there, ["sleep", "60"], environment))
    process.start()
    process.join()
    pid = here.recv()
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        assert int(stat[1]) != os.getpid()  # its parent
        assert int(stat[3]) == pid  # its session
        assert Path(f"/proc/{pid}/fd/1").readlink() == Path(f"/proc/{pid}/fd/2").readlink()
    finally:
        os.kill(pid, signal.SIGKILL)
    broken = postmaster.Process(target=None, args=(there, ["/nowhere/postgres"], environment))
    broken.start()
    assert here.recv() is None


def test_what_the_files_say_of_durability() -> None:
    rows = [("fsync", "on", False), ("fsync", "OFF", True), ("full_page_writes", "off", False), ("Work_Mem", "4MB", True)]
    assert report.durability(rows) == {"fsync": "off"}


def test_parameters_that_the_server_does_not_take() -> None:
    rows = [
        ("Work_Mem", None),
        ("max_connections", report.WAITS_FOR_RESTART),
        ("jit", "parameter jit requires a Boolean value"),
        ("x.y", None),
        (None, "syntax error"),
    ]
    wanted = ["work_mem", "max_connections", "jit", "x.y", "max_conections"]
    assert report.untaken(wanted, rows) == {
        "jit": "parameter jit requires a Boolean value",
        "max_conections": "this server has no such parameter, or it does not take the value",
    }


def test_patroni_has_the_names_that_are_set_in_it() -> None:
    """Setting a name that a newer Patroni no longer reads would do nothing, and say nothing."""
    source = inspect.getsource(importlib.import_module("patroni.postgresql"))
    assert "time.sleep(STOP_POLLING_INTERVAL)" in source
    assert "in polling_loop(wait_seconds)" in source


@pytest.mark.parametrize(("looks", "early"), [(2, False), (10**6, True)])
def test_the_lock_is_given_up_early_only_where_the_server_takes_long_to_end(
    monkeypatch: pytest.MonkeyPatch, looks: int, early: bool
) -> None:
    member = importlib.import_module("agent.postgresql.member")
    left = iter([True] * looks if looks < 100 else itertools.repeat(True))
    given_up: list[tuple[int, ...]] = []

    def stop(self: Any, mode: str, *, on_shutdown: Callable[[int, int], Any], **_: Any) -> bool:
        on_shutdown(7, 6)
        return True

    monkeypatch.setattr(member.MemberPostgresql.__bases__[0], "stop", stop)
    monkeypatch.setattr(member, "ENDS_SECONDS", 0.2)
    monkeypatch.setattr(member, "POLL_SECONDS", 0.01)
    server = member.MemberPostgresql.__new__(member.MemberPostgresql)
    server._postmaster_proc = SimpleNamespace(is_running=lambda: next(left, False))
    assert server.stop("fast", on_shutdown=lambda *positions: given_up.append(positions))
    assert given_up == ([(7, 6)] if early else [])
