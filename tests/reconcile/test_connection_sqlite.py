"""How the operator asks SQLite's server: the real one, over loopback."""

import asyncio
import contextlib
import subprocess
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from database_operator.api.database import Database, Metadata, Resolved, resolve
from database_operator.api.spec import DatabaseSpec
from database_operator.api.status import Role
from database_operator.engines.base import Command, Member, Observation, Platform, Probe
from database_operator.engines.sqlite import config
from database_operator.engines.sqlite.topology import topology
from database_operator.reconcile.connections.base import Target, Unreachable
from database_operator.reconcile.connections.sqlite import CONNECTION

ADDRESS = "127.0.0.77"  # of loopback's own range, so that the engine's fixed port is free
POD = Member(pod="app-1", ip=ADDRESS, ready=True, running=True)


def database(**parameters: Any) -> Resolved:
    content = {"type": "SQLite", "version": "latest", "sqlite": {"parameters": parameters}}
    return resolve(Database(metadata=Metadata(name="app", namespace="shop", uid="u"), spec=msgspec.convert(content, DatabaseSpec)))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("sqlite")
    settings = msgspec.json.decode(config.settings(database())) | {"databaseFile": f"{folder}/data/app.db"}
    (folder / "token").write_text("right")
    (folder / "sqlite.json").write_text(msgspec.json.encode(settings).decode())
    Path(folder / "data").mkdir()
    words = ["--settings", f"{folder}/sqlite.json", "--token-file", f"{folder}/token", "--data", f"{folder}/data", "--address", ADDRESS]
    process = subprocess.Popen([sys.executable, "-m", "agent", "sqlite", "run", *words])
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{ADDRESS}:8080/-/healthz", timeout=5):
                break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0


def asked(work: Callable[[Target], Awaitable[Any]], password: str = "right") -> Any:
    async def body() -> Any:
        async with aiohttp.ClientSession() as session:
            platform = Platform(agent_image="a")
            target = Target(database=database(), platform=platform, session=session, members=(POD,), credentials={"password": password})
            return await work(target)

    return asyncio.run(body())


def probe(password: str = "right") -> Probe:
    found = asked(lambda target: CONNECTION.probe(target, POD), password)
    assert isinstance(found, Probe)
    return found


def observed(found: Probe) -> Observation:
    return Observation(members=(msgspec.structs.replace(POD, reached=True, role=found.role, facts=found.facts),))


@pytest.mark.usefixtures("server")
def test_a_changed_parameter_comes_to_be_in_force_and_a_removed_one_goes() -> None:
    assert CONNECTION.command is not None
    run = CONNECTION.command
    for wanted in (database(foreign_keys="on", journal_mode="DELETE"), database()):
        step = topology(wanted, observed(probe()))
        assert isinstance(step, Command)
        # the settings name the file of the pod; the server keeps the one it has open
        asked(lambda target, step=step: run(target, step))
        found = probe()
        assert found.facts["pragmas"] == config.pragmas(wanted)
        assert topology(wanted, observed(found)) is None


@pytest.mark.usefixtures("server")
def test_what_a_probe_says() -> None:
    found = probe()
    assert found.role is Role.PRIMARY
    assert found.version
    assert found.cluster_id == probe().cluster_id


@pytest.mark.usefixtures("server")
def test_a_server_that_has_the_old_token_is_reached() -> None:
    assert probe(password="new").facts == {"login": "refused"}


@pytest.mark.usefixtures("server")
def test_settings_that_are_refused_give_a_reason() -> None:
    assert CONNECTION.command is not None
    run = CONNECTION.command
    bad = Command("configure", "app-1", {"settings": '{"databaseFile":"x","pragmas":{"key":"1"}}'})
    with pytest.raises(Unreachable, match="HTTP 400"):
        asked(lambda target: run(target, bad))


def test_nobody_there() -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        asked(lambda target: CONNECTION.probe(target, msgspec.structs.replace(POD, ip="127.0.0.79")))
    with pytest.raises(Unreachable, match="no address"):
        asked(lambda target: CONNECTION.probe(target, msgspec.structs.replace(POD, ip=None)))
