"""The runtime against a real API server: its answers, its death, its silence, its forgetting, its storms."""

import asyncio
import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from database_operator.kube import auth, errors, informer
from database_operator.kube.auth import Connection
from database_operator.kube.client import Client
from database_operator.kube.controller import DONE, Controller, Result
from database_operator.kube.events import Recorder
from database_operator.kube.informer import Informer
from database_operator.kube.objects import Key, Meta, Object
from database_operator.kube.queue import Queue
from database_operator.kube.resources import CONFIG_MAP, DEPLOYMENT, EVENT, NAMESPACE, POD_DISRUPTION_BUDGET, SECRET
from localcluster import ControlPlane
from tests.kube.fault_proxy import Fault, FaultProxy
from tests.kube.support import client_of, config_map

pytestmark = pytest.mark.apiserver


class Data(msgspec.Struct, frozen=True, gc=False):
    metadata: Meta
    data: dict[str, str] = {}


@contextlib.asynccontextmanager
async def watched(client: Client, label: str, **options: Any) -> AsyncIterator[Informer[Data]]:
    """An informer of the ConfigMaps a test labels as its own, in sync."""
    copy = Informer(client, CONFIG_MAP, Data, label_selector=f"test={label}", **options)
    task = asyncio.create_task(copy.run())
    await asyncio.wait_for(copy.synced.wait(), 20)
    try:
        yield copy
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def labelled(label: str, name: str, value: str = "1", **extra: Any) -> dict[str, Any]:
    return config_map(f"{label}-{name}", labels={"test": label}, data={"v": value}, **extra)


async def until(condition: Callable[[], object], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def values(copy: Informer[Data]) -> dict[str, str]:
    return {found.metadata.name.rpartition("-")[2]: found.data["v"] for found in copy.all()}


def test_calls(plane: ControlPlane) -> None:
    async def main() -> None:
        async with client_of(plane) as client:
            assert b"gitVersion" in await client.get_raw("/version")
            made = await client.apply(CONFIG_MAP, labelled("calls", "a"))
            assert made.uid and made.labels == {"test": "calls"}
            again = await client.apply(CONFIG_MAP, labelled("calls", "a"))
            assert again.resource_version == made.resource_version, "an apply that changes nothing writes nothing"
            with pytest.raises(errors.Conflict, match="conflict with"):
                await client.apply(CONFIG_MAP, labelled("calls", "a", "2"), field_manager="another", force=False)
            with pytest.raises(errors.AlreadyExists):
                await client.create(CONFIG_MAP, labelled("calls", "a"))
            with pytest.raises(errors.Conflict):
                await client.update(CONFIG_MAP, labelled("calls", "a", "2", resourceVersion="1", uid=made.uid))
            with pytest.raises(errors.Conflict):
                await client.patch(CONFIG_MAP, "default", "calls-a", {"metadata": {"resourceVersion": "1"}, "data": {"v": "3"}})
            patched = await client.patch(CONFIG_MAP, "default", "calls-a", {"data": {"v": "4", "w": None}})
            assert int(patched.resource_version) > int(made.resource_version)
            found = await client.get(CONFIG_MAP, "default", "calls-a", type=dict)
            assert found["data"] == {"v": "4"}
            with pytest.raises(errors.Invalid):
                await client.patch(CONFIG_MAP, "default", "calls-a", [{"op": "test", "path": "/data/v", "value": "no"}])
            await client.patch(CONFIG_MAP, "default", "calls-a", [{"op": "replace", "path": "/data/v", "value": "5"}])
            for guard in {"uid": "another"}, {"resource_version": made.resource_version}:
                with pytest.raises(errors.Conflict):
                    await client.delete(CONFIG_MAP, "default", "calls-a", **guard)
            assert await client.delete(CONFIG_MAP, "default", "calls-a", uid=made.uid)
            assert not await client.delete(CONFIG_MAP, "default", "calls-a")

    asyncio.run(main())


def test_lists(plane: ControlPlane) -> None:
    async def main() -> None:
        async with client_of(plane) as client:
            for i in range(7):
                await client.apply(CONFIG_MAP, labelled("lists", str(i)))
            found = await client.list(CONFIG_MAP, "default", type=Data, label_selector="test=lists")
            assert [obj.data["v"] for obj in found] == ["1"] * 7
            pages = [page async for page in client.pages(CONFIG_MAP, query="labelSelector=test%3Dlists", metadata_only=True, limit=3)]
            assert [(len(page.items), page.more) for page in pages] == [(3, True), (3, True), (1, False)]
            assert b'"data"' not in bytes(pages[0].items[0])
            assert len({page.resource_version for page in pages}) == 1
            named = await client.list(CONFIG_MAP, "default", type=Object, field_selector="metadata.name=lists-3")
            assert [obj.metadata.name for obj in named] == ["lists-3"]

    asyncio.run(main())


def test_status_is_a_subresource(plane: ControlPlane) -> None:
    async def main() -> None:
        pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "default", "name": "status"}}
        spec = {**deployment, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pod}}
        status = {**deployment, "status": {"observedGeneration": 1, "replicas": 3}}
        async with client_of(plane) as client:
            with pytest.raises(errors.NotFound):
                await client.apply_status(DEPLOYMENT, status)
            made = await client.apply(DEPLOYMENT, spec)
            written = await client.apply_status(DEPLOYMENT, status)
            assert (written.uid, written.generation) == (made.uid, 1)
            assert (await client.get(DEPLOYMENT, "default", "status", type=dict))["status"]["replicas"] == 3

    asyncio.run(main())


def test_refusals(plane: ControlPlane) -> None:
    async def main() -> None:
        async with client_of(plane) as client:
            for manifest in config_map("Not_A_Name"), config_map("x", labels={"a": "not valid!"}):
                with pytest.raises(errors.Invalid, match="Invalid value"):
                    await client.apply(CONFIG_MAP, manifest)
            budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "x", "namespace": "default"}}
            with pytest.raises(errors.ApiError, match="field not declared in schema"):
                await client.apply(POD_DISRUPTION_BUDGET, {**budget, "spec": {"noSuchField": 1}})
            with pytest.raises(errors.NotFound):
                await client.create(CONFIG_MAP, config_map("x", "no-such-namespace"))
            await client.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "going"}})
            await client.delete(NAMESPACE, None, "going")
            with pytest.raises(errors.Forbidden) as caught:
                await client.apply(CONFIG_MAP, config_map("x", "going"))
            assert caught.value.causes == ("NamespaceTerminating",)
            plane.kubectl("create", "serviceaccount", "nobody")
            token = plane.kubectl("create", "token", "nobody").strip()
            nobody = Connection(plane.server, lambda: client._connection.ssl_context, auth._fixed(f"Bearer {token}"))
            async with client_of(nobody) as powerless:
                with pytest.raises(errors.Forbidden, match="cannot list resource"):
                    await powerless.list(SECRET, "default", type=Object)
            stranger = Connection(plane.server, lambda: client._connection.ssl_context, auth._fixed("Bearer wrong"))
            async with client_of(stranger) as unknown:
                with pytest.raises(errors.ApiError, match="401"):
                    await unknown.list(SECRET, "default", type=Object)

    asyncio.run(main())


def test_reading_ones_own_writes(plane: ControlPlane) -> None:
    async def main() -> None:
        async with client_of(plane) as client, watched(client, "own") as copy:
            for i in range(50):
                written = await client.apply(CONFIG_MAP, labelled("own", str(i % 5), str(i)))
                assert await copy.wait_for(written.key, written.resource_version, 5)
                found = copy.get(*written.key)
                assert found is not None and found.data["v"] == str(i)
            written = await client.apply(CONFIG_MAP, labelled("own", "0", "45"))
            assert await copy.wait_for(written.key, written.resource_version, 0), "a write that changed nothing was seen before"

    asyncio.run(main())


def test_k17_a_server_that_is_killed_and_comes_again(plane: ControlPlane) -> None:
    async def main() -> None:
        changes: list[tuple[Any, Any]] = []
        async with client_of(plane) as client, watched(client, "killed") as copy:
            copy.on_change(lambda old, new: changes.append((old, new)))
            for name in "a", "b", "c":
                await client.apply(CONFIG_MAP, labelled("killed", name))
            await until(lambda: len(copy.all()) == 3)
            plane.kill("apiserver")
            with pytest.raises(errors.Unavailable):
                await client.apply(CONFIG_MAP, labelled("killed", "d"))
            await asyncio.to_thread(plane.restart, "apiserver")
            await client.apply(CONFIG_MAP, labelled("killed", "a", "2"))
            await client.delete(CONFIG_MAP, "default", "killed-b")
            await client.apply(CONFIG_MAP, labelled("killed", "d"))
            await until(lambda: values(copy) == {"a": "2", "c": "1", "d": "1"})
            assert sum(new is None for _, new in changes) == 1

    asyncio.run(main())


def test_a_server_that_freezes(plane: ControlPlane) -> None:
    async def main() -> None:
        async with client_of(plane, timeout=1.0) as client, watched(client, "frozen", inactivity=2.0) as copy:
            await client.apply(CONFIG_MAP, labelled("frozen", "a"))
            await until(lambda: values(copy) == {"a": "1"})
            plane.pause("apiserver")
            try:
                begun = time.monotonic()
                with pytest.raises(errors.Unavailable):
                    await client.apply(CONFIG_MAP, labelled("frozen", "a", "2"))
                assert time.monotonic() - begun < 3
                await asyncio.sleep(3)
                assert asyncio.get_running_loop().time() - copy.last_heard > 2, "silence must show"
            finally:
                plane.resume("apiserver")
            await client.apply(CONFIG_MAP, labelled("frozen", "a", "3"))
            await until(lambda: values(copy) == {"a": "3"})

    asyncio.run(main())


def test_k12_a_history_that_is_compacted_away(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(informer, "BACKOFF", (0.1, 0.5))

    async def main() -> None:
        proxy = FaultProxy(auth.load(str(plane.kubeconfig)))
        async with proxy.serve(), client_of(plane) as direct, client_of(proxy.connection) as client:
            for name in "a", "b":
                await direct.apply(CONFIG_MAP, labelled("compacted", name))
            async with watched(client, "compacted") as copy:
                away = True
                proxy.fault = lambda method, path: "cut" if away else None
                proxy.cut_watches()
                pages = direct.pages(CONFIG_MAP, query="labelSelector=test%3Dcompacted", limit=1)
                assert (await anext(pages)).more
                await direct.delete(CONFIG_MAP, "default", "compacted-a")
                await direct.apply(CONFIG_MAP, labelled("compacted", "b", "2"))
                await direct.apply(CONFIG_MAP, labelled("compacted", "c"))
                await asyncio.sleep(3)  # two rounds of compaction …
                await asyncio.to_thread(plane.restart, "apiserver")  # … and the watch cache forgets as well
                with pytest.raises(errors.Gone):
                    await anext(pages)
                lists = proxy.count("LIST")
                away = False
                await until(lambda: values(copy) == {"b": "2", "c": "1"})
                assert proxy.count("LIST") == lists + 1
                await direct.apply(CONFIG_MAP, labelled("compacted", "c", "2"))
                await until(lambda: values(copy) == {"b": "2", "c": "2"})

    asyncio.run(main())


def test_k12_a_connection_lost_in_the_middle_of_a_watch(plane: ControlPlane) -> None:
    async def main() -> None:
        proxy = FaultProxy(auth.load(str(plane.kubeconfig)))
        async with proxy.serve(), client_of(plane) as direct, client_of(proxy.connection) as client, watched(client, "lost") as copy:
            for i in range(5):
                await direct.apply(CONFIG_MAP, labelled("lost", "a", str(i)))
                await until(lambda i=i: values(copy) == {"a": str(i)})  # type: ignore[misc]
                proxy.cut_watches()
            assert proxy.count("LIST") == 1
            await until(lambda: proxy.count("WATCH") == 6)

    asyncio.run(main())


def test_k15_k16_a_storm_of_429_and_5xx_and_lost_answers(plane: ControlPlane) -> None:
    async def main() -> None:
        dice = random.Random(1)

        def storm(method: str, path: str) -> Fault:
            chance = dice.random()
            faults: list[Fault] = [429, 500, 503, 504, "cut", "late cut"]
            return dice.choice(faults) if chance < 0.25 and method != "LIST" else None

        proxy = FaultProxy(auth.load(str(plane.kubeconfig)))
        async with proxy.serve(), client_of(plane) as direct, client_of(proxy.connection) as client:
            applied: dict[Key, str] = {}

            async def reconcile(key: Key) -> Result:
                written = await client.apply(CONFIG_MAP, labelled("storm", key.name))
                assert applied.setdefault(key, written.uid) == written.uid, "made twice"
                return DONE

            async with watched(client, "storm") as copy:
                proxy.fault = storm
                queue: Queue[Key] = Queue("storm")
                controller = Controller("storm", reconcile, queue, workers=8)
                running = asyncio.create_task(controller.run())
                for i in range(150):
                    queue.add(Key("default", str(i)))
                await until(lambda: len(applied) == 150, 30)
                assert client.limiter.limit <= 16
                proxy.fault = lambda method, path: None
                await until(lambda: len(values(copy)) == 150)
                await controller.stop(5)
                await running
            assert len(await direct.list(CONFIG_MAP, "default", type=Object, label_selector="test=storm")) == 150

    asyncio.run(main())


def test_k07_two_leaders_one_of_them_stopped_for_a_while(plane: ControlPlane) -> None:
    def start(identity: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "tests.kube.leader_process", str(plane.kubeconfig), identity]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])

    async def main() -> None:
        signed: list[str] = []
        async with client_of(plane) as client:
            copy = Informer(client, CONFIG_MAP, Data, namespaces=["default"])
            copy.on_change(lambda old, new: signed.append(new.data["by"]) if new and new.metadata.name == "signed" else None)
            task = asyncio.create_task(copy.run())
            processes = [start("a")]
            try:
                assert processes[0].stdout and await asyncio.to_thread(processes[0].stdout.readline) == "leading\n"
                processes.append(start("b"))
                await until(lambda: len(signed) > 5)
                processes[0].send_signal(signal.SIGSTOP)
                await until(lambda: "b" in signed)
                processes[0].send_signal(signal.SIGCONT)
                said = await asyncio.to_thread(processes[0].stdout.read)
                assert "lost: lease leader was not renewed" in said
                await asyncio.sleep(0.5)
                first = signed.index("b")
                assert set(signed[:first]) == {"a"}
                assert set(signed[first:]) == {"b"}, "the one that was stopped wrote when it woke up"
            finally:
                for process in processes:
                    process.kill()
                    process.communicate()
                task.cancel()

    asyncio.run(main())


def test_events(plane: ControlPlane) -> None:
    async def main() -> None:
        async with client_of(plane) as client:
            made = await client.apply(CONFIG_MAP, labelled("events", "a"))
            recorder = Recorder(client, component="database-operator", identity="test")
            task = asyncio.create_task(recorder.run())
            about = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": made.name, "uid": made.uid}}
            recorder.record(about, "Warning", "SecretNotFound", "Secret x is not there")

            async def count() -> list[int]:
                found = await client.list(EVENT, "default", type=dict, field_selector=f"involvedObject.uid={made.uid}")
                return [event["count"] for event in found]

            await reached(count, [1])
            (series,) = recorder._series.values()
            series.written_at = float("-inf")
            recorder.record(about, "Warning", "SecretNotFound", "Secret x is not there")
            await reached(count, [2])
            assert recorder.dropped == 0
            task.cancel()

    asyncio.run(main())


async def reached(read: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    async with asyncio.timeout(10):
        while await read() != wanted:
            await asyncio.sleep(0.05)


def test_figures(plane: ControlPlane, capsys: pytest.CaptureFixture[str]) -> None:
    """CPU of one apply on the client's side, and memory after the imports; printed, not judged."""

    async def main() -> tuple[float, float]:
        async with client_of(plane) as client:
            await client.apply(CONFIG_MAP, labelled("figures", "first"))
            cpu, begun = time.process_time(), time.monotonic()
            async with asyncio.TaskGroup() as group:
                for i in range(500):
                    group.create_task(client.apply(CONFIG_MAP, labelled("figures", str(i))))
            return (time.process_time() - cpu) / 500, 500 / (time.monotonic() - begun)

    cpu, rate = asyncio.run(main())
    modules = ", ".join(
        f"database_operator.kube.{name}" for name in ("auth", "client", "controller", "events", "informer", "lease", "logs")
    )
    script = f"import {modules}, re; print(re.search(r'VmRSS:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    resident = int(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout) / 1024
    with capsys.disabled():
        print(f"\napply: {cpu * 1000:.2f} ms CPU each, {rate:.0f}/s with 16 in flight; kube imported: {resident:.1f} MiB resident")
    assert resident < 60
