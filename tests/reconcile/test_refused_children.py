"""One call that is refused keeps back only what depends on it. The API server is real, pods and engines are played."""

import asyncio

import pytest

from database_operator.kube import resources as r
from database_operator.kube.errors import ApiError, Forbidden, NotFound
from localcluster import ControlPlane
from tests.reconcile.harness import Hub, until
from tests.reconcile.scenario import NAME, identities, run, settled
from tests.reconcile.test_faults import disturbed

pytestmark = pytest.mark.apiserver


class Refusing:
    """Refuses one call for one child, while it is ``on``."""

    def __init__(self, path: str, message: str, method: str = "PATCH") -> None:
        self.path, self.message, self.method, self.on = path, message, method, False

    def __call__(self, method: str, path: str) -> ApiError | None:
        refused = self.on and method == self.method and path.endswith(self.path)
        return Forbidden(403, "Forbidden", self.message) if refused else None


def test_k44_a_child_that_is_refused_keeps_nothing_back_that_does_not_depend_on_it(control_plane: ControlPlane) -> None:
    """It is said; members leave, what is no longer planned goes, and parameters reach the engine."""

    async def scenario(at: Hub) -> None:
        policy = Refusing(f"/services/{NAME}-service", "no such Services here")
        async with disturbed(at, policy):
            await at.create(NAME, "PostgreSQL", "17", replicas=2)
            await settled(at)
            policy.on = True
            await at.change(NAME, replicas=1, service={"annotations": {"a": "b"}}, postgresql={"parameters": {"work_mem": "8MB"}})
            assert "no such Services here" in (await at.condition(NAME, "Ready", "ReconciliationFailed"))["message"]

            async def gone_on() -> bool:
                taken = at.engines._played[NAME].shared["postgresql"]["parameters"].get("work_mem")
                kept = await at.exists(r.SERVICE, f"{NAME}-ro") or await at.exists(r.POD, f"{NAME}-1")
                return taken == "8MB" and not kept

            await until(gone_on, 60, lambda: "the other steps were not done")
            assert (await at.status(NAME))["conditions"][0]["reason"] == "ReconciliationFailed"
            policy.on = False
            await settled(at)

    run(control_plane, scenario)


def test_k44_a_child_that_may_not_be_deleted_keeps_nothing_back(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        policy = Refusing(f"/services/{NAME}-ro", "no Service goes here", "DELETE")
        async with disturbed(at, policy):
            await at.create(NAME, "PostgreSQL", "17", replicas=2)
            await settled(at)
            policy.on = True
            await at.change(NAME, replicas=1)
            assert "no Service goes here" in (await at.condition(NAME, "Ready", "ReconciliationFailed"))["message"]

            async def left() -> bool:
                return not await at.exists(r.POD, f"{NAME}-1")

            await until(left, 60, lambda: "the member that leaves is held up")
            policy.on = False
            await settled(at)
            assert not await at.exists(r.SERVICE, f"{NAME}-ro")

    run(control_plane, scenario)


def test_k44_no_member_is_restarted_for_a_template_that_is_refused(control_plane: ControlPlane) -> None:
    async def scenario(at: Hub) -> None:
        policy = Refusing(f"/statefulsets/{NAME}", "no such variable here")
        async with disturbed(at, policy):
            await at.create(NAME, "Redis", "7.2")
            await settled(at)
            before = await identities(at, r.POD)
            policy.on = True
            await at.change(NAME, env=[{"name": "A", "value": "1"}])
            await at.condition(NAME, "Ready", "ReconciliationFailed")
            await asyncio.sleep(5)
            assert await identities(at, r.POD) == before
            policy.on = False
            await settled(at)
            assert await identities(at, r.POD) != before

    run(control_plane, scenario)


def test_a_database_that_goes_before_it_has_its_finalizer_is_no_error(
    control_plane: ControlPlane, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(at: Hub) -> None:
        met = []

        def gone_meanwhile(method: str, path: str) -> ApiError | None:
            if met or method != "PATCH" or not path.endswith(f"/databases/{NAME}"):
                return None
            met.append(path)
            return NotFound(404, "NotFound", "gone")

        async with disturbed(at, gone_meanwhile):
            await at.create(NAME, "Redis", "7.2")
            await settled(at)
            assert met

    run(control_plane, scenario)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
