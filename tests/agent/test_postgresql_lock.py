"""The leader's lock on an API server that carries calls out late. Patroni's own code runs; the lock is played."""

from types import SimpleNamespace
from typing import Any

import pytest
from patroni.dcs.kubernetes import Kubernetes, k8s_client
from patroni.utils import Retry

from agent.postgresql import lock

NOT_THERE = k8s_client.rest.ApiException(status=404, reason="Not Found")


class Lock(Kubernetes):
    """One object with a version, whose writers must know it; ``late`` is written by somebody before the first call."""

    leader_path = "orders"

    def __init__(self, holder: str, late: dict[str, str] | None = None) -> None:
        self.annotations = {"leader": holder, "renewTime": "old", "ttl": "20", "acquireTime": "old", "transitions": "0"}
        self.version, self.late, self.writes = 7, late, 0
        self._name, self._namespace, self._ttl, self._retry = "orders-0", "shop", 20, Retry(deadline=5, max_tries=1)
        self._Kubernetes__ips: list[str] = []
        self._leader_resource_version, self._leader_observed_record = "7", dict(self.annotations)
        self._kinds: Any = SimpleNamespace(get=lambda _: None, set=lambda *_: None, kill_stream=lambda: None)
        self._pods: Any = self._kinds
        self._api: Any = SimpleNamespace(read_namespaced_kind=self.read)

    def read(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(metadata=SimpleNamespace(resource_version=str(self.version), annotations=self.annotations))

    def _patch_or_create(self, name: str, annotations: dict[str, Any], resource_version: Any = None, *_: Any, **__: Any) -> Any:
        if self.late is not None:
            self.annotations, self.version, self.late = self.annotations | self.late, self.version + 1, None
        if resource_version != str(self.version):
            raise k8s_client.rest.ApiException(status=409, reason="Conflict")
        self.annotations, self.version, self.writes = annotations, self.version + 1, self.writes + 1
        return True


def attempt(held: Lock, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(Kubernetes, "attempt_to_acquire_leader", lock.patient(Kubernetes.attempt_to_acquire_leader))
    return held.attempt_to_acquire_leader()


def test_p09_a_renewal_that_was_carried_out_late_does_not_cost_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Lock("orders-0", late={"renewTime": "of a call that timed out"})
    assert attempt(held, monkeypatch)
    assert (held.writes, held.annotations["leader"], held.annotations["acquireTime"]) == (1, "orders-0", "old")


def test_patroni_alone_gives_it_up() -> None:
    """Once this fails, the extension is no longer needed."""
    assert not Lock("orders-0", late={"renewTime": "of a call that timed out"}).attempt_to_acquire_leader()


def test_a_lock_that_another_has_taken_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Lock("orders-0", late={"leader": "orders-1"})
    assert not attempt(held, monkeypatch)
    assert (held.writes, held.annotations["leader"]) == (0, "orders-1")


def test_a_write_that_is_refused_with_the_version_known_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    held, calls = Lock("orders-0"), []

    def refuse(*_: Any, **__: Any) -> Any:
        calls.append(1)
        raise k8s_client.rest.ApiException(status=409, reason="Conflict")

    monkeypatch.setattr(held, "_patch_or_create", refuse)
    assert not attempt(held, monkeypatch)
    assert len(calls) == 1


def test_an_api_server_that_is_away_again_is_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Lock("orders-0", late={"renewTime": "late"})

    def away(*_: Any, **__: Any) -> Any:
        raise NOT_THERE

    held._api.read_namespaced_kind = away
    assert not attempt(held, monkeypatch)
