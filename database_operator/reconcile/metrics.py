"""What Prometheus is told of each Database, read from the local copy at scrape time: nothing to keep in step."""

from collections.abc import Callable, Iterable, Iterator

import msgspec
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from database_operator.kube.objects import Key
from database_operator.reconcile.context import Probes
from database_operator.reconcile.views import DatabaseView

LABELS = ["namespace", "name", "type"]


class _Spec(msgspec.Struct):
    type: str = ""
    version: str = ""
    replicas: int = 1


class _Status(msgspec.Struct, rename="camel"):
    phase: str = ""
    ready_replicas: int = 0


class Databases(Collector):
    """``database_operator_database_{info,ready,members,members_ready}``."""

    def __init__(self, databases: Callable[[], Iterable[DatabaseView]], probes: Probes) -> None:
        self._databases = databases
        self._probes = probes

    def collect(self) -> Iterator[Metric]:
        prefix = "database_operator_database"
        info = GaugeMetricFamily(f"{prefix}_info", "A Database: its version and phase", labels=[*LABELS, "version", "phase"])
        ready = GaugeMetricFamily(f"{prefix}_ready", "1 while every member answers", labels=LABELS)
        members = GaugeMetricFamily(f"{prefix}_members", "Members that should run", labels=LABELS)
        answering = GaugeMetricFamily(f"{prefix}_members_ready", "Members that answer", labels=LABELS)
        lag = GaugeMetricFamily(f"{prefix}_member_lag_bytes", "Bytes the most distant member is behind its primary", labels=LABELS)
        for view in self._databases():
            try:
                spec = msgspec.json.decode(view.spec, type=_Spec)
                status = msgspec.json.decode(view.status, type=_Status)
            except msgspec.DecodeError:
                continue
            labels = [view.metadata.namespace, view.metadata.name, spec.type]
            info.add_metric([*labels, spec.version, status.phase], 1)
            ready.add_metric(labels, float(status.phase == "Ready"))
            members.add_metric(labels, spec.replicas)
            answering.add_metric(labels, status.ready_replicas)
            answers = self._probes.answers(Key(view.metadata.namespace, view.metadata.name)).values()
            lags = [answer.lag_bytes for answer in answers if answer is not None and answer.lag_bytes is not None]
            if lags:
                lag.add_metric(labels, max(lags))
        yield from (info, ready, members, answering, lag)
