"""The Engine record and the values that pass between an engine (pure) and the reconciler (I/O)."""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, field

from database_operator.api.database import Resolved
from database_operator.api.refusals import Problem as Problem
from database_operator.api.refusals import Refusal as Refusal
from database_operator.api.spec import EngineType
from database_operator.api.status import Reason, Role

Manifest = dict[str, Any]


class Platform(Struct, frozen=True, kw_only=True):
    """What the operator's flags say about the cluster."""

    agent_image: str
    image_registry: str = ""  # prefix for the official images, "" for their own registries
    cluster_domain: str = "cluster.local"


class Inputs(Struct, frozen=True, kw_only=True):
    """All that a plan depends on besides the Database: read or created before, so that planning stays pure."""

    platform: Platform
    internal: Mapping[str, str] = field(default_factory=dict)  # the data of <name>-internal
    secret_versions: Mapping[str, str] = field(default_factory=dict)  # the user's Secrets: "<name>/<key>" -> hash of the value
    formed: bool = False  # a claim of this data group carries the engine's cluster id
    labelled: bool = False  # every running member carries its role label: a Service may select by it
    members: int = 0  # pods of the workload that exist now, those that leave included


class Member(Struct, frozen=True, kw_only=True):
    """One database pod: what Kubernetes shows of it and, where the prober got an answer, what the engine says of itself."""

    pod: str
    uid: str = ""
    ip: str | None = None
    node: str | None = None
    ready: bool = False
    running: bool = False  # the database container runs
    was_ready: bool = False  # has been ready in this life of the pod
    terminating: bool = False
    inputs: str | None = None  # the pod's own `inputs` annotation
    outdated: bool = False  # runs with other inputs than the user now wants
    revision_outdated: bool = False  # its template differs only by what a new operator changed: waits for a restart that happens anyway
    image: str = ""
    role_label: str | None = None
    # what the engine says, None: not known
    role: Role = Role.UNKNOWN
    version: str | None = None
    lag_bytes: int | None = None
    pending_restart: bool = False  # parameters that wait for a restart of the server
    shard: int | None = None
    reached: bool | None = None  # None: not asked yet
    facts: Mapping[str, Any] = field(default_factory=dict)  # the engine's own, read only by its topology


class Probe(Struct, frozen=True, kw_only=True):
    """The answer of one member, as ``reconcile.connections.<engine>.probe`` gives it."""

    role: Role = Role.UNKNOWN
    version: str | None = None
    lag_bytes: int | None = None
    pending_restart: bool = False
    shard: int | None = None
    cluster_id: str | None = None  # Patroni's system identifier, the replica set's id, the cluster uuid, a run id
    facts: Mapping[str, Any] = field(default_factory=dict)


class Observation(Struct, frozen=True, kw_only=True):
    """The whole of what is known of a Database's members. Members are sorted by pod name."""

    members: tuple[Member, ...] = ()
    wanted: int = 1  # replicas the workload should have
    cluster_id: str | None = None
    formed: str | None = None  # the cluster id that the claims carry
    settings: str | None = None  # hash of the settings that the members last confirmed
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def primary(self) -> Member | None:
        primaries = [member for member in self.members if member.role is Role.PRIMARY]
        return primaries[0] if len(primaries) == 1 else None


class Wait(Struct, frozen=True):
    """Do nothing yet. ``message`` is shown to the user under ``reason`` of the condition Progressing."""

    message: str
    reason: Reason = Reason.ROLLING_OUT


class Restart(Struct, frozen=True):
    """Replace ``pod`` so that it takes up its new inputs."""

    pod: str
    why: str = ""


class Switchover(Struct, frozen=True):
    """Ask the engine to make ``to`` the primary. The engine decides; what came of it is read back."""

    to: str
    why: str = ""


class Command(Struct, frozen=True):
    """An engine's own command on one member, carried out by its ``connections`` module; idempotent and under 2 s."""

    name: str
    pod: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""  # shown while it goes on
    reason: Reason = Reason.ROLLING_OUT


class Label(Struct, frozen=True):
    """Set (or with None take away) the role label of ``pod``, where no agent does it (design: Redis standalone, MongoDB)."""

    pod: str
    role: str | None
    shard: int | None = None


class Wipe(Struct, frozen=True):
    """Delete the claim and the pod of a member: its workload makes both anew, and the engine clones it from the others."""

    pod: str


Action = Wait | Restart | Switchover | Command | Label | Wipe


class Refused(Struct, frozen=True):
    """A request that is not done, as things stand. ``why`` is for a person, with the remedy where there is one."""

    why: str


class Handled(Struct, frozen=True):
    """A request that leaves nothing to do."""

    note: str


Verdict = Action | Refused | Handled
Trouble = tuple[Reason, str]  # a reason of the condition Degraded, and what a person reads

BEHIND_BYTES = 16 * 1024 * 1024  # a WAL segment: a replica that lacks more counts as behind


class Engine(Struct, frozen=True, kw_only=True):
    """Everything the operator knows about one kind of database. What it does not support is None, and so visible."""

    type: EngineType
    provider: str  # service binding type, URI scheme's owner: "postgresql"
    title: str
    port: int
    app_protocol: str | None  # of the Service's port
    official_image: Callable[[str], str]  # version -> reference
    data_path: Callable[[str], str]  # version -> where the volume is mounted
    major: Callable[[str], str | None]  # version -> what decides about the data's format; None: the tag is no version
    problems: Callable[[Resolved], list[Problem]]  # beyond what the schema and CEL can say, from refused parameters to versions
    parameters: Callable[[Resolved], Mapping[str, str | int]]  # the user's, of its section
    owned_parameters: tuple[Refusal, ...]
    owned_env: tuple[Refusal, ...]
    internal: (
        Callable[[Resolved, Mapping[str, str]], dict[str, str]] | None
    )  # what <name>-internal must hold and does not yet: random, never called twice for one key
    credentials: Callable[[Resolved, str, Platform], dict[str, str]]  # (database, password, platform) -> the data of <name>-credentials
    connection_string: Callable[[Resolved, str], str]  # (database, host) -> URI without credentials
    plan: Callable[[Resolved, Inputs], list[Manifest]]
    topology: Callable[[Resolved, Observation], Action | None] | None
    troubles: Callable[[Resolved, Observation], list[Trouble]] | None  # what it knows of being degraded, beyond members that are down
    switchover: Callable[[Resolved, Observation, Member], Verdict] | None  # asked to make a member the primary
    rebuild: Callable[[Resolved, Observation, Member], Verdict] | None  # asked to clone a member anew
    read_only_service: bool  # has <name>-ro from the second member on
    probe_seconds: Callable[[Resolved], float]  # between probes of a settled Database
    agent_rules: tuple[Manifest, ...] | None  # what the agent's Role may contain; the operator must hold it to grant it
    default_command_seconds: float = 2.0
    sharded: Callable[[Resolved], bool] = lambda database: False  # a primary in every shard, so that none is the Database's
    workload: str = "StatefulSet"  # or "Deployment": one pod, whose claim is ``names.single_claim``
    tag_is_version: bool = True  # the server is the one of the image, so that a lower tag is a downgrade
    own_config_maps: Callable[[str], tuple[str, ...]] = lambda name: ()  # made by its members: the cluster's identity, of the data group
    helpers: Callable[[Resolved], Mapping[str, str]] = lambda database: {}  # fact of an Observation -> component whose ready pods it counts
    bounds: tuple[tuple[str, str], ...] = ()  # parameters that are taken within bounds only: name -> which, for the documentation
