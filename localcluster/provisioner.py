"""The provisioner of the cluster's StorageClass: folders of the machine as `local` PersistentVolumes.

Why not hostPath: the kubelet applies a pod's fsGroup to local volumes and not to hostPath ones. A claim that grows gets its new size at
once, since a folder has none. Level-triggered: every claim and volume is looked at anew whenever it changes and after each list.
"""

import argparse
import asyncio
import base64
import json
import shutil
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from localcluster.components import PROVISIONER

CLAIMS = "/api/v1/persistentvolumeclaims"
VOLUMES = "/api/v1/persistentvolumes"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
SELECTED_NODE = "volume.kubernetes.io/selected-node"  # set by the scheduler for a class that waits for the first pod
WATCH_SECONDS = 300
RETRY_SECONDS = 1.0

Object = dict[str, Any]


def volume(claim: Object, storage_class: Object, folder: Path, node: str) -> Object:
    """The PersistentVolume for a claim, already bound to it."""
    metadata = claim["metadata"]
    reference = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    here = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": folder.name, "annotations": {PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "accessModes": claim["spec"]["accessModes"],
            "volumeMode": "Filesystem",
            "storageClassName": storage_class["metadata"]["name"],
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy", "Delete"),
            "claimRef": reference,
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [here]}},
        },
    }


def wants_volume(claim: Object) -> bool:
    """Whether the claim names a class and has no volume yet."""
    spec, metadata = claim["spec"], claim["metadata"]
    return (
        bool(spec.get("storageClassName"))
        and not spec.get("volumeName")
        and not metadata.get("deletionTimestamp")
        and not spec.get("selector")
    )


def wants_growth(claim: Object) -> bool:
    """Whether a bound claim asks for another size than it has (the API server lets claims only grow)."""
    status = claim.get("status", {})
    has = status.get("capacity", {}).get("storage")
    return status.get("phase") == "Bound" and has is not None and has != claim["spec"]["resources"]["requests"]["storage"]


def wants_removal(found: Object) -> bool:
    """Whether a volume of ours is released and its data is to go."""
    ours = found["metadata"].get("annotations", {}).get(PROVISIONED_BY) == PROVISIONER
    return bool(ours) and found.get("status", {}).get("phase") == "Released" and found["spec"]["persistentVolumeReclaimPolicy"] == "Delete"


class Provisioner:
    """Watches claims and volumes and gives, grows and removes folders below `root`."""

    def __init__(self, session: aiohttp.ClientSession, root: Path, node: str) -> None:
        self._session = session
        self._root = root
        self._node = node

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(CLAIMS, self._reconcile_claim))
            group.create_task(self._follow(VOLUMES, self._reconcile_volume))

    async def _follow(self, path: str, reconcile: Callable[[Object], Awaitable[None]]) -> None:
        while True:
            try:
                async for found in self._objects(path):
                    await self._reconcile(found, reconcile)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                print(f"{path}: {error!r}", file=sys.stderr, flush=True)
                await asyncio.sleep(RETRY_SECONDS)

    async def _reconcile(self, found: Object, reconcile: Callable[[Object], Awaitable[None]]) -> None:
        try:
            await reconcile(found)
        except aiohttp.ClientResponseError as error:
            if error.status >= 500 or error.status == 429:
                raise
            # refused for what it says: the others go on, and it is looked at again when it changes
            print(f"{found['metadata']['name']}: {error.status} {error.message}", file=sys.stderr, flush=True)

    async def _objects(self, path: str) -> AsyncIterator[Object]:
        """Every object at `path`, then each that changes, until the watch ends."""
        listed = await self._call("GET", path)
        for item in listed["items"]:
            yield item
        query = {"watch": "1", "resourceVersion": listed["metadata"]["resourceVersion"], "timeoutSeconds": str(WATCH_SECONDS)}
        timeout = aiohttp.ClientTimeout(total=None, sock_read=WATCH_SECONDS + 30)
        async with self._session.get(path, params=query, timeout=timeout) as response:
            response.raise_for_status()
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":  # the history was compacted: list again
                    return
                if event["type"] != "DELETED":
                    yield event["object"]

    async def _call(self, method: str, path: str, body: Object | None = None, allow: tuple[int, ...] = ()) -> Object:
        headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
        async with self._session.request(method, path, json=body, headers=headers) as response:
            if response.status not in allow:
                response.raise_for_status()
            answer: Object = await response.json()
            return answer

    async def _reconcile_claim(self, claim: Object) -> None:
        metadata, spec = claim["metadata"], claim["spec"]
        if wants_volume(claim):
            storage_class = await self._call("GET", f"{CLASSES}/{spec['storageClassName']}", allow=(404,))
            waits = storage_class.get("volumeBindingMode") == "WaitForFirstConsumer" and SELECTED_NODE not in metadata.get(
                "annotations", {}
            )
            if storage_class.get("provisioner") != PROVISIONER or waits:
                return
            folder = self._root / f"pvc-{metadata['uid']}"
            folder.mkdir(mode=0o755, exist_ok=True)  # root's, as a new disk is: a pod needs its fsGroup to write
            await self._call("POST", VOLUMES, volume(claim, storage_class, folder, self._node), allow=(409,))
        elif wants_growth(claim):
            found = await self._call("GET", f"{VOLUMES}/{spec['volumeName']}", allow=(404,))
            if found.get("metadata", {}).get("annotations", {}).get(PROVISIONED_BY) != PROVISIONER:
                return
            size = {"storage": spec["resources"]["requests"]["storage"]}
            await self._call("PATCH", f"{VOLUMES}/{spec['volumeName']}", {"spec": {"capacity": size}})
            path = f"/api/v1/namespaces/{metadata['namespace']}/persistentvolumeclaims/{metadata['name']}/status"
            await self._call("PATCH", path, {"status": {"capacity": size, "conditions": None}}, allow=(404,))

    async def _reconcile_volume(self, found: Object) -> None:
        if not wants_removal(found):
            return
        name, folder = found["metadata"]["name"], Path(found["spec"]["local"]["path"])
        if folder.parent == self._root and folder.name == name:  # never anything a volume merely points to
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        await self._call("DELETE", f"{VOLUMES}/{name}", {"preconditions": {"uid": found["metadata"]["uid"]}}, allow=(404, 409))


async def serve(config: Object, root: Path, node: str) -> None:
    """Runs the provisioner against the cluster of a kubeconfig (one with a CA and a token in it)."""
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    headers = {"Authorization": f"Bearer {user['token']}", "User-Agent": "localcluster-provisioner"}
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(
        cluster["server"], headers=headers, connector=connector, timeout=aiohttp.ClientTimeout(total=15), read_bufsize=2**21
    ) as session:
        await Provisioner(session, root, node).run()


def main() -> None:
    """The command line of the component."""
    parser = argparse.ArgumentParser(prog="localcluster.provisioner")
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--node", required=True)
    arguments = parser.parse_args()
    asyncio.run(serve(yaml.safe_load(arguments.kubeconfig.read_text()), arguments.root, arguments.node))


if __name__ == "__main__":
    main()
