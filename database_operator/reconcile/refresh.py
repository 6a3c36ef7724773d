"""Bring changed files into running pods at once.

A kubelet looks at mounted ConfigMaps and Secrets about once a minute, but at once when the pod itself changes: so
the pods of a Database whose settings or login were just written get an annotation. What is lost with this process
costs that minute and nothing else.
"""

import asyncio
from collections.abc import Sequence

from database_operator.build import constants as c
from database_operator.build import names
from database_operator.build.manifest import Manifest, digest
from database_operator.kube import resources as r
from database_operator.kube.errors import NotFound
from database_operator.reconcile import observe
from database_operator.reconcile.context import Pass


async def refresh(at: Pass, children: Sequence[Manifest], formed: bool) -> None:
    """Touch the pods if the files they mount differ from what the last pass wrote.

    What changes as the cluster has just ``formed`` is read at the next start only, and can wait for the kubelet.
    """
    name = at.database.name
    settings = [child["data"] for child in children if child["kind"] == "ConfigMap"]
    login = at.memory.secrets.get(names.credentials(name))
    files = digest([settings, dict(login.values) if login else {}])
    before, at.memory.files = at.memory.files, (formed, files)
    if before is None or before[1] == files or before[0] != formed:
        return
    await asyncio.gather(*(_touch(at, pod.metadata.name, pod.metadata.uid, files) for pod in observe.pods(at.ctx, at.database)))


async def _touch(at: Pass, pod: str, uid: str, files: str) -> None:
    patch = {"metadata": {"uid": uid, "annotations": {c.SETTINGS_HASH: files}}}
    try:
        await at.ctx.client.patch(r.POD, at.database.namespace, pod, patch)
    except NotFound:
        return
