"""Names that stand in pod templates and selectors. Each would cost a restart of every database to change: they are fixed."""

from database_operator.api.database import PREFIX

MANAGER = "database-operator"  # field manager and managed-by

# containers, volumes, ports
DATABASE = "database"
AGENT = "agent"
DATA_VOLUME = "data"
AGENT_VOLUME = "agent"
SETTINGS_VOLUME = "settings"
TLS_VOLUME = "tls"
TMP_VOLUME = "tmp"
CREDENTIALS_VOLUME = "credentials"
INTERNAL_VOLUME = "internal"

AGENT_PATH = "/opt/database-agent"  # the bundle; its program is AGENT_PROGRAM
AGENT_PROGRAM = f"{AGENT_PATH}/database-agent"
SETTINGS_PATH = "/etc/database/settings"
CREDENTIALS_PATH = "/etc/database/credentials"
INTERNAL_PATH = "/etc/database/internal"
TLS_PATH = "/etc/database/tls"

AGENT_PORT = 8008
TRANSPORT_PORT = 9300
BUS_PORT = 16379
SENTINEL_PORT = 26379

# labels
APP = "app"
DATABASE_TYPE = "database-type"
NAME = "app.kubernetes.io/name"
INSTANCE = "app.kubernetes.io/instance"
MANAGED_BY = "app.kubernetes.io/managed-by"
COMPONENT = "app.kubernetes.io/component"
VERSION = "app.kubernetes.io/version"
SCOPE = f"{PREFIX}scope"
GROUP_LABEL = f"{PREFIX}group"
ROLE = f"{PREFIX}role"
SHARD = f"{PREFIX}shard"
DATA_OF = f"{PREFIX}data-of"
RELOAD = f"{PREFIX}reload"
RETURNING = f"{PREFIX}returning"  # on a workload: its members come back, more of them than are wanted
DEFAULT_GROUP = "default"

# annotations of children
ENGINE = f"{PREFIX}engine"
MAJOR = f"{PREFIX}major"
DATABASE_UID = f"{PREFIX}database-uid"
FORMED = f"{PREFIX}formed"
LEFT_AT = f"{PREFIX}left-at"
ELECTED = f"{PREFIX}elected"  # on a claim of Redis: the number of the election in which Sentinel made its member the primary
INPUTS = f"{PREFIX}inputs"
TEMPLATE = f"{PREFIX}template"  # hash of the template a Deployment's pod was made of
SETTINGS_HASH = f"{PREFIX}settings-hash"
WRITTEN = f"{PREFIX}written"  # on a pod: which labels and annotations of it the user wrote
REBUILT = f"{PREFIX}rebuilt"  # on a workload: UID of the claim that was thrown away last, and the request it was for
WOKEN_AT = f"{PREFIX}woken-at"  # on a workload: when it was changed last so that its controller looks again
ROTATED = f"{PREFIX}rotated-at"  # on <name>-credentials: the request that its random password was made for

# annotations of the Database
RECONCILE = f"{PREFIX}reconcile"
RESTARTED_AT = f"{PREFIX}restartedAt"
SWITCHOVER = f"{PREFIX}switchover"
REBUILD = f"{PREFIX}rebuild"
CREDENTIALS_ROTATED_AT = f"{PREFIX}credentialsRotatedAt"
REQUESTS = {"restartedAt": RESTARTED_AT, "switchover": SWITCHOVER, "rebuild": REBUILD, "credentialsRotatedAt": CREDENTIALS_ROTATED_AT}
