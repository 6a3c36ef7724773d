"""Which of several processes leads, by a coordination.k8s.io/v1 Lease as client-go's leader election keeps it.

The leader renews; a candidate takes over once the record has not changed for its ``leaseDurationSeconds`` of the
candidate's own clock, so no two machines' clocks are ever compared. The clock is CLOCK_BOOTTIME: it goes on while
the machine sleeps, as the others' clocks do.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from database_operator.kube import metrics
from database_operator.kube.client import Client
from database_operator.kube.errors import AlreadyExists, ApiError, Conflict, NotFound
from database_operator.kube.resources import LEASE

log = logging.getLogger(__name__)


class LeaseLost(Exception):
    """This process no longer leads and must end its role at once."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. The first two are client-go's defaults.

    Between ``renew_deadline``, after which the leader begins no write, and ``duration``, after which another may
    lead, requests under way have their time to arrive.
    """

    duration: float = 15.0
    renew_deadline: float = 10.0
    renew_every: float = 3.0
    retry: float = 2.0


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """A role named ``name``; ``identity`` must be no other process's, not even an earlier one of the same pod."""

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        name: str,
        identity: str,
        timing: Timing = Timing(),  # noqa: B008 frozen
        clock: Callable[[], float] = boottime,
    ) -> None:
        self.identity = identity
        self._client = client.reserved(timeout=timing.renew_deadline / 2)
        self._namespace, self._name = namespace, name
        self._timing = timing
        self._clock = clock
        self._renewed_at = float("-inf")
        self._record: dict[str, Any] = {}
        self._observed_at = float("-inf")
        self._leading = metrics.LEADER.labels(name)
        self._leading.set(0)

    def may_write(self) -> bool:
        """False once another process may be about to lead. To be asked right before each write."""
        return self._clock() < self._renewed_at + self._timing.renew_deadline

    async def acquire(self) -> None:
        """Wait until this process leads."""
        while True:
            try:
                if await self._take():
                    break
            except (Conflict, AlreadyExists):
                log.debug("another process took the lease first", extra={"lease": self._name})
            except ApiError as error:
                log.info("lease not reached", extra={"lease": self._name, "error": str(error)})
            await asyncio.sleep(self._timing.retry * random.uniform(1.0, 1.2))  # noqa: S311 spreads the load, guards nothing
        self._leading.set(1)
        log.info("leading", extra={"lease": self._name, "identity": self.identity})

    async def hold(self) -> None:
        """Renew until cancelled. Raises LeaseLost when another holds it, or none could be asked for too long."""
        pause = self._timing.renew_every
        try:
            while True:
                await asyncio.sleep(pause)
                if not self.may_write():
                    raise LeaseLost(f"lease {self._name} was not renewed for {self._timing.renew_deadline:g} s")
                pause = self._timing.renew_every if await self._renew() else self._timing.retry / 2
        except LeaseLost:
            self._renewed_at = float("-inf")
            raise
        finally:
            self._leading.set(0)

    async def release(self) -> None:
        """Let the next candidate lead at once. To be called when no write is under way any more."""
        holds = self.may_write()
        self._renewed_at = float("-inf")
        try:
            if holds:
                await self._free()
                log.info("lease released", extra={"lease": self._name})
        except ApiError as error:
            log.info("lease not released", extra={"lease": self._name, "error": str(error)})
        finally:
            await self._client.close()

    async def _free(self) -> None:
        try:
            await self._put(None)
        except Conflict:  # a renewal that was cancelled on its way has arrived all the same
            self._record = await self._client.get(LEASE, self._namespace, self._name, type=dict)
            if self._holder() == self.identity:
                await self._put(None)

    async def _renew(self) -> bool:
        """False if it is not known to be renewed and has to be tried again soon."""
        left = self._renewed_at + self._timing.renew_deadline - self._clock()
        try:
            async with asyncio.timeout(min(left, self._timing.renew_deadline / 2)):
                try:
                    await self._put(self.identity)
                except (Conflict, NotFound):  # somebody wrote to it, or deleted it: see who leads
                    if not await self._take():
                        raise LeaseLost(f"lease {self._name} is held by {self._holder()}") from None
        except (ApiError, TimeoutError) as error:
            log.info("lease not renewed", extra={"lease": self._name, "error": str(error) or "no answer in time"})
            return False
        return True

    async def _take(self) -> bool:
        """Read the record and make it ours unless another holds it. Raises Conflict or AlreadyExists if one was faster."""
        try:
            read = await self._client.get(LEASE, self._namespace, self._name, type=dict)
        except NotFound:  # perhaps deleted under a leader that does not know yet
            read = None
        if read is not None and read != self._record:
            self._record, self._observed_at = read, self._clock()
        seconds = self._record.get("spec", {}).get("leaseDurationSeconds") or self._timing.duration
        if self._holder() not in ("", self.identity) and self._clock() < self._observed_at + seconds:
            return False
        if read is None:
            self._record = {}
        await self._put(self.identity)
        return True

    async def _put(self, holder: str | None) -> None:
        """Write the record with ``holder`` (None: free), on top of the version last seen."""
        begun = self._clock()
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        old = self._record.get("spec", {})
        spec = {**old, "renewTime": now, "leaseDurationSeconds": int(self._timing.duration)}
        if holder is None:
            spec.pop("holderIdentity", None)
            spec["leaseDurationSeconds"] = 1
        elif holder != self._holder():
            spec.update(holderIdentity=holder, acquireTime=now, leaseTransitions=old.get("leaseTransitions", -1) + 1)
        metadata = {**self._record.get("metadata", {}), "namespace": self._namespace, "name": self._name}
        record = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}
        written = await (self._client.update if self._record else self._client.create)(LEASE, record)
        self._record = {**record, "metadata": {**metadata, "resourceVersion": written.resource_version}}
        if holder is not None:
            # From before the request left: others count from when they see it, which is later.
            self._renewed_at = begun

    def _holder(self) -> str:
        return str(self._record.get("spec", {}).get("holderIdentity") or "")
