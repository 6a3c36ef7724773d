"""Bring changed files, and the user's labels and annotations, into running pods at once.

A kubelet looks at mounted ConfigMaps and Secrets about once a minute, but at once when the pod itself changes: so
the pods of a Database whose settings or login were just written get an annotation. What is lost with this process
costs that minute and nothing else.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from database_operator.build import constants as c
from database_operator.build import names
from database_operator.build.manifest import Manifest, digest
from database_operator.build.pod import written
from database_operator.kube import resources as r
from database_operator.kube.errors import NotFound
from database_operator.reconcile import observe
from database_operator.reconcile.context import Pass

# the workload's own, by which its controller knows its pods: a template may hold them, its controller writes over them
CONTROLLERS = ("controller-revision-hash", "pod-template-hash", "statefulset.kubernetes.io/", "apps.kubernetes.io/")


class _Words(msgspec.Struct):
    """What ``build.pod.written`` notes on a pod."""

    labels: list[str] = []
    annotations: list[str] = []


async def refresh(at: Pass, children: Sequence[Manifest], formed: bool) -> None:
    """Touch the pods if the files they mount differ from what the last pass wrote, or their labels from what the user writes.

    What changes as the cluster has just ``formed`` is read at the next start only, and can wait for the kubelet.
    """
    await _relabel(at)
    name = at.database.name
    settings = [child["data"] for child in children if child["kind"] == "ConfigMap"]
    login = at.memory.secrets.get(names.credentials(name))
    files = digest([settings, dict(login.values) if login else {}])
    before, at.memory.files = at.memory.files, (formed, files)
    if before is None or before[1] == files or before[0] != formed:
        return
    await asyncio.gather(*(_touch(at, pod.metadata.name, pod.metadata.uid, files) for pod in observe.pods(at.ctx, at.database)))


async def _relabel(at: Pass) -> None:
    """``spec.pods.labels`` and ``annotations`` on the pods that run; what others have put there stays."""
    asked = at.database.spec.pods
    note = written(asked)
    pods = [pod for pod in observe.pods(at.ctx, at.database) if not pod.metadata.deletion_timestamp]
    for pod in (pod for pod in pods if pod.metadata.annotations.written != note.get(c.WRITTEN)):
        before = _before(pod.metadata.annotations.written)
        labels = {key: value for key, value in (dict.fromkeys(before.labels) | asked.labels).items() if not key.startswith(CONTROLLERS)}
        annotations = dict.fromkeys(before.annotations) | asked.annotations | {c.WRITTEN: note.get(c.WRITTEN)}
        await _patch(at, pod.metadata.name, {"uid": pod.metadata.uid, "labels": labels, "annotations": annotations})


def _before(note: str | None) -> _Words:
    try:
        return msgspec.json.decode(note or "{}", type=_Words)
    except msgspec.DecodeError:  # edited by hand
        return _Words()


async def _touch(at: Pass, pod: str, uid: str, files: str) -> None:
    await _patch(at, pod, {"uid": uid, "annotations": {c.SETTINGS_HASH: files}})


async def _patch(at: Pass, pod: str, head: dict[str, Any]) -> None:
    try:
        await at.ctx.client.patch(r.POD, at.database.namespace, pod, {"metadata": head})
    except NotFound:
        return
