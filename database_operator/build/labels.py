"""Labels of children and the selectors made of them."""

from database_operator.api.database import Database
from database_operator.build import constants as c
from database_operator.build import names

Labels = dict[str, str]

DATABASE_COMPONENT = "database"
SENTINEL_COMPONENT = "sentinel"


def common(database: Database, component: str = DATABASE_COMPONENT) -> Labels:
    """On every child. ``app`` only with the database itself: an application's own selector must never meet a helper pod."""
    labels = {
        c.NAME: "database",
        c.INSTANCE: database.name,
        c.MANAGED_BY: c.MANAGER,
        c.COMPONENT: component,
        c.VERSION: database.spec.version[:63].strip("-_."),
        c.DATABASE_TYPE: database.type.value,
    }
    if component == DATABASE_COMPONENT:
        labels[c.APP] = database.name
    return labels


def workload(database: Database, component: str = DATABASE_COMPONENT) -> Labels:
    """On workloads and pods."""
    return common(database, component) | placed(database)


def placed(database: Database) -> Labels:
    """The generation and the group of members that an object belongs to."""
    return {c.SCOPE: names.scope(database.name), c.GROUP_LABEL: c.DEFAULT_GROUP}


def pod_selector(database: Database, component: str = DATABASE_COMPONENT) -> Labels:
    """A StatefulSet's selector: immutable, so without version and managed-by."""
    identity = {c.APP: database.name} if component == DATABASE_COMPONENT else {c.INSTANCE: database.name}
    selector = identity | {c.COMPONENT: component, c.SCOPE: names.scope(database.name)}
    if component == DATABASE_COMPONENT:
        selector[c.GROUP_LABEL] = c.DEFAULT_GROUP
    return selector


def service_selector(database: Database, component: str = DATABASE_COMPONENT, role: str | None = None) -> Labels:
    """What a Service selects; with ``role`` it follows the primary, or the replicas."""
    identity = {c.APP: database.name} if component == DATABASE_COMPONENT else {c.INSTANCE: database.name}
    selector = identity | {c.COMPONENT: component, c.SCOPE: names.scope(database.name)}
    return selector | ({c.ROLE: role} if role else {})


def data(database: Database) -> Labels:
    """On the data group: it has no owner, is found again by this, and outlives versions."""
    return {key: value for key, value in common(database).items() if key != c.VERSION} | {c.DATA_OF: database.name}
