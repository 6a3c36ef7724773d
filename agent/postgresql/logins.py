"""Roles, passwords and databases. All SQL is ours, in a database where no tenant can define a name; identifiers are quoted."""

import base64
import hashlib
import hmac
import logging
import subprocess
from typing import Any

import psycopg
from psycopg import sql

from agent.environment import clean_environment
from agent.postgresql.layout import Layout, Server
from agent.postgresql.settings import MONITOR_USER, OPERATOR_DATABASE, REPLICATION_USER, SUPERUSER, Logins

log = logging.getLogger(__name__)

Connection = psycopg.Connection[tuple[Any, ...]]

# pinned search path; a password never reaches the log; a standby that is gone never keeps a login from being set
_OPTIONS = {
    "search_path": "pg_catalog",
    "synchronous_commit": "local",
    "statement_timeout": "30000",
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_min_duration_statement": "-1",
    "default_transaction_read_only": "off",
}


def create_operator_database(server: Server) -> None:
    """Right after initdb, before the server ever listens: Patroni's own session belongs into it. Raises CalledProcessError."""
    command = [str(server.programs / "postgres"), "--single", "-D", str(server.data), "-F", "template1"]
    statement = f"CREATE DATABASE {OPERATOR_DATABASE};\n"
    subprocess.run(command, input=statement, text=True, env=clean_environment(), check=True, stdout=subprocess.DEVNULL)


def connect(layout: Layout, logins: Logins) -> Connection:
    options = " ".join(f"-c {name}={value}" for name, value in _OPTIONS.items())
    return psycopg.connect(
        host=str(layout.run),
        dbname=OPERATOR_DATABASE,
        user=SUPERUSER,
        password=logins.superuser,
        connect_timeout=5,
        application_name="database-agent",
        options=options,
        autocommit=True,
    )


def is_password(verifier: str | None, password: str) -> bool:
    """Whether ``verifier`` (``pg_authid.rolpassword``) is of ``password``: RFC 5803, as PostgreSQL stores it.

    Only for ASCII passwords, which need no normalisation; for others it says no, and they are set again.
    """
    if not verifier or not verifier.startswith("SCRAM-SHA-256$") or not password.isascii():
        return False
    _, parameters, keys = verifier.split("$")
    iterations, salt = parameters.split(":")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(iterations))
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return hmac.compare_digest(base64.b64decode(keys.split(":")[0]), stored)


def _ensure_role(connection: Connection, name: str, password: str, attributes: str = "") -> bool:
    """Whether anything had to be changed. The server only ever sees the verifier, made here."""
    row = connection.execute("SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = %s", [name]).fetchone()
    if row and is_password(row[0], password):
        return False
    verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    verb = "ALTER" if row else "CREATE"
    statement = sql.SQL("{verb} ROLE {name} LOGIN {attributes} PASSWORD {verifier}").format(
        verb=sql.SQL(verb), name=sql.Identifier(name), attributes=sql.SQL(attributes), verifier=sql.Literal(verifier)
    )
    connection.execute(statement)
    return True


def ensure_roles(connection: Connection, logins: Logins) -> list[str]:
    """Every role there is a password for has that password; gives the names of those that were changed. Sessions stay."""
    passwords = {
        SUPERUSER: (logins.superuser, ""),
        REPLICATION_USER: (logins.replication, "REPLICATION"),
        MONITOR_USER: (logins.monitor, ""),
        logins.username: (logins.password, ""),
    }
    return [name for name, (password, attributes) in passwords.items() if _ensure_role(connection, name, password, attributes)]


def first_start(connection: Connection, logins: Logins) -> None:
    """Everything a new cluster needs before anybody is told of it. Repeats are harmless."""
    ensure_roles(connection, logins)
    owner, database = sql.Identifier(logins.username), sql.Identifier(logins.database)
    ours = sql.Identifier(OPERATOR_DATABASE)
    if connection.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", [logins.database]).fetchone() is None:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, owner))
    else:
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, owner))
    monitor, replication = sql.Identifier(MONITOR_USER), sql.Identifier(REPLICATION_USER)
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(ours))
    connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}, {}").format(ours, monitor, replication))
    connection.execute(sql.SQL("ALTER DATABASE {} SET search_path = pg_catalog").format(ours))
    connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    connection.execute(sql.SQL("GRANT pg_monitor TO {}").format(monitor))
