"""What a member keeps up beside Patroni's loop: its files, its logins, and that nobody else is labelled primary."""

import logging
import os
import time
from typing import Any

import psycopg

from agent.postgresql import logins as sql
from agent.postgresql import settings
from agent.postgresql.layout import Layout, Server

log = logging.getLogger(__name__)

FILES_EVERY = 2.0  # seconds; the kubelet brings a change within about a minute
LABELS_EVERY = 1.0  # seconds


class Files:
    """Follows the mounted settings and Secrets: a new password reaches Patroni and the server, and no session is lost."""

    def __init__(self, patroni: Any, layout: Layout, server: Server, content: dict[str, Any]) -> None:
        self.patroni, self.layout, self.server = patroni, layout, server
        self.content = _in_use(content)
        self.done: settings.Logins | None = None  # what the server is known to hold, as far as this process has led

    def run(self) -> None:
        while not self.patroni.received_sigterm:
            time.sleep(FILES_EVERY)
            try:
                self.turn()
            except (OSError, KeyError, ValueError, psycopg.Error) as error:  # between two versions of a mount, or a server that is going
                log.warning("could not take up settings or logins: %s: %s", type(error).__name__, str(error).splitlines()[:1])

    def turn(self) -> None:
        content = settings.configuration(self.layout, self.server, os.environ)
        if _in_use(content) != self.content:
            settings.write(self.layout.configuration, content)
            self.content = _in_use(content)
            log.info("settings or passwords have changed: reloading")
            self.patroni.sighup_handler()
            self.patroni.ha.wakeup()
        if not leads(self.patroni):
            self.done = None
            return
        wanted = settings.logins(self.layout)
        if wanted != self.done:
            with sql.connect(self.layout, wanted) as connection:
                changed = sql.ensure_roles(connection, wanted)
            if changed:
                log.info("set the password of %s", ", ".join(changed))
            self.done = wanted


def _in_use(content: dict[str, Any]) -> dict[str, Any]:
    """Without the part that only a first start reads."""
    return {key: value for key, value in content.items() if key != "bootstrap"}


def leads(patroni: Any) -> bool:
    return bool(patroni.ha.is_leader()) and patroni.postgresql.role == "primary" and patroni.postgresql.state == "running"


class Labels:
    """The leader takes ``role: primary`` from any other pod, such as one on a node that is gone (patroni#2050).

    It looks at Patroni's own copy of the pods, so it costs no request while all is well.
    """

    def __init__(self, patroni: Any, role_label: str) -> None:
        self.patroni, self.role_label = patroni, role_label

    def run(self) -> None:
        while not self.patroni.received_sigterm:
            time.sleep(LABELS_EVERY)
            if leads(self.patroni):
                for name in stale(self.patroni.dcs._pods.copy(), self.role_label, self.patroni.postgresql.name):
                    self._set(name, None)

    def lead(self) -> None:
        """Called by the holder of the lock: the Service turns while the server is promoted. Patroni itself labels after that."""
        self._set(self.patroni.postgresql.name, "primary")

    def _set(self, name: str, role: str | None) -> None:
        from patroni.dcs.kubernetes import K8sException, k8s_client

        dcs = self.patroni.dcs
        head = k8s_client.V1ObjectMeta(namespace=dcs._namespace, name=name, labels={self.role_label: role})
        try:
            dcs._api.patch_namespaced_pod(name, dcs._namespace, k8s_client.V1Pod(metadata=head))
            log.info("the role of %s is %s", name, role or "nobody's")
        except (K8sException, k8s_client.rest.ApiException) as error:
            log.warning("the role of %s could not be labelled: %s", name, type(error).__name__)


def stale(pods: dict[str, Any], role_label: str, own: str) -> list[str]:
    """Pods that say they are the primary and are not ``own``."""
    return sorted(name for name, pod in pods.items() if name != own and (pod.metadata.labels or {}).get(role_label) == "primary")
