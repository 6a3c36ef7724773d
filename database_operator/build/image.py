"""Which image runs."""

from database_operator.api.database import Database


def reference(database: Database, official: str, registry: str = "") -> str:
    """``spec.image`` as written, else ``official``, from ``registry`` where the operator was given one.

    A registry host is replaced, never prefixed: ``docker.elastic.co/elasticsearch/elasticsearch:8`` becomes
    ``<registry>/elasticsearch/elasticsearch:8``.
    """
    if database.spec.image:
        return database.spec.image
    if not registry:
        return official
    host, _, path = official.partition("/")
    has_host = bool(path) and ("." in host or ":" in host or host == "localhost")
    return f"{registry.rstrip('/')}/{path if has_host else official}"
