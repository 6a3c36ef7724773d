"""What the operator must own in elasticsearch.yml and in the environment: refused or ignored, with the reason."""

from database_operator.api.refusals import Refusal

_PLACE = "its place in the container is fixed"
_ADDRESS = "the operator owns addresses and ports: Services and probes rest on them"
_DISCOVERY = "the operator forms the cluster: a wrong value makes a second, empty one"
_SECURITY = "the operator owns logins, certificates and who may do what"
_MEMORY = "it needs a right that a restricted pod does not have"

# Source of the keys: elastic.co/guide/en/elasticsearch/reference/8.11/settings.html
OWNED_PARAMETERS = (
    Refusal("cluster.name", "set spec.elasticsearch.clusterName instead", accept=()),
    Refusal("node.name", "each member has the name of its pod", accept=()),
    Refusal("node.roles", "set spec.elasticsearch.nodeRoles instead"),
    Refusal("node.master", "set spec.elasticsearch.nodeRoles instead"),
    Refusal("node.data", "set spec.elasticsearch.nodeRoles instead"),
    Refusal("node.ingest", "set spec.elasticsearch.nodeRoles instead"),
    Refusal("path.*", _PLACE),
    Refusal("node.max_local_storage_nodes", _PLACE),
    Refusal("network.host", _ADDRESS, accept=("0.0.0.0",)),  # noqa: S104  a value that is dropped
    Refusal("network.bind_host", _ADDRESS, accept=("0.0.0.0",)),  # noqa: S104  a value that is dropped
    Refusal("network.publish_host", _ADDRESS),
    Refusal("network.server", _ADDRESS),
    Refusal("http.port", _ADDRESS, accept=("9200",)),
    Refusal("http.host", _ADDRESS, accept=("0.0.0.0",)),  # noqa: S104  a value that is dropped
    Refusal("http.bind_host", _ADDRESS, accept=("0.0.0.0",)),  # noqa: S104  a value that is dropped
    Refusal("http.publish_*", _ADDRESS),
    Refusal("http.type", _ADDRESS),
    Refusal("transport.*", _ADDRESS),
    Refusal("readiness.port", _ADDRESS, accept=("8008",)),
    Refusal("remote_cluster.*", _ADDRESS),
    Refusal("remote_cluster_server.*", _ADDRESS),
    # the first version ran every node by itself
    Refusal("discovery.type", _DISCOVERY, accept=("single-node", "multi-node")),
    Refusal("discovery.*", _DISCOVERY),
    Refusal("cluster.initial_master_nodes", _DISCOVERY),
    Refusal("cluster.routing.allocation.exclude._name", "the operator moves data off leaving members by it"),
    Refusal("cluster.metadata.database_operator*", "the operator keeps there which settings it has made"),
    Refusal("xpack.security.enabled", _SECURITY, accept=("true",)),
    Refusal("xpack.security.transport.ssl.enabled", _SECURITY, accept=("true",)),
    Refusal("xpack.security.enrollment.enabled", _SECURITY, accept=("false",)),
    Refusal("xpack.security.http.ssl.enabled", "TLS is the operator's to set up", accept=("false",)),
    Refusal("xpack.security.*", _SECURITY),
    Refusal("bootstrap.memory_lock", _MEMORY, accept=("false",)),
    Refusal("bootstrap.*", _MEMORY),
    Refusal("keystore.*", _SECURITY),
    Refusal("security.*", _SECURITY),
)

_LOADER = "it changes which code the server loads"
_YML = "write the setting under spec.elasticsearch.parameters"
OWNED_ENV = (
    Refusal("ES_PATH_CONF", _PLACE),
    Refusal("ES_HOME", _PLACE),
    Refusal("ES_TMPDIR", _PLACE),
    Refusal("ES_JAVA_HOME", _LOADER),
    Refusal("ES_SETTING_*", _YML),
    Refusal("discovery.type", _DISCOVERY),
    Refusal("ELASTIC_PASSWORD*", "set spec.elasticsearch.passwordSecret instead"),
    Refusal("KEYSTORE_PASSWORD*", _SECURITY),
    Refusal("CLI_JAVA_OPTS", _LOADER),
    Refusal("JAVA_TOOL_OPTIONS", _LOADER),
    Refusal("JDK_JAVA_OPTIONS", _LOADER),
    Refusal("_JAVA_OPTIONS", _LOADER),
    Refusal("LD_*", _LOADER),
    Refusal("PYTHON*", _LOADER),
    Refusal("PYINSTALLER_*", _LOADER),
    Refusal("_MEIPASS*", _LOADER),
    Refusal("_PYI_*", _LOADER),
    Refusal("POD_NAME", "the member is named by it"),
    Refusal("POD_IP", "the member is reached by it"),
)

# Settings that the cluster takes while it runs (PUT _cluster/settings), a prefix where it ends in `*`. All others stand in
# elasticsearch.yml and need a restart. Source: the settings reference, "Dynamic".
DYNAMIC = (
    "action.auto_create_index",
    "action.destructive_requires_name",
    "action.search.shard_count.limit",
    "cluster.auto_shrink_voting_configuration",
    "cluster.blocks.*",
    "cluster.indices.close.enable",
    "cluster.info.update.*",
    "cluster.max_shards_per_node*",
    "cluster.metadata.*",
    "cluster.no_master_block",
    "cluster.persistent_tasks.allocation.*",
    "cluster.remote.*",
    "cluster.routing.*",
    "indices.breaker.fielddata.limit",
    "indices.breaker.fielddata.overhead",
    "indices.breaker.request.limit",
    "indices.breaker.request.overhead",
    "indices.breaker.total.limit",
    "indices.lifecycle.poll_interval",
    "indices.mapping.dynamic_timeout",
    "indices.recovery.*",
    "ingest.geoip.downloader.*",
    "logger.*",
    "network.breaker.inflight_requests.*",
    "script.max_compilations_rate",
    "search.allow_expensive_queries",
    "search.default_allow_partial_results",
    "search.default_keep_alive",
    "search.default_search_timeout",
    "search.low_level_cancellation",
    "search.max_buckets",
    "search.max_keep_alive",
    "search.max_open_scroll_context",
    "slm.retention_*",
    "xpack.monitoring.collection.*",
)
# beneath a prefix above, but fixed at start all the same
STATIC = ("cluster.remote.initial_connect_timeout", "cluster.routing.allocation.type", "ingest.geoip.downloader.eager.download")


def is_dynamic(name: str) -> bool:
    if name in STATIC:
        return False
    return any(name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])) for pattern in DYNAMIC)
