"""Create, change, remove: each field of the spec against the real API server, with simulated pods.

What a change does is the documentation's own word: refused by the API server, live in the pod that runs, or a new pod.
"""

import asyncio
from typing import Any

import pytest

from database_operator.api.documentation import LIVE, NEXT, REFUSED, ROLLING
from database_operator.kube import resources as r
from database_operator.kube.errors import Invalid
from database_operator.reconcile.views import DATABASE
from localcluster import ControlPlane
from tests.proofs.rows import spec_fields
from tests.reconcile.fields import FIELDS, Field
from tests.reconcile.harness import Hub, hub, operator, until
from tests.reconcile.scenario import VERSIONS

pytestmark = pytest.mark.apiserver

ELSEWHERE = {"spec.deletionPolicy", "spec.redis.shards"}  # what a deletion does; slots move between real members only
TAKES = 240.0  # seconds, on a shared machine
AT_ONCE = 12  # fields tried at the same time: more wait for one another


def test_every_field_of_the_schema_is_in_the_table() -> None:
    assert FIELDS.keys() | ELSEWHERE == {f"spec.{path}" for path in spec_fields()}


def _name(path: str) -> str:
    return "f" + "".join(letter if letter.isalnum() else "-" for letter in path.removeprefix("spec.").lower()).replace("--", "-")


def _merged(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7396, in which null takes away."""
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key) or {}, value) if isinstance(value, dict) else value
    return merged


async def _uids(at: Hub, name: str) -> list[str]:
    pods = await at.all(r.POD, f"app={name}")
    return sorted(pod["metadata"]["uid"] for pod in pods if "deletionTimestamp" not in pod["metadata"])


async def _shows(at: Hub, path: str, field: Field, wanted: Any) -> None:
    found: Any = None

    async def seen() -> bool:
        nonlocal found
        found = await field.seen(at, _claim(field, path))
        return bool(found == wanted)

    await until(seen, TAKES, lambda: f"{path}: {found!r} is seen, not {wanted!r}")


def _claim(field: Field, path: str) -> str:
    """Of a child whose name is not made of the Database's alone."""
    name = _name(path)
    return f"data-{name}-0" if path in ("spec.storage.storageClassName", "spec.storage.accessMode") else name


async def _replaced(at: Hub, path: str, before: list[str]) -> None:
    """Every pod that was there has gone, and the others are Ready."""

    async def anew() -> bool:
        return not set(before) & set(await _uids(at, _name(path))) and (await at.status(_name(path))).get("phase") == "Ready"

    await until(anew, TAKES, lambda: f"{path}: the pods were not replaced")


async def _goes(at: Hub, path: str, field: Field, patch: dict[str, Any], wanted: Any, change: str) -> None:
    name = _name(path)
    before = await _uids(at, name)
    if change == REFUSED:
        with pytest.raises(Invalid, match=r"cannot be changed|must not shrink"):
            await at.change(name, **patch)
        return
    await at.change(name, **patch)
    await _shows(at, path, field, wanted)
    if change == ROLLING:
        await _replaced(at, path, before)
    elif change in (LIVE, NEXT):
        await at.phase(name, "Ready", TAKES)
        assert set(before) <= set(await _uids(at, name)) or path == "spec.replicas", f"{path}: a pod was replaced"


async def _in_turn(turn: asyncio.Semaphore, at: Hub, path: str, change: str) -> None:
    async with turn:
        await _lives(at, path, FIELDS[path], change)


async def _lives(at: Hub, path: str, field: Field, change: str) -> None:
    name = _name(path)
    body = _merged({"type": field.type, "version": VERSIONS[field.type], **field.base}, field.value)
    await at.client.create(DATABASE, at.manifest(name, body))
    await at.phase(name, "Ready", TAKES)
    await _shows(at, path, field, field.wants[0])
    steps = [field.changed] + ([field.gone] if field.gone is not None else [])
    for patch, wanted in zip(steps, field.wants[1:] if change != REFUSED else [None] * len(steps), strict=True):
        await _goes(at, path, field, patch, wanted, change)
    if change == REFUSED:
        await _shows(at, path, field, field.wants[0])
    await at.client.delete(DATABASE, at.namespace, name)  # the others have the machine for themselves


async def _secrets(at: Hub) -> None:
    for name in ("first", "second"):
        head = {"name": name, "namespace": at.namespace}
        values = {key: f"{name}'s {key}" for key in ("password", "one", "two")}
        await at.client.create(r.SECRET, {"apiVersion": "v1", "kind": "Secret", "metadata": head, "stringData": values})


@pytest.mark.slow(90)
@pytest.mark.proves(*FIELDS)
def test_i23_every_field_is_set_changed_and_taken_back(control_plane: ControlPlane) -> None:
    changes = spec_fields()

    async def scenario() -> None:
        async with hub(control_plane) as at:
            at.node.binds = False  # a pod runs wherever it wants to be placed
            await _secrets(at)
            async with operator(at):
                turn = asyncio.Semaphore(AT_ONCE)
                lives = [_in_turn(turn, at, path, changes[path.removeprefix("spec.")]) for path in FIELDS]
                outcomes = await asyncio.gather(*lives, return_exceptions=True)
            failed = [f"{path}: {outcome!r}" for path, outcome in zip(FIELDS, outcomes, strict=True) if isinstance(outcome, BaseException)]
            assert not failed, "\n".join(failed)

    asyncio.run(scenario())
