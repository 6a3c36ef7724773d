"""What can happen to a database. Each fault is there while its block runs, and is undone when the block ends."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from msgspec import Struct

from bench.faults.clients.base import Client
from bench.faults.partition import cut_off
from bench.faults.site import PREFIX, Database, without_operator
from localcluster import ClusterError

PARTITION_SECONDS = 120  # after which the kernel forgets a partition that nobody ended


class Scene(Struct, frozen=True):
    """``pids``: the victim's server processes, parent first, ``agent_pids`` the others of its container; looking takes a while."""

    database: Database
    client: Client
    victim: str
    pids: list[int]
    agent_pids: list[int]

    @property
    def address(self) -> str:
        return self.database.address(self.victim)


class Fault(Struct, frozen=True):
    """``hold``: seconds that it lasts."""

    inject: Callable[[Scene], AbstractContextManager[None]]
    hold: float = 0.0
    replaces: bool = False  # every pod: it is over when none of those before is left
    moves: bool = False  # it is over when another member is the primary, however long nothing happens
    members: int = 0  # at the beginning; 0: as many as the engine's table has
    plain: bool = False  # no member is its victim, and clients come through the Service alone


def scene(database: Database, client: Client, victim: str) -> Scene:
    """With the processes of the victim's database container; the oldest is the parent of the others."""
    pids = database.cluster.pod_pids(database.namespace, victim, "database") if victim else []
    servers = [pid for pid in pids if not client.process or _runs(pid, client.process)]
    return Scene(database, client, victim, servers, [pid for pid in pids if pid not in servers])


def _runs(pid: int, process: str) -> bool:
    """By the name that it was started as: its file may be called otherwise, as Debian's redis-server is redis-check-rdb."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == process
    except OSError:
        return False


def _send(pids: list[int], number: signal.Signals) -> None:
    """Raises ClusterError where there is nobody: a fault that did not happen must not count."""
    if not pids:
        raise ClusterError("the victim has no such process")
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _delete(grace: int) -> Callable[[Scene], AbstractContextManager[None]]:
    @contextmanager
    def inject(scene: Scene) -> Iterator[None]:
        force = ["--force"] if grace == 0 else []
        scene.database.kubectl("delete", "pod", scene.victim, f"--grace-period={grace}", "--wait=false", *force)
        yield

    return inject


@contextmanager
def kill(scene: Scene) -> Iterator[None]:
    """SIGKILL to the server's first process."""
    _send(scene.pids[:1], signal.SIGKILL)
    yield


@contextmanager
def _stopped(pids: list[int]) -> Iterator[None]:
    """Those that are left go on at the end."""
    started = {pid: _started(pid) for pid in pids}
    _send(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        left = [pid for pid in pids if started[pid] and _started(pid) == started[pid]]
        if left:
            _send(left, signal.SIGCONT)


def stop(scene: Scene) -> AbstractContextManager[None]:
    """SIGSTOP to every process of the server: connections stay open and get no answer."""
    return _stopped(scene.pids)


def stop_agent(scene: Scene) -> AbstractContextManager[None]:
    """SIGSTOP to what watches the server, which itself goes on."""
    return _stopped(scene.agent_pids)


def _started(pid: int) -> str:
    """When the process began: a pid may be somebody else's by now."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _partition(side: str) -> Callable[[Scene], AbstractContextManager[None]]:
    @contextmanager
    def inject(scene: Scene) -> Iterator[None]:
        pods = scene.database.pods.objects
        others = [pod["status"]["podIP"] for name, pod in pods.items() if name != scene.victim and pod["status"].get("podIP")]
        with cut_off(scene.database.cluster, side, scene.address, others, PARTITION_SECONDS):
            yield

    return inject


@contextmanager
def lose_volume(scene: Scene) -> Iterator[None]:
    scene.database.kubectl("delete", "persistentvolumeclaim", f"data-{scene.victim}", "--wait=false")
    scene.database.kubectl("delete", "pod", scene.victim, "--grace-period=0", "--force", "--wait=false")
    yield


@contextmanager
def operator_down(scene: Scene) -> Iterator[None]:
    with without_operator(scene.database.cluster):
        yield


@contextmanager
def api_server_down(scene: Scene) -> Iterator[None]:
    """It keeps its connections and answers nothing."""
    cluster = scene.database.cluster
    cluster.pause("apiserver")
    try:
        yield
    finally:
        cluster.resume("apiserver")


@contextmanager
def kill_unseen(scene: Scene) -> Iterator[None]:
    """The server is killed while the API server answers nobody."""
    with api_server_down(scene), kill(scene):
        yield


@contextmanager
def all_pods(scene: Scene) -> Iterator[None]:
    scene.database.kubectl("delete", "pod", "--all", "--grace-period=0", "--force", "--wait=false")
    yield


@contextmanager
def rolling_restart(scene: Scene) -> Iterator[None]:
    request = f"{PREFIX}restartedAt={time.time():.0f}"
    scene.database.kubectl("annotate", "database", scene.database.name, request, "--overwrite")
    yield


@contextmanager
def switchover(scene: Scene) -> Iterator[None]:
    """By the annotation on the Database."""
    request = f"{PREFIX}switchover={scene.client.heir()}@{time.time():.0f}"
    scene.database.kubectl("annotate", "database", scene.database.name, request, "--overwrite")
    yield


@contextmanager
def engine_switchover(scene: Scene) -> Iterator[None]:
    scene.client.switch()
    yield


@contextmanager
def scale(scene: Scene) -> Iterator[None]:
    """1 -> 3 -> 5 -> 3 -> 1 members."""
    database = scene.database
    for members in (3, 5, 3, 1):
        database.kubectl("patch", "database", database.name, "--type=merge", "--patch", json.dumps({"spec": {"replicas": members}}))
        database.wait(f"{members} members", lambda members=members: len(database.members()) == members and database.whole(), 600)  # type: ignore[misc]
    yield


@contextmanager
def evict(scene: Scene) -> Iterator[None]:
    """As ``kubectl drain`` asks for it; refused while the PodDisruptionBudget forbids it."""
    path = f"/api/v1/namespaces/{scene.database.namespace}/pods/{scene.victim}/eviction"
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": scene.victim}}
    status, answer = scene.database.cluster.parts.api.call("POST", path, body)
    if status >= 300:
        raise ClusterError(f"the eviction was refused: {status} {answer.decode(errors='replace')[:200]}")
    yield


FAULTS = {
    "switchover": Fault(switchover, moves=True),
    "engine-switchover": Fault(engine_switchover, moves=True),
    "evict": Fault(evict, moves=True),
    "delete-pod": Fault(_delete(30)),
    "delete-pod-now": Fault(_delete(0)),
    "kill": Fault(kill),
    "hang": Fault(stop, hold=30.0),
    "hang-agent": Fault(stop_agent, hold=45.0),
    "partition-all": Fault(_partition("all"), hold=45.0),
    "partition-peers": Fault(_partition("peers"), hold=45.0),
    "partition-clients": Fault(_partition("clients"), hold=20.0),
    "partition-api": Fault(_partition("api"), hold=45.0),
    "volume-lost": Fault(lose_volume),
    "operator-down": Fault(operator_down, hold=20.0),
    "api-server-down": Fault(api_server_down, hold=45.0),
    "kill-unseen": Fault(kill_unseen, hold=20.0),
    "all-pods": Fault(all_pods, replaces=True),
    "rolling-restart": Fault(rolling_restart, replaces=True),
    "scale": Fault(scale, members=1, plain=True),
}
