"""The operator as a process of its own, and what the kernel says of it."""

import asyncio
import contextlib
import os
import re
import sys
import time
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from localcluster import ControlPlane
from localcluster.host import free_port

TICK = os.sysconf("SC_CLK_TCK")


class Operator:
    """``async with Operator(plane, folder, namespace, workers=8) as operator``: ready, with synced copies, and stopped at the end.

    ``folder`` takes the credentials and the log.
    """

    def __init__(self, plane: ControlPlane, folder: Path, namespace: str, *, workers: int, flags: tuple[str, ...] = ()) -> None:
        self._plane, self._folder = plane, folder
        self._metrics, self._health = free_port(), free_port()
        self._argv = [sys.executable, "-m", "bench.simulated", "run", "--namespace", namespace]
        self._argv += ["--max-concurrent-reconciles", str(workers), "--log-level", "info"]
        self._argv += ["--metrics-bind-address", f"127.0.0.1:{self._metrics}", "--health-probe-bind-address", f"127.0.0.1:{self._health}"]
        self._argv += flags
        self.started_at = 0.0  # time.monotonic
        self.ready_after = 0.0  # seconds

    async def __aenter__(self) -> Self:
        account = self._folder / "account"
        account.mkdir(exist_ok=True)
        (account / "token").write_text(self._plane.token)
        (account / "ca.crt").write_bytes(self._plane.ca.read_bytes())
        server = urlsplit(self._plane.server)
        place = {
            "KUBERNETES_SERVICE_HOST": str(server.hostname),
            "KUBERNETES_SERVICE_PORT": str(server.port),
            "BENCH_ACCOUNT": str(account),
        }
        self._log = (self._folder / "operator.log").open("ab")
        self._session = aiohttp.ClientSession()
        self.started_at = time.monotonic()
        self._process = await asyncio.create_subprocess_exec(*self._argv, env=os.environ | place, stdout=self._log, stderr=self._log)
        try:
            await self._until_ready()
        except BaseException:
            await self.__aexit__()
            raise
        self.ready_after = time.monotonic() - self.started_at
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(35):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        await self._session.close()
        self._log.close()

    async def _until_ready(self) -> None:
        while time.monotonic() - self.started_at < 120:
            if self._process.returncode is not None:
                break
            with contextlib.suppress(aiohttp.ClientError):
                async with self._session.get(f"http://127.0.0.1:{self._health}/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)
        raise RuntimeError(f"the operator is not ready: see {self._folder / 'operator.log'}")

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of one metric's samples."""
        async with self._session.get(f"http://127.0.0.1:{self._metrics}/metrics") as answer:
            text = await answer.text()
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return sum(s.value for s in samples if s.name == name and all(s.labels.get(key) == value for key, value in labels.items()))

    def cpu(self) -> float:
        """Seconds of CPU used so far, the kernel's work for it included."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self, what: str = "VmRSS") -> float:
        """MiB; ``VmHWM`` is the peak so far."""
        found = re.search(rf"^{what}:\s+(\d+) kB", Path(f"/proc/{self._process.pid}/status").read_text(), re.MULTILINE)
        assert found
        return int(found[1]) / 1024
