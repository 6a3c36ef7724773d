"""Why pods do not become ready, read from what Kubernetes says of them. Pure."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from database_operator.api.status import Reason
from database_operator.reconcile.views import ClaimView, ContainerStatus, PodView

IMAGE_REASONS = frozenset(
    {"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable"}
)
CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
MESSAGE_LIMIT = 400  # characters of a foreign message that are shown


class Blocker(Struct, frozen=True):
    """What stands in the way of one pod."""

    pod: str
    reason: Reason
    message: str


def short(text: str) -> str:
    """One line, cut: messages of the kubelet repeat themselves and may be long."""
    line = " ".join(text.split())
    return line if len(line) <= MESSAGE_LIMIT else f"{line[: MESSAGE_LIMIT - 1]}…"


def _container(pod: PodView, status: ContainerStatus) -> Blocker | None:
    name = pod.metadata.name
    waiting = status.state.waiting
    if waiting and waiting.reason in IMAGE_REASONS:
        return Blocker(name, Reason.IMAGE_NOT_PULLED, short(f"{name}: image {status.image}: {waiting.reason}: {waiting.message}"))
    if waiting and waiting.reason in CONFIG_REASONS:
        return Blocker(name, Reason.RECONCILIATION_FAILED, short(f"{name}: {waiting.reason}: {waiting.message}"))
    last = status.last_state.terminated
    crashed = waiting is not None and waiting.reason == "CrashLoopBackOff"
    if crashed or (status.state.terminated and status.restart_count >= 2):
        ended = last or status.state.terminated
        why = f"{ended.reason} (exit code {ended.exit_code}) {ended.message}" if ended else ""
        return Blocker(name, Reason.CRASH_LOOPING, short(f"{name}: container {status.name} restarted {status.restart_count} times: {why}"))
    return None


def of_pod(pod: PodView) -> Blocker | None:
    """The first reason why this pod is not ready, None where it just needs time."""
    scheduled = pod.condition("PodScheduled")
    if scheduled and scheduled.status == "False" and scheduled.reason == "Unschedulable":
        return Blocker(pod.metadata.name, Reason.UNSCHEDULABLE, short(f"{pod.metadata.name}: {scheduled.message}"))
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        found = _container(pod, status)
        if found is not None:
            return found
    return None


def of_claims(claims: Iterable[ClaimView], classes: frozenset[str], default: str | None) -> str | None:
    """A message where a claim waits for a StorageClass that is not there."""
    for claim in claims:
        if claim.status.phase != "Pending":
            continue
        asked = claim.spec.storage_class_name
        if asked and asked not in classes:
            return f'claim {claim.metadata.name}: there is no StorageClass "{asked}": set spec.storage.storageClassName to one that exists'
        if asked is None and default is None:
            return f"claim {claim.metadata.name}: the cluster has no default StorageClass: name one in spec.storage.storageClassName"
    return None


def first(pods: Sequence[PodView]) -> Blocker | None:
    return next((found for found in map(of_pod, pods) if found is not None), None)


def stuck(pod: PodView) -> bool:
    """The pod cannot become ready by waiting, or runs nowhere yet: if its template is outdated too, replacing it loses nothing."""
    if pod.spec.node_name is None:  # also where nobody says why, as with a scheduler that does not exist
        return True
    found = of_pod(pod)
    return found is not None and found.reason in (
        Reason.IMAGE_NOT_PULLED,
        Reason.UNSCHEDULABLE,
        Reason.CRASH_LOOPING,
        Reason.RECONCILIATION_FAILED,
    )
