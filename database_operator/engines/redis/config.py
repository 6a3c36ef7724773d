"""redis.conf as far as it holds no secret, and what is wrong with a spec. Pure."""

import re
from collections import Counter

import msgspec

from database_operator.api.database import Resolved
from database_operator.api.quantity import whole_bytes
from database_operator.api.refusals import effective, refused, refused_env
from database_operator.api.spec import RedisMode
from database_operator.build import names
from database_operator.build.redisconf import AgentSettings, directive
from database_operator.engines.base import Problem, Refusal
from database_operator.engines.redis.live import LIVE, default

PORT = 6379
DATA_PATH = "/data"
SENTINELS = 3
PARAMETERS_PATH = "spec.redis.parameters"
NODE_TIMEOUT = 3000  # ms until the members of a cluster take a silent one for failed
ASSUMED_MEMORY = "512Mi"  # where the spec sets no memory limit

_PATHS = "the operator owns the paths inside the container"
_NETWORK = "the operator owns addresses and ports"
_ACCESS = "logins are made by the operator; use spec.redis.passwordSecret"
_ROLES = "Sentinel decides who is primary; use spec.replicas and spec.redis.mode"
_CODE = "it lets a client run code or read files of the server"
_CLUSTER = "the operator forms the cluster; use spec.redis.mode and spec.redis.shards"
_PROCESS = "the server runs in the foreground and logs to its standard output"

OWNED_PARAMETERS = (
    Refusal("acl-pubsub-default", _ACCESS),
    Refusal("aclfile", _ACCESS),
    Refusal("appenddirname", _PATHS, accept=("appendonlydir",)),
    Refusal("appendfilename", _PATHS, accept=("appendonly.aof",)),
    Refusal("bind", _NETWORK, accept=("0.0.0.0", "* -::*", "*")),  # noqa: S104  the words are compared, nothing binds
    Refusal("bind-source-addr", _NETWORK),
    Refusal("cluster-enabled", _CLUSTER, accept=("no",)),
    Refusal("cluster-*", _CLUSTER),
    Refusal("daemonize", _PROCESS, accept=("no",)),
    Refusal("dbfilename", _PATHS, accept=("dump.rdb",)),
    Refusal("dir", _PATHS, accept=(DATA_PATH, f"{DATA_PATH}/")),
    Refusal("enable-debug-command", _CODE, accept=("no",)),
    Refusal("enable-module-command", _CODE, accept=("no",)),
    Refusal("enable-protected-configs", _CODE, accept=("no",)),
    Refusal("ignore-warnings", "a warning of the server is there to be mended"),
    Refusal("include", _CODE),
    Refusal("loadmodule", _CODE),
    Refusal("logfile", _PROCESS, accept=("",)),
    Refusal("masterauth", _ACCESS),
    Refusal("masteruser", _ACCESS),
    Refusal("oom-score-adj*", "the kubelet sets it by the pod's resources", accept=("no",)),
    Refusal("pidfile", _PROCESS, accept=()),
    Refusal("port", _NETWORK, accept=(str(PORT),)),
    Refusal("proc-title-template", _PROCESS),
    Refusal("protected-mode", _NETWORK, accept=("yes", "no")),
    Refusal("rename-command", "the operator and Sentinel need every command under its own name; deny commands by ACL in the application"),
    Refusal("replica-announce-ip", _NETWORK),
    Refusal("replica-announce-port", _NETWORK),
    Refusal("replica-announced", _ROLES, accept=("yes",)),
    Refusal("replica-priority", _ROLES, accept=("100",)),
    Refusal("replica-read-only", "a write to a replica is lost; write through the Service", accept=("yes",)),
    Refusal("replicaof", _ROLES),
    Refusal("requirepass", _ACCESS),
    Refusal("sentinel", _ROLES),
    Refusal("set-proc-title", _PROCESS),
    Refusal("supervised", _PROCESS, accept=("no", "auto")),
    Refusal("syslog-*", _PROCESS, accept=("no",)),
    Refusal("tls-*", "TLS is set up by the operator"),
    Refusal("unixsocket*", _NETWORK),
    Refusal("user", _ACCESS),
)

_LOADER = "it changes which code the server loads"
OWNED_ENV = (
    Refusal("LD_*", _LOADER),
    Refusal("PYTHON*", _LOADER),
    Refusal("PYINSTALLER_*", _LOADER),
    Refusal("_MEIPASS*", _LOADER),
    Refusal("_PYI_*", _LOADER),
    Refusal("MALLOC_CONF", "it changes how the server manages its memory"),
    Refusal("POD_NAME", "the operator sets it"),
    Refusal("POD_NAMESPACE", "the operator sets it"),
    Refusal("POD_IP", "the operator sets it"),
    Refusal("REDISCLI_AUTH", "the readiness probe logs in by it; the password comes from spec.redis.passwordSecret"),
    Refusal("REDISCLI_HISTFILE", _PATHS),
    Refusal("REDIS_PASSWORD", "the password comes from spec.redis.passwordSecret"),
)

_NAME = re.compile(r"[a-z][a-z0-9_-]{1,63}")
_VERSION = re.compile(r"v?(\d{1,4})(?:\.(\d{1,4}))?(?:[.-].*)?")
_MUSL = re.compile(r"(^|[-_.])alpine")


def version(tag: str) -> tuple[int, int] | None:
    """Major and minor; a tag without a minor means its newest, one that is no version (``latest``) None."""
    match = _VERSION.fullmatch(tag)
    return (int(match[1]), int(match[2]) if match[2] else 9999) if match else None


def major(tag: str) -> str | None:
    """Redis reads the files of every older version, so data is of no major; a downgrade shows in the server's own version."""
    return None


def is_before_7(tag: str) -> bool:
    found = version(tag)
    return found is not None and found < (7, 0)


def canonical_name(name: str) -> str:
    """The name by which CONFIG GET knows a directive: case means nothing, and ``slave`` is an old word for ``replica``."""
    return name.lower().replace("slave", "replica")


def given(database: Resolved) -> dict[str, str]:
    """The user's parameters under their canonical names."""
    return {canonical_name(name): str(value) for name, value in sorted(database.redis.parameters.items())}


def _memory(database: Resolved) -> int:
    return whole_bytes(database.spec.resources.memory_limit or ASSUMED_MEMORY)


def default_maxmemory(database: Resolved) -> int:
    """Bytes: three quarters of the memory limit; the rest is for buffers and for the copy-on-write of a snapshot."""
    return _memory(database) * 3 // 4


def default_buffers(database: Resolved) -> str:
    """What may wait for a replica that is slow, hangs or copies anew: ``maxmemory`` does not count it, the kernel does.

    Redis' own 256 MB would have the primary killed; a replica that is given up copies anew instead.
    """
    hard, soft = min(256 * 1024**2, _memory(database) // 8), min(64 * 1024**2, _memory(database) // 16)
    return f"replica {hard} {soft} 60"


def least_replicas(database: Resolved) -> int:
    """``min-replicas-to-write``: with three members a primary that lost them all stops taking writes."""
    return 1 if database.redis.mode is RedisMode.SENTINEL and database.spec.replicas >= 3 else 0


def parameters(database: Resolved) -> dict[str, str]:
    """Every directive that the user or the operator sets, live ones in canonical form, sorted by name."""
    ours = {
        "appendonly": "yes",
        "client-output-buffer-limit": default_buffers(database),
        "maxmemory": str(default_maxmemory(database)),
        "maxmemory-policy": "noeviction",
        # one that is cut off stops about when Sentinel, after 3 s without it, chooses another: Redis' own 10 s are too many by far
        "min-replicas-max-lag": "3",
        "min-replicas-to-write": str(least_replicas(database)),
        "repl-diskless-sync-delay": "1",  # seconds a first replica waits for others to share its copy
    }
    wanted = ours | {name: str(value) for name, value in effective(given(database), OWNED_PARAMETERS).items()}
    return {name: LIVE[name].canonical(value) if name in LIVE else value for name, value in sorted(wanted.items())}


def live(database: Resolved) -> dict[str, str]:
    """Every live directive with the value that shall be in force, defaults included."""
    wanted = parameters(database)
    return {name: wanted.get(name, default(name)) for name in LIVE}


def restart_inputs(database: Resolved) -> dict[str, str]:
    """The directives that only a new start takes up."""
    return {name: value for name, value in parameters(database).items() if name not in LIVE}


def settings(database: Resolved) -> str:
    """redis.conf without secrets and without what only the pod knows: the agent adds its name, its role and its logins."""
    fixed = {"dir": DATA_PATH, "port": str(PORT), "protected-mode": "no"}
    if database.redis.mode is RedisMode.CLUSTER:
        fixed |= {"cluster-enabled": "yes", "cluster-config-file": "nodes.conf", "cluster-node-timeout": str(NODE_TIMEOUT)}
        fixed |= {"cluster-allow-replica-migration": "no"}  # a member's shard follows from its number
    lines = parameters(database) | fixed
    return "".join(directive(name, lines[name]) for name in sorted(lines))


def agent_settings(database: Resolved, cluster_domain: str, *, formed: bool) -> str:
    domain = f"{database.namespace}.svc.{cluster_domain}"
    mode = database.redis.mode or RedisMode.STANDALONE
    content = AgentSettings(
        mode=mode.value,
        workload=names.workload(database.name),
        members=f"{names.members_service(database.name)}.{domain}",
        sentinels=f"{names.sentinel(database.name)}.{domain}",
        replicas=database.spec.replicas,
        formed=formed and mode is RedisMode.SENTINEL,  # a single member never asks
    )
    return msgspec.json.encode(content, order="deterministic").decode()


def _version_problems(database: Resolved) -> list[Problem]:
    tag = database.spec.version
    field = "spec.image" if database.spec.image else "spec.version"
    if _MUSL.search(database.spec.image or tag):
        return [Problem(field, "images built on Alpine lack the C library that the agent needs; use the tag without -alpine")]
    found = version(tag)
    least = (7, 0) if database.redis.mode is RedisMode.CLUSTER else (6, 2)
    if found is not None and found < least:
        return [
            Problem("spec.version", f"must be {least[0]}.{least[1]} or newer in mode {(database.redis.mode or RedisMode.STANDALONE).value}")
        ]
    return []


def _value_problems(database: Resolved) -> list[Problem]:
    problems = []
    for name, value in effective(given(database), OWNED_PARAMETERS).items():
        field = f"{PARAMETERS_PATH}.{name}"
        if not _NAME.fullmatch(name):
            problems.append(Problem(field, "is no name of a redis.conf directive"))
        elif any(character in str(value) for character in "\n\r\0"):
            problems.append(Problem(field, "must not hold a line break or NUL"))
        elif name in LIVE:
            try:
                LIVE[name].canonical(str(value))
            except ValueError as error:
                problems.append(Problem(field, str(error)))
    return problems


def _bound_problems(database: Resolved) -> list[Problem]:
    """Values that are right by themselves and wrong with the rest of the spec."""
    wanted = parameters(database)
    problems = []
    least = int(wanted["min-replicas-to-write"])
    if least and least >= database.spec.replicas > 0:
        message = f"must be less than the {database.spec.replicas} members of spec.replicas, or no write would ever be taken"
        problems.append(Problem(f"{PARAMETERS_PATH}.min-replicas-to-write", message))
    limit = database.spec.resources.memory_limit
    if limit and int(wanted["maxmemory"]) > whole_bytes(limit):
        message = f"must be below spec.resources.memoryLimit ({limit}), or the kernel kills the server first"
        problems.append(Problem(f"{PARAMETERS_PATH}.maxmemory", message))
    return problems


def problems(database: Resolved) -> list[Problem]:
    """What the schema and CEL cannot say."""
    found = _version_problems(database) + refused_env([variable.name for variable in database.spec.env], OWNED_ENV)
    doubled = [name for name, count in sorted(Counter(map(canonical_name, database.redis.parameters)).items()) if count > 1]
    found += [Problem(f"{PARAMETERS_PATH}.{name}", "is given twice: case and old names mean the same; keep one") for name in doubled]
    found += refused(given(database), OWNED_PARAMETERS, PARAMETERS_PATH)
    wrong = _value_problems(database)
    return found + (wrong or _bound_problems(database))
