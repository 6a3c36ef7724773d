"""Which events are nothing but what this process wrote."""

import msgspec
import pytest

from database_operator.api.database import FINALIZER
from database_operator.api.status import DatabaseStatus
from database_operator.kube import resources as r
from database_operator.kube.objects import AnnotatedMeta, Key
from database_operator.reconcile import echo
from database_operator.reconcile.context import Applied, Context, Memory, Told
from database_operator.reconcile.views import ChildView, DatabaseView

KEY = Key("shop", "orders")


def context(**memory: object) -> Context:
    made = msgspec.structs.replace(Memory(uid="u"), **memory)
    parts = dict.fromkeys(("client", "stores", "platform", "engines", "session", "probes", "events"))
    return Context(memories={KEY: made}, **parts)  # type: ignore[arg-type]  # none of them is asked


def child(version: str) -> ChildView:
    return ChildView(AnnotatedMeta(name="orders-service", namespace="shop", resource_version=version))


@pytest.mark.parametrize(("version", "echoes"), [("7", True), ("8", False), ("6", False)])
def test_a_child_at_the_version_that_our_apply_made(version: str, echoes: bool) -> None:
    ctx = context(applied={("Service", "orders-service"): Applied("d", "7", 0, 0)})
    assert echo.of_child(ctx, KEY, r.SERVICE, child(version)) is echoes
    assert not echo.of_child(ctx, KEY, r.CONFIG_MAP, child(version))
    assert not echo.of_child(ctx, KEY, r.SERVICE, None)
    assert not echo.of_child(ctx, Key("shop", "other"), r.SERVICE, child(version))


def view(version: str, *, spec: bytes = b"{}", status: bytes = b"{}", **head: object) -> DatabaseView:
    metadata = AnnotatedMeta(name="orders", namespace="shop", uid="u", resource_version=version, **head)  # type: ignore[arg-type]
    return DatabaseView(metadata, msgspec.Raw(spec), msgspec.Raw(status))


BEFORE = view("5", finalizers=(FINALIZER,))


@pytest.mark.parametrize(
    ("old", "new", "echoes"),
    [
        pytest.param(BEFORE, view("7", finalizers=(FINALIZER,), status=b'{"phase":"Ready"}'), True, id="our status"),
        pytest.param(BEFORE, view("8", finalizers=(FINALIZER,), status=b'{"phase":"Ready"}'), False, id="another's status"),
        pytest.param(view("5"), view("6", finalizers=(FINALIZER,)), True, id="our finalizer"),
        pytest.param(BEFORE, view("6"), False, id="our finalizer taken away"),
        pytest.param(BEFORE, view("7", finalizers=(FINALIZER,), spec=b'{"replicas":3}'), False, id="a spec"),
        pytest.param(BEFORE, view("7", finalizers=(FINALIZER,), annotations={"a": "b"}), False, id="an annotation"),
        pytest.param(BEFORE, view("7", finalizers=(FINALIZER,), deletion_timestamp="now"), False, id="a deletion"),
        pytest.param(None, view("7", finalizers=(FINALIZER,)), False, id="the first sight"),
        pytest.param(BEFORE, None, False, id="gone"),
    ],
)
def test_a_database_of_which_only_our_own_part_has_changed(old: DatabaseView | None, new: DatabaseView | None, echoes: bool) -> None:
    assert echo.of_database(context(told=Told("7", DatabaseStatus())), old, new) is echoes
