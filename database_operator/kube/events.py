"""Events on objects, for people: best effort, never in the way of a pass."""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from database_operator.kube.client import Client
from database_operator.kube.errors import AlreadyExists, ApiError, NotFound, TooManyRequests, Unavailable
from database_operator.kube.resources import EVENT

log = logging.getLogger(__name__)

WAITING = 2000  # events not sent yet; more are dropped
REMEMBERED = 1024  # series and objects whose repeats are merged
PAUSES = (1.0, 5.0)  # seconds before another attempt, where one may help
REPEAT = 60.0  # seconds between two writes of one series
WINDOW = 600.0  # seconds of quiet after which a repeat is an event of its own; client-go's aggregation interval
BURST = 10  # events of one object at once …
REFILL = 60.0  # … and seconds until it may have another
NOTE_LIMIT = 1024  # characters; Kubernetes' own limit


class _What(NamedTuple):
    uid: str
    type: str
    reason: str
    note: str


class _Series:
    """One event and its repeats."""

    def __init__(self, what: _What, regarding: Mapping[str, str], action: str, now: float) -> None:
        self.what = what
        self.regarding = regarding
        self.action = action
        self.name = f"{regarding['name'][:200]}.{time.time_ns():x}"
        self.written = False
        self.first = self.last = datetime.now(UTC)
        self.count = 1
        self.heard_at = now
        self.written_at = float("-inf")
        self.waiting = True


class Recorder:
    """Writes core/v1 Events. ``record`` returns at once; ``run`` sends one after the other until cancelled."""

    def __init__(self, client: Client, *, component: str, identity: str) -> None:
        self.dropped = 0
        self._client = client
        self._component = component
        self._identity = identity
        self._series: OrderedDict[_What, _Series] = OrderedDict()
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()  # uid -> (tokens, when counted)
        self._queue: asyncio.Queue[_Series] = asyncio.Queue(WAITING)

    def record(self, regarding: Mapping[str, Any], type: str, reason: str, note: str, *, action: str = "") -> None:
        """Say ``note`` about an object: a manifest, or what of it names it (apiVersion, kind, metadata with uid).

        ``type`` is Normal or Warning; ``reason`` one CamelCase word. The same again within ten minutes is counted on
        the first event instead of making a new one. ``note`` must hold no secret.
        """
        metadata = regarding["metadata"]
        what = _What(metadata.get("uid", ""), type, reason, note[:NOTE_LIMIT])
        now = asyncio.get_running_loop().time()
        series = self._series.get(what)
        if series is not None and now - series.heard_at < WINDOW:
            self._repeat(series, now)
            return
        if not self._may(what.uid, now):
            self.dropped += 1
            return
        reference = {"apiVersion": regarding["apiVersion"], "kind": regarding["kind"], "uid": what.uid}
        reference.update((field, metadata[field]) for field in ("namespace", "name") if metadata.get(field))
        series = self._series[what] = _Series(what, reference, action or reason, now)
        if len(self._series) > REMEMBERED:
            self._series.popitem(last=False)
        self._enqueue(series)

    async def run(self) -> None:
        while True:
            series = await self._queue.get()
            series.waiting = False
            series.written_at = asyncio.get_running_loop().time()
            try:
                await self._send(series)
            except ApiError as error:
                self.dropped += 1
                log.debug("event not written", extra={"reason": series.what.reason, "error": str(error)})

    def _repeat(self, series: _Series, now: float) -> None:
        series.count += 1
        series.last = datetime.now(UTC)
        series.heard_at = now
        self._series.move_to_end(series.what)
        if not series.waiting:
            series.waiting = True
            asyncio.get_running_loop().call_at(max(now, series.written_at + REPEAT), self._enqueue, series)

    def _may(self, uid: str, now: float) -> bool:
        """A token bucket for each object."""
        tokens, counted = self._tokens.pop(uid, (float(BURST), now))
        tokens = min(BURST, tokens + (now - counted) / REFILL)
        self._tokens[uid] = (tokens - 1 if tokens >= 1 else tokens, now)
        if len(self._tokens) > REMEMBERED:
            self._tokens.popitem(last=False)
        return tokens >= 1

    def _enqueue(self, series: _Series) -> None:
        try:
            self._queue.put_nowait(series)
        except asyncio.QueueFull:
            self.dropped += 1
            series.waiting = False

    async def _send(self, series: _Series) -> None:
        for pause in PAUSES:
            try:
                await self._write(series)
            except (Unavailable, TooManyRequests):
                await asyncio.sleep(pause)
            else:
                return
        await self._write(series)

    async def _write(self, series: _Series) -> None:
        namespace = series.regarding.get("namespace", "default")
        if series.written:
            repeat = {"count": series.count, "lastTimestamp": _seconds(series.last)}
            try:
                await self._client.patch(EVENT, namespace, series.name, repeat)
            except NotFound:  # the server forgets events after an hour
                series.written = False
            else:
                return
        with contextlib.suppress(AlreadyExists):  # the answer to an attempt before was lost
            await self._client.create(EVENT, self._manifest(series, namespace))
        series.written = True

    def _manifest(self, series: _Series, namespace: str) -> dict[str, Any]:
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            "metadata": {"namespace": namespace, "name": series.name},
            "involvedObject": dict(series.regarding),
            "type": series.what.type,
            "reason": series.what.reason,
            "message": series.what.note,
            "action": series.action,
            "count": series.count,
            "firstTimestamp": _seconds(series.first),
            "lastTimestamp": _seconds(series.last),
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._identity,
        }


def _seconds(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
