"""Elasticsearch's settings files, and what is wrong with a spec. Pure."""

import re
from collections.abc import Mapping

from database_operator.api.database import Resolved
from database_operator.api.quantity import mebibytes
from database_operator.api.refusals import effective, refused, refused_env
from database_operator.build import constants as c
from database_operator.build import names
from database_operator.build.scalar import scalar
from database_operator.engines.base import Inputs, Problem
from database_operator.engines.elasticsearch.refused import OWNED_ENV, OWNED_PARAMETERS, is_dynamic

PORT = 9200
HOME = "/usr/share/elasticsearch"
DATA_PATH = f"{HOME}/data"
LOGS_PATH = f"{HOME}/logs"
CONFIG_PATH = "/etc/elasticsearch"  # an emptyDir; the image's own folder stays as it is, to be copied from
YML_FILE = "elasticsearch.yml"
JVM_FILE = "database-operator.options"
PARAMETERS_PATH = "spec.elasticsearch.parameters"
MANAGED = "cluster.metadata.database_operator_settings"  # names of the cluster settings that the operator has made

OLDEST = (8, 2)  # readiness.port
DEFAULT_HEAP_MIB = 512
LEAST_HEAP_MIB = 128
MOST_HEAP_MIB = 31 * 1024  # above, the JVM no longer compresses pointers (elastic.co, "Heap size settings")

_DATA_ROLES = frozenset({"data", "data_content", "data_hot", "data_warm", "data_cold"})
ROLES = _DATA_ROLES | {"master", "data_frozen", "ingest", "ml", "remote_cluster_client", "transform"}
_VERSION = re.compile(r"^v?(\d+)\.(\d+)")
_MAJOR = re.compile(r"^v?(\d+)(?:\.|$)")
_CLUSTER_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
_HEAP_OPTION = re.compile(r"^-Xm[sx][0-9]+[kKmMgG]$")
_TUNING_OPTION = re.compile(r"^-XX:([+-][A-Za-z0-9]+|[A-Za-z0-9]+=[0-9]+[kKmMgG]?)$")


def major(version: str) -> str | None:
    found = _MAJOR.match(version)
    return found[1] if found else None


def parameters(database: Resolved) -> dict[str, str | int]:
    """The user's settings that are applied, sorted."""
    return effective(database.elasticsearch.parameters, OWNED_PARAMETERS)


def dynamic_settings(database: Resolved) -> dict[str, str]:
    """Those that a running cluster takes, as it reads them back."""
    return {name: str(value) for name, value in parameters(database).items() if is_dynamic(name)}


def static_settings(database: Resolved) -> dict[str, str | int]:
    """Those that stand in elasticsearch.yml: they need a restart."""
    return {name: value for name, value in parameters(database).items() if not is_dynamic(name)}


def heap_mib(database: Resolved) -> int:
    """Half the memory limit, the other half being for the file cache and the JVM itself; 512 without a limit."""
    limit = database.spec.resources.memory_limit
    if limit is None:
        return DEFAULT_HEAP_MIB
    return max(LEAST_HEAP_MIB, min(MOST_HEAP_MIB, mebibytes(limit) // 2))


def jvm_options(database: Resolved) -> str:
    """The heap, one size from the start. The collector's log goes to stderr, not into 2 GiB of files; no heap dump fills the volume."""
    heap = heap_mib(database)
    options = [f"-Xms{heap}m", f"-Xmx{heap}m", "-XX:-HeapDumpOnOutOfMemoryError"]
    options += ["-Xlog:disable", "-Xlog:all=warning:stderr:utctime,level,tags"]
    return "".join(f"{option}\n" for option in options)


def seed_hosts(database: Resolved, cluster_domain: str) -> str:
    return f"{names.members_service(database.name)}.{database.namespace}.svc.{cluster_domain}"


def _owned(database: Resolved, inputs: Inputs) -> dict[str, str | int | list[str]]:
    owned: dict[str, str | int | list[str]] = {
        "cluster.name": database.elasticsearch.cluster_name or database.name,
        "node.name": "${POD_NAME}",
        "path.data": DATA_PATH,
        "path.logs": LOGS_PATH,
        "network.host": "0.0.0.0",  # noqa: S104  a pod's own
        "network.publish_host": "${POD_IP}",
        "http.port": PORT,
        "transport.port": c.TRANSPORT_PORT,
        "readiness.port": c.AGENT_PORT,
        "discovery.seed_hosts": [seed_hosts(database, inputs.platform.cluster_domain)],
        "xpack.security.enabled": "true",
        "xpack.security.enrollment.enabled": "false",
        "xpack.security.autoconfiguration.enabled": "false",
        # the login is the file realm's alone, so that a changed Secret reaches running nodes; with the reserved realm on, the
        # name `elastic` is not taken from files
        "xpack.security.authc.reserved_realm.enabled": "false",
        "xpack.security.http.ssl.enabled": "false",
        "xpack.security.transport.ssl.enabled": "true",
        # nodes connect by address; the CA is this Database's own and signs its nodes only
        "xpack.security.transport.ssl.verification_mode": "certificate",
        "xpack.security.transport.ssl.key": "certs/node.key",
        "xpack.security.transport.ssl.certificate": "certs/node.crt",
        "xpack.security.transport.ssl.certificate_authorities": ["certs/ca.crt"],
    }
    if database.elasticsearch.node_roles is not None:
        owned["node.roles"] = list(database.elasticsearch.node_roles)
    if not inputs.formed:
        owned["cluster.initial_master_nodes"] = inputs.internal.get("initial-master-nodes", "").split(",")
    return owned


def elasticsearch_yml(database: Resolved, inputs: Inputs) -> str:
    """Flat settings, one a line, values as JSON, which YAML includes. ``${…}`` stands in our own values only.

    ``cluster.initial_master_nodes`` stands there only while no cluster has formed: with it a node that lost its volume would
    form a second, empty one. Memory mapping is off unless the user sets it: it needs vm.max_map_count, which a restricted pod cannot raise.
    """
    defaults: dict[str, str | int | list[str]] = {"node.store.allow_mmap": "false"}
    merged = defaults | dict(static_settings(database)) | _owned(database, inputs)
    return "".join(f"{name}: {scalar(merged[name])}\n" for name in sorted(merged))


def settings_files(database: Resolved, inputs: Inputs) -> dict[str, str]:
    return {YML_FILE: elasticsearch_yml(database, inputs), JVM_FILE: jvm_options(database)}


def restart_inputs(database: Resolved) -> Mapping[str, object]:
    """What a running node does not take up."""
    return {"parameters": static_settings(database), "nodeRoles": database.elasticsearch.node_roles}


def _role_problems(database: Resolved) -> list[Problem]:
    roles = database.elasticsearch.node_roles
    if roles is None:
        return []
    field = "spec.elasticsearch.nodeRoles"
    unknown = sorted(set(roles) - ROLES)
    if unknown:
        return [Problem(field, f"there is no role {', '.join(unknown)}; there are {', '.join(sorted(ROLES))}")]
    if len(set(roles)) < len(roles):
        return [Problem(field, "a role is given twice; name each once")]
    if "master" not in roles:
        return [Problem(field, "all members have these roles, so without master none can be elected; add master")]
    if not set(roles) & _DATA_ROLES:
        return [Problem(field, "all members have these roles, so without a data role nothing can be stored; add data")]
    if "data" not in roles and "data_content" not in roles:
        return [Problem(field, "without data or data_content the cluster's own indices have no place; add data")]
    return []


def _version_problems(database: Resolved) -> list[Problem]:
    found = _VERSION.match(database.spec.version) or _MAJOR.match(database.spec.version)
    if found is None:
        return []
    version = tuple(int(part) for part in found.groups())
    if version < OLDEST[: len(version)]:
        return [Problem("spec.version", f"Elasticsearch {database.spec.version} is not supported; use 8.2 or newer")]
    return []


def _is_java_option(option: str) -> bool:
    """Memory and tuning only: other options load code (-javaagent, -agentpath) or run commands (-XX:OnError=)."""
    return bool(_HEAP_OPTION.match(option) or _TUNING_OPTION.match(option))


def _env_problems(database: Resolved) -> list[Problem]:
    problems = refused_env((variable.name for variable in database.spec.env), OWNED_ENV)
    known = {problem.field for problem in problems}
    for index, variable in enumerate(database.spec.env):
        field = f"spec.env[{index}]"
        if "." in variable.name and f"{field}.name" not in known:
            problems.append(Problem(f"{field}.name", f"{variable.name} would be read as a setting; write it under {PARAMETERS_PATH}"))
        if variable.name == "ES_JAVA_OPTS":
            if variable.value is None:
                problems.append(Problem(field, "ES_JAVA_OPTS must have a value here, which is looked at: it can load code"))
            elif not all(_is_java_option(option) for option in variable.value.split()):
                problems.append(
                    Problem(f"{field}.value", "only -Xms, -Xmx and -XX options with a number or switch are taken; others load code")
                )
    return problems


def problems(database: Resolved) -> list[Problem]:
    """What the schema and CEL cannot say."""
    found = _version_problems(database) + _role_problems(database) + _env_problems(database)
    if not _CLUSTER_NAME.match(database.elasticsearch.cluster_name or database.name):
        found.append(Problem("spec.elasticsearch.clusterName", "must be letters, digits, '.', '_' and '-', a letter or digit first"))
    found += refused(database.elasticsearch.parameters, OWNED_PARAMETERS, PARAMETERS_PATH)
    for name, value in parameters(database).items():
        if "${" in str(value):
            found.append(Problem(f"{PARAMETERS_PATH}.{name}", "${…} would be read from the server's environment; write the value itself"))
        if any(character in str(value) for character in "\n\r\0"):
            found.append(Problem(f"{PARAMETERS_PATH}.{name}", "must not hold a line break or NUL; remove it"))
    return found
