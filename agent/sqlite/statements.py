"""Requests of SQL: what they look like, how they are run, how their values travel as JSON."""

import base64
import sqlite3
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from agent.sqlite.store import SQL_BYTES, Connection, time_limit

MAX_ROWS = 10_000
MAX_RESULT_BYTES = 32 * 2**20
MAX_STATEMENTS = 10_000
READ_SECONDS = 30.0
WRITE_SECONDS = 30.0
VACUUM_SECONDS = 600.0

Sql = Annotated[str, Meta(min_length=1, max_length=SQL_BYTES)]
Parameters = list[Any] | dict[str, Any]


class Statement(Struct, frozen=True):
    """One statement. Values are JSON's, and ``{"$base64": true, "encoded": "…"}`` for a blob, here and in results."""

    sql: Sql
    parameters: Parameters = []


class Batch(Struct, frozen=True):
    """Statements that take effect together or not at all."""

    statements: Annotated[list[Statement], Meta(min_length=1, max_length=MAX_STATEMENTS)]


class Result(Struct, frozen=True):
    """``changes`` and ``last_insert_id`` of a statement that writes. ``truncated``: there were more rows than are given."""

    columns: list[str] = []
    rows: list[list[Any]] = []
    truncated: bool = False
    changes: int | UnsetType = UNSET
    last_insert_id: int | UnsetType | None = UNSET


def decode_batch(body: bytes) -> Batch:
    """A batch, or one statement alone. ``ValueError`` says what is wrong."""
    try:
        return msgspec.json.decode(body, type=Batch)
    except msgspec.ValidationError as error:
        try:
            return Batch([msgspec.json.decode(body, type=Statement)])
        except msgspec.ValidationError:
            raise ValueError(str(error)) from None
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None


def decode_statement(body: bytes) -> Statement:
    try:
        return msgspec.json.decode(body, type=Statement)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None


def _bound(value: Any) -> Any:
    if isinstance(value, dict):
        encoded = value.get("encoded")
        if value.get("$base64") is not True or not isinstance(encoded, str):
            raise ValueError('a parameter must be text, a number, true, false, null or {"$base64": true, "encoded": "…"}')
        return base64.b64decode(encoded, validate=True)
    if isinstance(value, list):
        raise ValueError("a parameter must not be a list; write one statement for each row")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("an integer parameter must fit in 64 bits")
    return value


def bound_parameters(parameters: Parameters) -> list[Any] | dict[str, Any]:
    """As SQLite binds them. ``ValueError`` for what has no SQL type."""
    if isinstance(parameters, dict):
        return {name: _bound(value) for name, value in parameters.items()}
    return [_bound(value) for value in parameters]


def _shown(value: Any) -> Any:
    return {"$base64": True, "encoded": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _size(row: sqlite3.Row) -> int:
    return sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)


def _fetched(cursor: sqlite3.Cursor, to_the_end: bool) -> Result:
    """At most ``MAX_ROWS`` rows and about ``MAX_RESULT_BYTES``; what is beyond is not computed, unless it may write."""
    rows: list[list[Any]] = []
    size = 0
    truncated = False
    columns = [str(column[0]) for column in cursor.description or ()]
    for row in cursor:
        size += _size(row)
        truncated = truncated or len(rows) == MAX_ROWS or size > MAX_RESULT_BYTES
        if not truncated:
            rows.append([_shown(value) for value in row])
        elif not to_the_end:
            break
    cursor.close()
    return Result(columns=columns, rows=rows, truncated=truncated)


def read(connection: Connection, statement: Statement) -> Result:
    """Raises ``sqlite3.Error`` for what is wrong with the SQL, or where it would write."""
    parameters = bound_parameters(statement.parameters)
    with time_limit(connection, READ_SECONDS):
        return _fetched(connection.execute(statement.sql, parameters), to_the_end=False)


def _run(connection: Connection, statement: Statement) -> Result:
    before = connection.total_changes
    cursor = connection.execute(statement.sql, bound_parameters(statement.parameters))
    last_row = cursor.lastrowid
    result = _fetched(cursor, to_the_end=True)
    changes = connection.total_changes - before
    return msgspec.structs.replace(result, changes=changes, last_insert_id=last_row if changes else UNSET)


def _own(connection: Connection, sql: str) -> None:
    connection.guard.trusted = True
    try:
        connection.execute(sql)
    finally:
        connection.guard.trusted = False


def _vacuum(connection: Connection) -> list[Result]:
    connection.guard.vacuum = True
    try:
        with time_limit(connection, VACUUM_SECONDS):
            connection.execute("VACUUM")
    finally:
        connection.guard.vacuum = False
    return [Result()]


def write(connection: Connection, batch: Batch) -> list[Result]:
    """All of ``batch`` in one transaction, committed (with ``synchronous=FULL``: on disk) when this returns.

    Raises ``sqlite3.Error`` or ``ValueError``, and then nothing of it has taken effect. VACUUM, which cannot be in a
    transaction, is taken alone.
    """
    if len(batch.statements) == 1 and batch.statements[0].sql.strip().rstrip("; ").upper() == "VACUUM":
        return _vacuum(connection)
    with time_limit(connection, WRITE_SECONDS):
        _own(connection, "BEGIN IMMEDIATE")
        try:
            results = [_run(connection, statement) for statement in batch.statements]
            _own(connection, "COMMIT")
        except BaseException:
            connection.guard.trusted = True
            if connection.in_transaction:
                connection.rollback()
            connection.guard.trusted = False
            raise
    return results
