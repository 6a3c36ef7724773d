"""MongoDB in real pods. Where no image registry is reached, ``mongo:7.0`` is the stand-in: its data server is not mongod."""

import socket
from collections.abc import Callable
from typing import Any

import dns.exception
import dns.resolver
import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from tests.pods.running import Running

pytestmark = pytest.mark.pods

MANIFEST: dict[str, Any] = {
    "apiVersion": "databases.database-operator.io/v1alpha1",
    "kind": "Database",
    "metadata": {"name": "orders"},
    "spec": {
        "type": "MongoDB",
        "version": "7.0",
        "storage": {"size": "1Gi"},
        "resources": {"cpu": "50m", "memory": "128Mi", "memoryLimit": "512Mi"},
        "mongodb": {"database": "shop", "parameters": {"slowms": 50}},
    },
}
Client = MongoClient[dict[str, Any]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[[Running], None]:
    """The cluster's names resolve in the cluster alone: ask its DNS for them, as a pod would."""

    def resolve_by(running: Running) -> None:
        address = running.cluster.kubectl("get", "service", "kube-dns", "-n", "kube-system", "--output=jsonpath={.spec.clusterIP}")
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = [address]
        usual = socket.getaddrinfo

        def look_up(host: Any, *more: Any, **named: Any) -> Any:
            if isinstance(host, str) and host.endswith(".cluster.local"):
                try:
                    host = resolver.resolve(host, "A")[0].address
                except dns.exception.DNSException as error:
                    raise socket.gaierror(str(error)) from error
            return usual(host, *more, **named)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    return resolve_by


def ask(running: Running, question: Callable[[Client], Any], **login: str) -> Any:
    """Over a connection of its own, by the URI of the credentials. What the driver raises counts as no connection."""
    with MongoClient(running.login()["uri"], serverSelectionTimeoutMS=5000, **login) as client:
        try:
            return question(client)
        except OperationFailure:
            raise
        except PyMongoError as error:
            raise OSError(str(error)) from error


def kept(running: Running) -> Any:
    return running.wait("answering", lambda: ask(running, lambda client: client.shop.orders.find_one({"_id": 1})), 120)


def in_force(running: Running) -> tuple[int, int]:
    """slowms, and the cache in MiB."""

    def question(client: Client) -> tuple[int, int]:
        cache = client.admin.command("serverStatus")["wiredTiger"]["cache"]["maximum bytes configured"]
        return client.admin.command("profile", -1)["slowms"], cache // 2**20

    found: tuple[int, int] = ask(running, question)
    return found


@pytest.mark.proves("spec.mongodb.parameters", "spec.mongodb.database")
def test_mongodb_lives_on_the_standin(database: Callable[[dict[str, Any]], Running], names: Callable[[Running], None]) -> None:
    orders = database(MANIFEST)
    names(orders)
    orders.wait_settled()
    ask(orders, lambda client: client.shop.orders.insert_one({"_id": 1, "item": "book"}))
    with pytest.raises(OperationFailure, match=r"[Aa]uthentication failed"):
        ask(orders, lambda client: client.shop.orders.find_one(), password="changeme")
    with MongoClient(f"{orders.pods()[0]['status']['podIP']}", directConnection=True) as nobody:
        with pytest.raises(OperationFailure, match="requires authentication"):
            nobody.shop.orders.find_one()
        with pytest.raises(OperationFailure, match="requires authentication"):
            nobody.admin.command("createUser", "intruder", pwd="x", roles=["root"])
    assert ask(orders, lambda client: client.admin.command("getDefaultRWConcern")["defaultWriteConcern"]["w"]) == "majority"
    assert in_force(orders) == (50, 256)

    before = orders.uids()
    orders.patch({"mongodb": {"parameters": {"slowms": None, "cacheSizeGB": "0.4"}}})
    orders.wait("set live", lambda: in_force(orders) == (100, 409), 60)
    orders.wait_settled()
    assert orders.uids() == before
    assert orders.restarts() == 0

    orders.kill_container("mongod")
    orders.wait("restarted", lambda: orders.restarts() >= 1)
    orders.wait_settled()
    assert kept(orders) == {"_id": 1, "item": "book"}

    orders.kubectl("delete", "pod", orders.pods()[0]["metadata"]["name"])
    orders.wait("replaced", lambda: orders.uids() and orders.uids() != before)
    orders.wait_settled()
    assert kept(orders) == {"_id": 1, "item": "book"}

    before = orders.uids()
    orders.patch({"mongodb": {"parameters": {"maxConns": 200}}})
    orders.wait("rolled", lambda: orders.uids() and orders.uids() != before)
    orders.wait_settled()
    assert kept(orders) == {"_id": 1, "item": "book"}


@pytest.mark.proves("spec.mongodb.passwordSecret.name")
def test_mongodb_password_changes_live_on_the_standin(
    database: Callable[[dict[str, Any]], Running], names: Callable[[Running], None]
) -> None:
    orders = database(MANIFEST)
    names(orders)
    orders.wait_settled()
    before = orders.uids()
    with MongoClient(orders.login()["uri"]) as old:
        old.shop.orders.insert_one({"_id": 1, "item": "book"})
        orders.make_secret("login", password="my own password: /@ü")
        orders.patch({"mongodb": {"passwordSecret": {"name": "login"}}})
        orders.wait("copied", lambda: orders.login()["password"] == "my own password: /@ü", 60)

        def let_in() -> bool:
            try:
                return bool(ask(orders, lambda client: client.shop.orders.find_one()))
            except OperationFailure:
                return False

        orders.wait("let in with the new password", let_in, 180)
        assert old.shop.orders.count_documents({}) == 1  # the connection from before was not cut
    assert orders.uids() == before
    assert orders.restarts() == 0


def test_mongodb_data_and_login_are_taken_up_again_on_the_standin(
    database: Callable[[dict[str, Any]], Running], names: Callable[[Running], None]
) -> None:
    orders = database(MANIFEST)
    names(orders)
    orders.wait_settled()
    ask(orders, lambda client: client.shop.orders.insert_one({"_id": 1, "item": "book"}))
    uri = orders.login()["uri"]
    orders.kubectl("delete", "database", "orders")
    orders.wait("gone", lambda: not orders.get("statefulsets")["items"])
    orders.apply(MANIFEST)
    orders.wait_settled()
    assert orders.login()["uri"] == uri
    assert kept(orders) == {"_id": 1, "item": "book"}
