"""Two operator processes; the leader is killed (kill -9) at random moments while Databases are being made."""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from database_operator.build import constants as c
from database_operator.kube import resources as r
from database_operator.reconcile.views import DATABASE
from localcluster import ControlPlane
from tests.reconcile.harness import Hub, hub, until
from tests.reconcile.scenario import VERSIONS

pytestmark = pytest.mark.apiserver

CHILDREN = (r.STATEFUL_SET, r.DEPLOYMENT, r.SERVICE, r.CONFIG_MAP, r.SERVICE_ACCOUNT, r.ROLE, r.ROLE_BINDING, r.SECRET)


class Operators:
    """Processes that compete for one Lease; ``kill`` ends the one that leads."""

    def __init__(self, at: Hub, log: Path) -> None:
        self._at, self._log = at, log.open("ab")
        self._running: list[subprocess.Popen[bytes]] = []
        self.started = 0

    def start(self) -> None:
        self.started += 1
        argv = [sys.executable, "-m", "database_operator", "run", "--kubeconfig", str(self._at.plane.kubeconfig), "--leader-elect"]
        argv += ["--namespace", self._at.namespace, "--leader-election-namespace", self._at.namespace, "--max-concurrent-reconciles", "4"]
        argv += ["--metrics-bind-address", "0", "--health-probe-bind-address", "0"]
        environment = {**os.environ, "POD_NAME": f"operator-{self.started}"}
        self._running.append(subprocess.Popen(argv, stderr=self._log, env=environment))

    async def kill_leader(self) -> bool:
        """Whether one was found: the Lease names it."""
        lease = await self._at.get(r.LEASE, "database-operator") if await self._at.exists(r.LEASE, "database-operator") else {}
        holder = lease.get("spec", {}).get("holderIdentity", "")
        number = holder.removeprefix("operator-").partition("_")[0]
        if not number.isdigit():
            return False
        process = self._running[int(number) - 1]
        if process.poll() is not None:
            return False
        process.kill()
        process.wait()
        # A killed leader's lease runs out by itself after 15 s; the test does not wait for it each time.
        await self._at.client.delete(r.LEASE, self._at.namespace, "database-operator")
        return True

    def stop(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.terminate()
        for process in self._running:
            process.wait(30)
        self._log.close()


def test_k01_the_leader_is_killed_at_moments_of_creation_and_change(control_plane: ControlPlane, tmp_path: Path) -> None:
    killing(control_plane, tmp_path / "operators.log", 6)


@pytest.mark.long
def test_k01_long_the_leader_is_killed_at_thirty_moments_of_creation_and_change(control_plane: ControlPlane, tmp_path: Path) -> None:
    killing(control_plane, tmp_path / "operators.log", 30)


def killing(control_plane: ControlPlane, log: Path, kills: int) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)

    async def scenario(at: Hub) -> None:
        operators = Operators(at, log)
        operators.start()
        killed, made = 0, 0
        deadline = time.monotonic() + 240
        try:
            while killed < kills:
                assert time.monotonic() < deadline, f"only {killed} leaders could be killed (seed {seed})"
                # two for each kill: on a busy machine an operator takes its time to lead
                for type_ in chance.sample(list(VERSIONS), 2) if made <= 2 * killed else ():
                    await at.create(f"db{made}", type_, VERSIONS[type_])
                    made += 1
                changed = chance.randrange(made)
                await at.change(f"db{changed}", env=[{"name": "KILLED", "value": str(killed)}], service={"labels": {"turn": str(killed)}})
                await asyncio.sleep(chance.uniform(0.0, 1.2))
                if await operators.kill_leader():
                    killed += 1
                    operators.start()
            for number in range(made):
                await at.phase(f"db{number}", "Ready", 90)
            await check(at, made)
        finally:
            operators.stop()

    async def main() -> None:
        async with hub(control_plane) as at:
            await scenario(at)

    asyncio.run(main())
    assert " 403 " not in log.read_text()


async def check(at: Hub, made: int) -> None:
    """Every child belongs to exactly one Database that is there, and none is there twice."""
    databases = {item["metadata"]["uid"]: item["metadata"]["name"] for item in await at.all(DATABASE)}
    assert len(databases) == made
    owned: Counter[tuple[str, str]] = Counter()
    for kind in CHILDREN:
        for child in await at.all(kind, f"{c.MANAGED_BY}={c.MANAGER}"):
            head = child["metadata"]
            if kind is r.SECRET:
                assert head["annotations"][c.DATABASE_UID] in databases, json.dumps(head)
            else:
                owners = [owner["uid"] for owner in head["ownerReferences"]]
                assert len(owners) == 1
                assert owners[0] in databases
                owned[databases[owners[0]], kind.kind] += 1
    workloads = {name: n for (name, kind), n in owned.items() if kind in ("StatefulSet", "Deployment")}
    assert workloads == dict.fromkeys(databases.values(), 1)

    async def one_pod_each() -> bool:
        pods = Counter(pod["metadata"]["labels"][c.INSTANCE] for pod in await at.all(r.POD))
        return pods == dict.fromkeys(databases.values(), 1)

    await until(one_pod_each, 20, lambda: "not one pod for each Database")
