"""What the operator writes under ``status``. Only what crosses a line is written, never a sample."""

from enum import Enum

from msgspec import Struct, field


class Phase(Enum):
    PENDING = "Pending"
    CREATING = "Creating"
    READY = "Ready"
    FAILED = "Failed"
    UPGRADING = "Upgrading"
    STOPPED = "Stopped"
    DELETING = "Deleting"


class Reason(Enum):
    """Every reason a condition can carry, by the condition that carries it."""

    # Ready
    DATABASE_READY = "DatabaseReady"
    CREATING = "Creating"
    STOPPED = "Stopped"
    RECONCILIATION_FAILED = "ReconciliationFailed"
    INVALID_SPEC = "InvalidSpec"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105  a condition's reason
    NAME_CONFLICT = "NameConflict"
    DATA_CONFLICT = "DataConflict"
    IMAGE_NOT_PULLED = "ImageNotPulled"
    UNSCHEDULABLE = "Unschedulable"
    QUOTA_EXCEEDED = "QuotaExceeded"
    STORAGE_CLASS_NOT_FOUND = "StorageClassNotFound"
    CRASH_LOOPING = "CrashLooping"
    # Progressing
    ROLLING_OUT = "RollingOut"
    SCALING = "Scaling"
    GROWING = "Growing"
    UPDATE_PENDING = "UpdatePending"
    UPGRADE_NOT_SUPPORTED = "UpgradeNotSupported"
    PAUSED = "Paused"
    SETTLED = "Settled"
    # Degraded
    MEMBER_DOWN = "MemberDown"
    LAGGING = "Lagging"
    QUORUM_LOST = "QuorumLost"
    DURABILITY_REDUCED = "DurabilityReduced"
    NO_REPLICAS = "NoReplicas"
    EVEN_VOTERS = "EvenVoters"
    ALL_MEMBERS_HEALTHY = "AllMembersHealthy"
    # Reachable
    REACHED = "Reached"
    UNREACHABLE = "Unreachable"


class Role(Enum):
    PRIMARY = "primary"
    REPLICA = "replica"
    ARBITER = "arbiter"
    UNKNOWN = "unknown"


class Lag(Enum):
    CURRENT = "Current"
    BEHIND = "Behind"
    UNKNOWN = "Unknown"


class Condition(Struct, frozen=True, rename="camel", kw_only=True):
    """A ``metav1.Condition``. ``last_transition_time`` is RFC 3339, UTC, whole seconds."""

    type: str
    status: str  # True | False | Unknown
    reason: str
    message: str = ""
    last_transition_time: str
    observed_generation: int = 0


class MemberStatus(Struct, frozen=True, rename="camel", kw_only=True):
    name: str  # the pod
    role: Role = Role.UNKNOWN
    ready: bool = False
    version: str | None = None
    group: str = "default"
    shard: int | None = None
    lag: Lag = Lag.UNKNOWN


class StorageStatus(Struct, frozen=True, rename="camel"):
    size: str


class BindingStatus(Struct, frozen=True, rename="camel"):
    name: str


class DatabaseStatus(Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    phase: Phase | None = None
    conditions: tuple[Condition, ...] = ()
    replicas: int | None = None
    ready_replicas: int | None = None
    ready: str | None = None  # "3/3": a printer column cannot join two numbers
    selector: str | None = None
    service_name: str | None = None
    endpoint: str | None = None
    connection_string: str | None = None
    primary: str | None = None
    members: tuple[MemberStatus, ...] = ()
    version: str | None = None
    storage: StorageStatus | None = None
    observed_generation: int | None = None
    message: str | None = None
    binding: BindingStatus | None = None
    requests: dict[str, str] = field(default_factory=dict)  # unbounded: a long value must not make the status unreadable
