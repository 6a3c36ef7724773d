"""What is kept in memory of each watched kind: only what a pass looks at.

An event that changes nothing here does not wake anybody, so a pod's annotations are cut down to ours: Patroni
patches its pods at every turn of its loop.
"""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from database_operator.api.database import API_VERSION, KIND, PLURAL
from database_operator.build import constants as c
from database_operator.kube.objects import AnnotatedMeta, Key, Meta
from database_operator.kube.resources import Resource, register

DATABASE = register(Resource(API_VERSION, KIND, PLURAL))


class DatabaseView(Struct, frozen=True, gc=False):
    """A Database; spec and status stay bytes, so that a wrong one cannot stop the watch."""

    metadata: AnnotatedMeta
    spec: msgspec.Raw = msgspec.Raw(b"{}")
    status: msgspec.Raw = msgspec.Raw(b"{}")


class PodAnnotations(Struct, frozen=True, gc=False):
    inputs: str | None = msgspec.field(name=c.INPUTS, default=None)
    template: str | None = msgspec.field(name=c.TEMPLATE, default=None)
    written: str | None = msgspec.field(name=c.WRITTEN, default=None)


class PodMeta(Meta, frozen=True, kw_only=True, eq=False, gc=False, rename="camel"):
    annotations: PodAnnotations = PodAnnotations()


class Waiting(Struct, frozen=True, gc=False):
    reason: str = ""
    message: str = ""


class Terminated(Struct, frozen=True, gc=False, rename="camel"):
    reason: str = ""
    message: str = ""
    exit_code: int = 0


class Running(Struct, frozen=True, gc=False):
    pass


class ContainerState(Struct, frozen=True, gc=False):
    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(Struct, frozen=True, gc=False, rename="camel"):
    name: str
    image: str = ""
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodCondition(Struct, frozen=True, gc=False, rename="camel"):
    type: str
    status: str = ""
    reason: str = ""
    message: str = ""


class ClaimSource(Struct, frozen=True, gc=False, rename="camel"):
    claim_name: str = ""


class Volume(Struct, frozen=True, gc=False, rename="camel"):
    name: str = ""
    persistent_volume_claim: ClaimSource | None = None


class PodSpecView(Struct, frozen=True, gc=False, rename="camel"):
    node_name: str | None = None
    volumes: tuple[Volume, ...] = ()


class PodStatusView(Struct, frozen=True, gc=False, rename="camel"):
    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_ip: str | None = msgspec.field(name="podIP", default=None)
    conditions: tuple[PodCondition, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class PodView(Struct, frozen=True, gc=False):
    metadata: PodMeta
    spec: PodSpecView = PodSpecView()
    status: PodStatusView = PodStatusView()

    def condition(self, type_: str) -> PodCondition | None:
        return next((condition for condition in self.status.conditions if condition.type == type_), None)

    @property
    def ready(self) -> bool:
        condition = self.condition("Ready")
        return condition is not None and condition.status == "True" and self.metadata.deletion_timestamp is None

    @property
    def claim(self) -> str | None:
        """The claim with the member's data."""
        sources = (volume.persistent_volume_claim for volume in self.spec.volumes if volume.name == c.DATA_VOLUME)
        return next((source.claim_name for source in sources if source), None)

    @property
    def database(self) -> ContainerStatus | None:
        return next((status for status in self.status.container_statuses if status.name == c.DATABASE), None)


class WorkloadCondition(Struct, frozen=True, gc=False):
    type: str
    status: str = ""
    reason: str = ""
    message: str = ""


class WorkloadStatus(Struct, frozen=True, gc=False, rename="camel"):
    observed_generation: int = 0
    replicas: int = 0
    update_revision: str = ""
    conditions: tuple[WorkloadCondition, ...] = ()


class ClaimResources(Struct, frozen=True, gc=False):
    requests: dict[str, str] = {}


class ClaimSpec(Struct, frozen=True, gc=False, rename="camel"):
    resources: ClaimResources = ClaimResources()
    storage_class_name: str | None = None

    @property
    def request(self) -> str:
        return self.resources.requests.get("storage", "0")


class ClaimTemplate(Struct, frozen=True, gc=False):
    spec: ClaimSpec = ClaimSpec()


class WorkloadSpec(Struct, frozen=True, gc=False, rename="camel"):
    replicas: int = 1
    volume_claim_templates: tuple[ClaimTemplate, ...] = ()


class WorkloadView(Struct, frozen=True, gc=False):
    """A StatefulSet or a Deployment."""

    metadata: Meta
    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()


class ClaimStatus(Struct, frozen=True, gc=False):
    phase: str = ""
    capacity: dict[str, str] = {}
    conditions: tuple[PodCondition, ...] = ()


class ClaimView(Struct, frozen=True, gc=False):
    metadata: AnnotatedMeta
    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()


class ChildView(Struct, frozen=True, gc=False):
    """Any other child: its metadata, annotations included."""

    metadata: AnnotatedMeta


def by_app(view: PodView) -> Iterable[str]:
    """Index: the Database a pod says it belongs to, helper pods included."""
    instance = view.metadata.labels.get(c.INSTANCE)
    return (str(Key(view.metadata.namespace, instance)),) if instance else ()


def by_data_of(view: ClaimView | ChildView) -> Iterable[str]:
    """Index: the Database whose data group an object belongs to."""
    name = view.metadata.labels.get(c.DATA_OF)
    return (str(Key(view.metadata.namespace, name)),) if name else ()
