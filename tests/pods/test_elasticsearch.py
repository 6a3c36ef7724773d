"""Elasticsearch in real pods: it comes up secured, keeps its data, takes changes while it runs."""

import base64
from collections.abc import Callable
from typing import Any

import pytest

from tests.pods.running import Running

pytestmark = pytest.mark.pods

MANIFEST: dict[str, Any] = {
    "apiVersion": "databases.database-operator.io/v1alpha1",
    "kind": "Database",
    "metadata": {"name": "search"},
    "spec": {
        "type": "Elasticsearch",
        "version": "8.11.0",
        "storage": {"size": "1Gi"},
        "resources": {"cpu": "100m", "memory": "900Mi", "memoryLimit": "1200Mi"},
        "elasticsearch": {"parameters": {"search.max_buckets": 20000}},
    },
}


def basic(password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'elastic:{password}'.encode()).decode()}"}


def call(search: Running, method: str, path: str, content: Any = None) -> Any:
    status, answer = search.http(method, path, content, basic(search.login()["password"]))
    assert status in (200, 201), answer
    return answer


def document(search: Running) -> Any:
    """None while the shard is being recovered: the node is in the cluster before."""
    status, answer = search.http("GET", "/orders/_doc/1", None, basic(search.login()["password"]))
    return answer["_source"] if status == 200 else None


def persistent(search: Running) -> dict[str, str]:
    settings: dict[str, str] = call(search, "GET", "/_cluster/settings?flat_settings=true")["persistent"]
    return settings


def heap_mib(search: Running) -> int:
    nodes = call(search, "GET", "/_nodes/_local/jvm")["nodes"]
    return int(next(iter(nodes.values()))["jvm"]["mem"]["heap_max_in_bytes"]) // 2**20


@pytest.mark.proves("spec.elasticsearch.parameters", "spec.elasticsearch.passwordSecret.name", "spec.resources.memoryLimit")
def test_elasticsearch_lives(database: Callable[[dict[str, Any]], Running]) -> None:
    search = database(MANIFEST)
    search.wait_settled()
    assert search.http("GET", "/_cluster/health")[0] == 401
    assert search.http("GET", "/_cluster/health", None, basic("changeme"))[0] == 401
    assert heap_mib(search) == 600
    assert persistent(search)["search.max_buckets"] == "20000"
    assert "initial_master_nodes" not in search.get("configmap", "search-settings")["data"]["elasticsearch.yml"]
    call(search, "PUT", "/orders/_doc/1?refresh=true", {"item": "book"})

    search.make_secret("login", password="my own password: /@ü")
    before = search.uids()
    search.patch({"elasticsearch": {"passwordSecret": {"name": "login"}, "parameters": {"search.max_buckets": None}}})
    search.wait("the new password in force", lambda: search.http("GET", "/_cluster/health", None, basic("my own password: /@ü"))[0] == 200)
    search.wait("back to the default", lambda: "search.max_buckets" not in persistent(search), 60)
    search.wait_settled()
    assert search.uids() == before
    assert search.restarts() == 0

    search.kill_container("org.elasticsearch.server")
    search.wait("restarted", lambda: search.restarts() == 1)
    search.wait_settled()
    assert search.wait("recovered", lambda: document(search), 60) == {"item": "book"}

    search.patch({"elasticsearch": {"parameters": {"indices.query.bool.max_clause_count": 2048}}})
    search.wait("replaced", lambda: search.uids() and search.uids() != before)
    search.wait_settled()
    assert search.wait("recovered", lambda: document(search), 60) == {"item": "book"}
    nodes = call(search, "GET", "/_nodes/_local/settings?flat_settings=true")["nodes"]
    assert next(iter(nodes.values()))["settings"]["indices.query.bool.max_clause_count"] == "2048"


@pytest.mark.long
def test_e06_e07_three_to_one_to_three(database: Callable[[dict[str, Any]], Running]) -> None:
    """With shards on every member, and indices with and without copies: nothing is lost, and no write is refused for good."""
    search = database(MANIFEST | {"spec": MANIFEST["spec"] | {"replicas": 3}})
    search.wait_settled(600)  # three JVMs start at once
    for index, copies in (("copied", 1), ("alone", 0)):
        call(search, "PUT", f"/{index}", {"settings": {"number_of_shards": 3, "number_of_replicas": copies}})
        for number in range(30):
            call(search, "PUT", f"/{index}/_doc/{number}", {"n": number})
    for members in (1, 3):
        search.patch({"replicas": members})
        search.wait(f"{members} members", lambda members=members: len(search.uids()) == members and search.settled(), 600)  # type: ignore[misc]
        for index in ("copied", "alone"):
            call(search, "POST", f"/{index}/_refresh")
            assert call(search, "GET", f"/{index}/_count")["count"] == 30
        found = call(search, "GET", "/_cluster/state/metadata?filter_path=metadata.cluster_coordination")["metadata"]
        assert found["cluster_coordination"]["voting_config_exclusions"] == []
        assert "cluster.routing.allocation.exclude._name" not in persistent(search)
        assert call(search, "GET", "/_cluster/health")["number_of_nodes"] == members


@pytest.mark.long
def test_e09_a_disk_that_is_all_but_full(database: Callable[[dict[str, Any]], Running]) -> None:
    """The marks are moved instead of the data: below them nothing more is written, and above them again everything is."""
    search = database(MANIFEST)
    search.wait_settled(600)
    call(search, "PUT", "/orders/_doc/1?refresh=true", {"item": "book"})
    marks = dict.fromkeys((f"cluster.routing.allocation.disk.watermark.{mark}" for mark in ("low", "high", "flood_stage")), "1%")
    refusal = "disk usage exceeded flood-stage watermark"

    def write() -> tuple[int, Any]:
        return search.http("PUT", "/orders/_doc/2", {"item": "pen"}, basic(search.login()["password"]))

    search.patch({"elasticsearch": {"parameters": marks}})
    search.wait("refused", lambda: refusal in str(write()), 120)
    assert document(search) == {"item": "book"}
    assert search.status()["phase"] == "Ready"
    search.patch({"elasticsearch": {"parameters": dict.fromkeys(marks)}})
    search.wait("written again", lambda: write()[0] in (200, 201), 120)
    search.wait_settled()
    assert search.restarts() == 0
