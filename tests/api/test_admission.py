"""The CRD on a real API server: what it refuses, in which words, and what it takes."""

import copy
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from database_operator import generate
from database_operator.api import quantity
from database_operator.api.refusals import Refusal
from database_operator.engines.base import Engine
from database_operator.engines.registry import ENGINES
from localcluster import ControlPlane
from tests.api.cases import CHANGES, FIRST_VERSION, GOOD, Change, Spec, redis, spec
from tests.api.refused import BAD, Bad
from tests.api.test_validation import SAMPLES, found
from tests.apiserver import DATABASES, NAMESPACE, ApiServer, Refused, database

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def server(apiserver: ApiServer) -> ApiServer:
    apiserver.install(generate.definition())
    return apiserver


@pytest.fixture
def stored(server: ApiServer) -> Iterator[ApiServer]:
    """A server whose Databases are taken away again."""
    yield server
    for item in server.call("GET", DATABASES)["items"]:
        server.call("DELETE", f"{DATABASES}/{item['metadata']['name']}")


def try_out(server: ApiServer, manifest: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = server.call("POST", f"{DATABASES}?dryRun=All", manifest)
    return answer


def eventually(attempt: Callable[[], object], seconds: float = 15) -> None:
    """Until ``attempt`` is not refused: a changed CRD is in force some time after it is stored."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            attempt()
        except Refused:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def refusal_of(server: ApiServer, manifest: dict[str, Any]) -> str:
    """The refusal's words; Refused (of another kind) if there is none yet."""
    try:
        try_out(server, manifest)
    except Refused as refused:
        return str(refused)
    raise Refused(200, "taken")


def test_the_definition_is_small_enough_for_kubectl_apply() -> None:
    assert len(yaml.safe_dump(generate.definition())) < 256 * 1024


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.id)
@pytest.mark.proves(
    "bad.type",
    "bad.replicas",
    "bad.standalone",
    "bad.cluster-members",
    "bad.quantity",
    "bad.request-above-limit",
    "bad.section",
    "bad.databaseFile",
    "bad.env-name",
    "bad.doubled",
    "bad.name",
    "bad.control-characters",
)
def test_bad_input_is_refused_with_the_field_and_the_remedy(server: ApiServer, case: Bad) -> None:
    with pytest.raises(Refused) as refused:
        try_out(server, database(case.spec, case.name))
    assert refused.value.status == 422
    assert case.says in str(refused.value)


@pytest.mark.parametrize(("name", "wanted"), GOOD, ids=[name for name, _ in GOOD])
def test_good_input_is_taken_as_written(server: ApiServer, name: str, wanted: Spec) -> None:
    assert try_out(server, database(wanted))["spec"] == {"replicas": 1} | wanted


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_the_samples_are_taken(server: ApiServer, sample: Path) -> None:
    try_out(server, yaml.safe_load(sample.read_text()))


@pytest.mark.parametrize("wanted", FIRST_VERSION.values(), ids=list(FIRST_VERSION))
@pytest.mark.proves("bad.first-version")
def test_manifests_of_the_first_version_are_taken(server: ApiServer, wanted: Spec) -> None:
    assert try_out(server, database(wanted))["spec"] == wanted


def name_of(refusal: Refusal) -> str:
    return refusal.pattern.replace("*", "x1")


@pytest.mark.parametrize("engine", ENGINES.values(), ids=lambda engine: engine.title)
class TestOwnedNames:
    """I13: what the operator owns or what would run code, one by one."""

    @pytest.mark.proves("bad.owned-parameters")
    def test_i13_parameters_are_refused_with_the_reason(self, server: ApiServer, engine: Engine) -> None:
        section = engine.type.value.lower()
        for refusal in engine.owned_parameters:
            if refusal.accept is None:
                for name in (name_of(refusal), name_of(refusal).upper()):
                    with pytest.raises(Refused) as refused:
                        try_out(server, database(spec(engine.type.value, **{section: {"parameters": {"a": "b", name: "x"}}})))
                    assert f"spec.{section}.parameters must not set " in str(refused.value)
                    assert f"{refusal.reason}; remove it" in str(refused.value)

    def test_parameters_that_are_ignored_are_taken(self, server: ApiServer, engine: Engine) -> None:
        section = engine.type.value.lower()
        for refusal in engine.owned_parameters:
            if refusal.accept is not None:
                value = refusal.accept[0] if refusal.accept else "x"
                try_out(server, database(spec(engine.type.value, **{section: {"parameters": {name_of(refusal): value}}})))

    @pytest.mark.proves("bad.owned-env")
    def test_i13_variables_are_refused_with_the_reason(self, server: ApiServer, engine: Engine) -> None:
        for refusal in engine.owned_env:
            with pytest.raises(Refused) as refused:
                try_out(server, database(spec(engine.type.value, env=[{"name": "OK"}, {"name": name_of(refusal)}])))
            assert "spec.env must not set " in str(refused.value)
            assert f"{refusal.reason}; remove it" in str(refused.value)


@pytest.mark.parametrize("length", [1, 2, 52])
def test_names_up_to_52_characters(server: ApiServer, length: int) -> None:
    try_out(server, database(spec("Redis"), "a" * length))


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: case.id)
@pytest.mark.proves("bad.shrinking", "bad.refused-change")
def test_a_change_is_refused_or_taken(stored: ApiServer, case: Change) -> None:
    old = stored.call("POST", DATABASES, database(case.old))
    new = old | {"spec": {"replicas": 1} | case.new}
    path = f"{DATABASES}/orders?dryRun=All"
    if case.says is None:
        assert stored.call("PUT", path, new)["spec"] == new["spec"]
        return
    with pytest.raises(Refused) as refused:
        stored.call("PUT", path, new)
    assert refused.value.status == 422
    assert case.says in str(refused.value)


# Below 2^63 each: the server takes some larger ones for that number, and others not.
NUMBERS = st.tuples(st.integers(0, 10**9), st.integers(0, 10**6), st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi"])).map(
    lambda parts: f"{parts[0]}.{parts[1]:06d}{parts[2]}"
)


class TestQuantities:
    """The server's own arithmetic is the measure of ours."""

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(request=NUMBERS, limit=NUMBERS)
    def test_the_server_orders_them_as_we_do(self, server: ApiServer, request: str, limit: str) -> None:
        positive = quantity.parse(request) > 0 and quantity.parse(limit) > 0
        manifest = database(spec("Redis", resources={"cpu": request, "cpuLimit": limit}))
        if positive and quantity.parse(request) <= quantity.parse(limit):
            try_out(server, manifest)
        else:
            assert "must not be above cpuLimit" in refusal_of(server, manifest) or not positive

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(text=st.text("0123456789.eE+-mkMGTPi \n", max_size=8))
    def test_the_server_refuses_what_the_operator_refuses(self, server: ApiServer, text: str) -> None:
        wanted = spec("PostgreSQL", storage={"size": text})
        if found(wanted):
            refusal_of(server, database(wanted))
        else:
            try_out(server, database(wanted))


SCALED = [
    ("SQLite to 2", spec("SQLite"), 2, "must be 0 or 1: SQLite"),
    ("standalone to 3", redis(1, mode="standalone"), 3, "while redis.mode is standalone"),
    ("cluster to 2", redis(3, mode="cluster"), 2, "must be 0 or at least 3"),
    ("Required to 1", spec("PostgreSQL", replicas=2, postgresql={"synchronous": "Required"}), 1, "must not be Required with 1 replica"),
    ("to 11", spec("PostgreSQL"), 11, "less than or equal to 10"),
    ("to 0", spec("PostgreSQL"), 0, None),
    ("no mode to 3", spec("Redis"), 3, None),
]


@pytest.mark.parametrize(("wanted", "replicas", "says"), [case[1:] for case in SCALED], ids=[case[0] for case in SCALED])
def test_scale_keeps_the_rules(stored: ApiServer, wanted: Spec, replicas: int, says: str | None) -> None:
    stored.call("POST", DATABASES, database(wanted))
    patch = {"spec": {"replicas": replicas}}
    if says is None:
        assert stored.merge(f"{DATABASES}/orders/scale", patch)["spec"].get("replicas", 0) == replicas
        return
    with pytest.raises(Refused, match=says):
        stored.merge(f"{DATABASES}/orders/scale", patch)


def test_scale_tells_members_and_selector(stored: ApiServer) -> None:
    stored.call("POST", DATABASES, database(spec("PostgreSQL")))
    stored.merge(f"{DATABASES}/orders/status", {"status": {"replicas": 1, "selector": "app=orders"}})
    scale = stored.call("GET", f"{DATABASES}/orders/scale")
    assert (scale["spec"], scale["status"]) == ({"replicas": 1}, {"replicas": 1, "selector": "app=orders"})


def test_status_is_a_subresource(stored: ApiServer) -> None:
    made = stored.call("POST", DATABASES, database(spec("PostgreSQL")) | {"status": {"phase": "Ready"}})
    assert "status" not in made
    written = stored.merge(f"{DATABASES}/orders/status", {"spec": {"version": "1"}, "status": {"phase": "Ready"}})
    assert (written["spec"]["version"], written["status"]) == ("17", {"phase": "Ready"})


@pytest.mark.proves(
    "column.Type",
    "column.Version",
    "column.Phase",
    "column.Ready",
    "column.Primary",
    "column.Age",
    "column.Endpoint",
    "column.Storage",
    "column.Message",
)
def test_kubectl_shows_the_columns(stored: ApiServer, control_plane: ControlPlane) -> None:
    stored.call("POST", DATABASES, database(spec("PostgreSQL")))
    status = {
        "phase": "Ready",
        "ready": "1/1",
        "primary": "orders-0",
        "endpoint": "e:5432",
        "storage": {"size": "10Gi"},
        "message": "all well",
    }
    stored.merge(f"{DATABASES}/orders/status", {"status": status})
    heads, row = control_plane.kubectl("-n", NAMESPACE, "get", "db", "-o", "wide").strip().splitlines()
    assert heads.split() == ["NAME", "TYPE", "VERSION", "PHASE", "READY", "PRIMARY", "AGE", "ENDPOINT", "STORAGE", "MESSAGE"]
    assert row.split()[:6] == ["orders", "PostgreSQL", "17", "Ready", "1/1", "orders-0"]
    assert row.split()[7:] == ["e:5432", "10Gi", "all", "well"]
    assert control_plane.kubectl("-n", NAMESPACE, "get", "databases.databases.database-operator.io").splitlines()[0].split()[-1] == "AGE"


class TestStoredBeforeTheRules:
    """Objects that the first version's CRD let in: they can be finalized, told what is wrong, and mended."""

    NAMES = ("standalone", "n" * 60)

    @pytest.fixture
    def older(self, stored: ApiServer) -> ApiServer:
        loose = copy.deepcopy(generate.definition())
        open_schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        loose["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = {
            "type": "object",
            "properties": {"spec": open_schema, "status": open_schema},
        }
        stored.install(loose)
        for name in self.NAMES:
            manifest = database(redis(3, mode="standalone"), name)
            eventually(partial(stored.call, "POST", DATABASES, manifest))
        stored.install(generate.definition())
        eventually(lambda: refusal_of(stored, database(spec("Oracle"))))
        return stored

    def test_they_take_status_and_finalizers_and_can_go(self, older: ApiServer) -> None:
        for name in self.NAMES:
            older.merge(f"{DATABASES}/{name}", {"metadata": {"finalizers": ["databases.database-operator.io/finalizer"]}})
            condition = {
                "type": "Ready",
                "status": "False",
                "reason": "InvalidSpec",
                "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            older.merge(f"{DATABASES}/{name}/status", {"status": {"conditions": [condition]}})
            older.call("DELETE", f"{DATABASES}/{name}")
            older.merge(f"{DATABASES}/{name}", {"metadata": {"finalizers": []}})
        assert older.call("GET", DATABASES)["items"] == []

    def test_they_can_be_mended_and_not_made_worse(self, older: ApiServer) -> None:
        with pytest.raises(Refused, match=r"set redis\.mode to sentinel"):
            older.merge(f"{DATABASES}/standalone", {"spec": {"version": "7.4"}})
        older.merge(f"{DATABASES}/standalone", {"spec": {"redis": {"mode": None}}})
