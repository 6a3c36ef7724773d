"""The parameters and environment names of PostgreSQL that the operator owns or that would run code, each with its reason."""

from database_operator.api.refusals import Refusal

# of the official image: contrib modules that are there in every version
ALLOWED_LIBRARIES = ("auth_delay", "auto_explain", "passwordcheck", "pg_prewarm", "pg_stat_statements")
# known extensions that an image of the user's own may bring
IMAGE_LIBRARIES = (
    "pg_cron",
    "pg_hint_plan",
    "pg_partman_bgw",
    "pg_qualstats",
    "pg_squeeze",
    "pg_stat_kcache",
    "pg_stat_monitor",
    "pg_wait_sampling",
    "pgaudit",
    "plpgsql_check",
    "set_user",
    "timescaledb",
    "vchord",
    "vectors",
)

RESERVED_DATABASES = ("operator", "template0", "template1")
RESERVED_USERS = (
    "operator_replication",
    "operator_monitor",
    "public",
    "none",
    "current_role",
    "current_user",
    "session_user",
)

_ON = ("on", "true", "yes", "1")
_OFF = ("off", "false", "no", "0")

_PLACE = "its place in the container is fixed"
_REPLICATION = "Patroni sets it on each member"
_RECOVERY = "Patroni sets it while a member recovers"
_TLS = "TLS is not configured by parameters"
_LOGIN = "logins are by scram-sha-256 alone"
_LIBRARY = "it loads code into the server"
_COMMAND = "it runs a command in the container"
_LOG = "the log goes to the container's standard error, where the cluster collects it"
_DAMAGE = "it hides damaged data or makes more of it"
_CRASH = "a crash would corrupt the data"

OWNED_PARAMETERS = (
    # addresses and files
    Refusal("listen_addresses", "every member listens on all addresses of its pod", accept=("*", "0.0.0.0")),  # noqa: S104
    Refusal("port", "the Services name it", accept=("5432",)),
    Refusal("data_directory", _PLACE),
    Refusal("config_file", _PLACE),
    Refusal("hba_file", _PLACE),
    Refusal("ident_file", _PLACE),
    Refusal("external_pid_file", _PLACE),
    Refusal("stats_temp_directory", _PLACE),
    Refusal("unix_socket_*", _PLACE),
    Refusal("bonjour*", "a pod is found by its Services"),
    Refusal("cluster_name", "it is the Database's name", accept=()),
    # logins and TLS
    Refusal("ssl*", _TLS),
    Refusal("krb_*", _LOGIN),
    Refusal("gss_accept_delegation", _LOGIN),
    Refusal("db_user_namespace", _LOGIN),
    Refusal("oauth_*", _LOGIN),
    Refusal("password_encryption", _LOGIN, accept=("scram-sha-256",)),
    # code
    Refusal("archive_mode", "archiving is always on, so that a backup can be set up without a restart", accept=_ON),
    Refusal("archive_command", _COMMAND, accept=("/bin/true",)),
    Refusal("archive_cleanup_command", _COMMAND),
    Refusal("restore_command", _COMMAND),
    Refusal("archive_library", _LIBRARY),
    Refusal("session_preload_libraries", _LIBRARY),
    Refusal("local_preload_libraries", _LIBRARY),
    Refusal("dynamic_library_path", _LIBRARY),
    Refusal("extension_control_path", _LIBRARY),
    Refusal("jit_provider", _LIBRARY),
    Refusal("plperl.on_*", "it runs code in every session"),
    Refusal("pltcl*", "it runs code in every session"),
    Refusal("plv8.start_proc", "it runs code in every session"),
    Refusal("allow_system_table_mods", "it lets a statement break the catalog", accept=_OFF),
    Refusal("role", "it changes who every session is"),
    Refusal("session_authorization", "it changes who every session is"),
    # replication
    Refusal("hot_standby", "replicas answer reads", accept=_ON),
    Refusal("primary_conninfo", _REPLICATION),
    Refusal("primary_slot_name", _REPLICATION),
    Refusal("promote_trigger_file", _REPLICATION),
    Refusal("standby_mode", _REPLICATION),
    Refusal("synchronous_standby_names", "it follows spec.postgresql.synchronous"),
    Refusal("synchronized_standby_slots", _REPLICATION),
    Refusal("recovery_*", _RECOVERY),
    Refusal("default_transaction_read_only", "it would fail every write; set it for a role or a database by SQL", accept=_OFF),
    Refusal("wal_log_hints", "pg_rewind rests on it", accept=_ON),
    Refusal("wal_keep_segments", "PostgreSQL 13 replaced it by wal_keep_size"),
    # durability
    Refusal("fsync", _CRASH, accept=_ON),
    Refusal("full_page_writes", _CRASH, accept=_ON),
    Refusal("data_sync_retry", _CRASH, accept=_OFF),
    Refusal("ignore_checksum_failure", _DAMAGE, accept=_OFF),
    Refusal("ignore_invalid_pages", _DAMAGE, accept=_OFF),
    Refusal("ignore_system_indexes", _DAMAGE, accept=_OFF),
    Refusal("zero_damaged_pages", _DAMAGE, accept=_OFF),
    # the log
    Refusal("logging_collector", _LOG, accept=_OFF),
    Refusal("log_destination", _LOG, accept=("stderr",)),
    Refusal("log_directory", _LOG),
    Refusal("log_filename", _LOG),
    Refusal("log_file_mode", _LOG),
    Refusal("log_rotation_*", _LOG),
    Refusal("log_truncate_on_rotation", _LOG),
    Refusal("syslog_*", _LOG),
    Refusal("event_source", _LOG),
)

_LOADER = "it changes which code the container runs"
_CLUSTER = "the agent finds the cluster by it"

OWNED_ENV = (
    Refusal("PG*", "it changes where the server's programs look for data and logins"),
    Refusal("POSTGRES_*", "the user, the database and the passwords follow spec.postgresql"),
    Refusal("PATRONI_*", "Patroni is configured by the operator"),
    Refusal("LD_*", _LOADER),
    Refusal("PYTHON*", _LOADER),
    Refusal("PYINSTALLER_*", _LOADER),
    Refusal("_MEIPASS*", _LOADER),
    Refusal("_PYI_*", _LOADER),
    Refusal("GCONV_PATH", _LOADER),
    Refusal("LOCPATH", _LOADER),
    Refusal("PATH", _LOADER),
    Refusal("TMPDIR", "temporary files belong in /tmp"),
    Refusal("POD_*", _CLUSTER),
    Refusal("KUBERNETES_*", _CLUSTER),
)
