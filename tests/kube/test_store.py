"""The store's indexes against the plain way of finding the same."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from database_operator.kube.client import decoder
from database_operator.kube.objects import Key, Meta, Object, OwnerReference
from database_operator.kube.store import Store

names = st.sampled_from("abcdef")
values = st.frozensets(st.sampled_from("xyz"), max_size=3)
steps = st.lists(st.tuples(names, st.none() | st.tuples(values, st.sampled_from(["", "u1", "u2"]))), max_size=40)


def labels_of(obj: Object) -> list[str]:
    return list(obj.metadata.labels)


@given(steps)
def test_an_index_finds_what_a_scan_finds(steps: list[tuple[str, tuple[frozenset[str], str] | None]]) -> None:
    store: Store[Object] = Store({"label": labels_of})
    plain: dict[Key, Object] = {}
    for name, wanted in steps:
        key = Key("ns", name)
        if wanted is None:
            assert store.remove(key) == plain.pop(key, None)
            continue
        labels, owner = wanted
        owners = (OwnerReference("Owner", "o", owner, True), OwnerReference("Other", "x", "u3", False)) if owner else ()
        obj = Object(Meta(name=name, namespace="ns", labels=dict.fromkeys(labels, ""), owner_references=owners))
        assert store.put(key, obj) == plain.get(key)
        plain[key] = obj
    assert sorted(store) == sorted(plain)
    for value in "xyz":
        assert store.by_index("label", value) == [plain[key] for key in sorted(plain) if value in plain[key].metadata.labels]
    for uid in "u1", "u2", "u3":
        assert store.by_index("owner", uid) == [plain[key] for key in sorted(plain) if plain[key].metadata.controller_uid == uid]


def test_equality_looks_at_all_but_the_version() -> None:
    one = Meta(name="a", resource_version="1")
    assert one == Meta(name="a", resource_version="2")
    changes: dict[str, Any] = {"uid": "u", "generation": 2, "labels": {"x": "y"}, "finalizers": ("f",), "deletion_timestamp": "t"}
    for field, value in changes.items():
        assert one != Meta(name="a", **{field: value}), field


def test_strings_that_many_objects_have_are_kept_once() -> None:
    first, second = (
        decoder(Object).decode(b'{"metadata":{"namespace":"some-ns","labels":{"example.org/part-of":"data-base"}}}') for _ in "ab"
    )
    for found in first, second:
        found.metadata.share_strings()
    assert first.metadata.labels == {"example.org/part-of": "data-base"}
    assert first.metadata.labels["example.org/part-of"] is second.metadata.labels["example.org/part-of"]
    assert first.metadata.namespace is second.metadata.namespace
