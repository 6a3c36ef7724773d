"""SQLite's settings file, and what is wrong with a spec. Pure."""

import posixpath
import re

import msgspec

from database_operator.api.database import Resolved
from database_operator.api.refusals import effective, refused, refused_env
from database_operator.api.spec import AccessMode
from database_operator.build.manifest import digest
from database_operator.build.pragmas import PRAGMAS, STATIC, canonical
from database_operator.engines.base import Problem, Refusal

SETTINGS_FILE = "sqlite.json"
DATA_PATH = "/data"
PARAMETERS_PATH = "spec.sqlite.parameters"

OWNED_PARAMETERS = (
    Refusal("writable_schema", "it lets a statement overwrite the schema and corrupt the file"),
    Refusal("temp_store_directory", "it moves temporary files to any path of the container"),
    Refusal("data_store_directory", "it moves the database to any path of the container"),
    Refusal(
        "trusted_schema", "functions and virtual tables named in a schema are not trusted", accept=("0", "off", "OFF", "false", "FALSE")
    ),
    Refusal("load_extension", "it runs code of any file"),
    Refusal("key", "the server holds no encryption keys, and a ConfigMap is no place for one"),
    Refusal("rekey", "the server holds no encryption keys, and a ConfigMap is no place for one"),
    Refusal("hexkey", "the server holds no encryption keys, and a ConfigMap is no place for one"),
    Refusal("textkey", "the server holds no encryption keys, and a ConfigMap is no place for one"),
    Refusal("query_only", "it would make the database read-only for everybody; use a read-only request instead"),
    Refusal("schema_version", "a wrong value corrupts the file"),
    Refusal("user_version", "it belongs to the application's migrations; set it with a statement"),
    Refusal("encoding", "it is fixed when the file is made", accept=("UTF-8", "utf-8", "utf8")),
    Refusal("defer_foreign_keys", "it lasts for one transaction; set it in the statement's own transaction"),
    Refusal("hard_heap_limit", "memory is bounded by spec.resources.memoryLimit"),
    Refusal("soft_heap_limit", "memory is bounded by spec.resources.memoryLimit"),
    Refusal("vdbe_*", "it writes a trace of every statement to the log"),
    Refusal("parser_trace", "it writes a trace of every statement to the log"),
)

_LOADER = "it changes which code the server loads"
OWNED_ENV = (
    Refusal("LD_*", _LOADER),
    Refusal("PYTHON*", _LOADER),
    Refusal("PYINSTALLER_*", _LOADER),
    Refusal("_MEIPASS*", _LOADER),
    Refusal("_PYI_*", _LOADER),
    Refusal("SQLITE_DATABASE", "it follows spec.sqlite.databaseFile"),
    Refusal("SQLITE_TMPDIR", "temporary files belong in /tmp"),
    Refusal("TMPDIR", "temporary files belong in /tmp"),
    Refusal("DATASETTE_*", "it changes how the server authenticates or what it serves"),
)

_FILE = re.compile(r"^/data(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$")
_RESERVED_SUFFIXES = ("-wal", "-shm", "-journal", ".lock")


def _lowered(database: Resolved) -> dict[str, str | int]:
    """The user's pragmas: SQLite ignores the case of their names."""
    return {name.lower(): value for name, value in database.sqlite.parameters.items()}


def pragmas(database: Resolved) -> dict[str, str]:
    """Every pragma the server sets, name -> value as SQLite reads it back, sorted.

    WAL with ``synchronous=FULL`` is what makes an acknowledged write survive a kill and a power cut. WAL needs all
    users of the file on one host (https://www.sqlite.org/wal.html), which a ReadWriteMany volume does not promise.
    """
    many_hosts = database.spec.storage.access_mode is AccessMode.READ_WRITE_MANY
    defaults: dict[str, str | int] = {"journal_mode": "delete" if many_hosts else "wal", "synchronous": "full", "busy_timeout": 5000}
    wanted = defaults | effective(_lowered(database), OWNED_PARAMETERS)
    return {name: canonical(name, value) for name, value in sorted(wanted.items())}


def settings(database: Resolved) -> str:
    """The file the agent reads, as JSON. Raises ``KeyError`` or ``ValueError`` for a spec that ``problems`` refuses."""
    content = {"databaseFile": database.sqlite.database_file, "pragmas": pragmas(database)}
    return msgspec.json.encode(content, order="deterministic").decode()


def settings_hash(database: Resolved) -> str:
    """What the agent reports once it has taken up ``settings``."""
    return digest(settings(database))


def restart_inputs(database: Resolved) -> dict[str, str]:
    """What only a new start takes up: the file, and pragmas written into its header (by a VACUUM)."""
    values = pragmas(database)
    return {"databaseFile": database.sqlite.database_file} | {name: values[name] for name in STATIC if name in values}


def _file_problems(database: Resolved) -> list[Problem]:
    file = database.sqlite.database_file
    field = "spec.sqlite.databaseFile"
    if posixpath.normpath(file) != file or not _FILE.match(file) or len(file) > 255:
        return [Problem(field, f"must be a file below {DATA_PATH}, of letters, digits, '.', '_', '-' and '/'")]
    if file.endswith(_RESERVED_SUFFIXES):
        return [Problem(field, f"must not end in {', '.join(_RESERVED_SUFFIXES)}: SQLite and the server keep files of those names")]
    return []


def _pragma_problems(database: Resolved) -> list[Problem]:
    problems = []
    for name, value in effective(_lowered(database), OWNED_PARAMETERS).items():
        field = f"{PARAMETERS_PATH}.{name}"
        if name not in PRAGMAS:
            problems.append(Problem(field, f"is no pragma that can be set here; there are {', '.join(PRAGMAS)}"))
            continue
        try:
            canonical(name, value)
        except ValueError as error:
            problems.append(Problem(field, str(error)))
    if len(_lowered(database)) < len(database.sqlite.parameters):
        problems.append(Problem(PARAMETERS_PATH, "a pragma is given twice: their names ignore case; keep one"))
    return problems


def _journal_problems(database: Resolved) -> list[Problem]:
    """WAL on a volume that several hosts may mount loses its shared memory, and with it writes."""
    many_hosts = database.spec.storage.access_mode is AccessMode.READ_WRITE_MANY
    if many_hosts and str(_lowered(database).get("journal_mode")).lower() == "wal":
        field = f"{PARAMETERS_PATH}.journal_mode"
        return [Problem(field, "WAL needs a volume that one host mounts; use DELETE, or storage.accessMode ReadWriteOnce")]
    return []


def problems(database: Resolved) -> list[Problem]:
    """What the schema and CEL cannot say."""
    found = _file_problems(database) + refused_env((variable.name for variable in database.spec.env), OWNED_ENV)
    if database.spec.replicas > 1:
        found.append(Problem("spec.replicas", "SQLite has one member; set 0 or 1"))
    found += refused(_lowered(database), OWNED_PARAMETERS, PARAMETERS_PATH)
    return found + _pragma_problems(database) + _journal_problems(database)
