"""What a statement may do: SQLite's authorizer, asked whenever a statement is prepared.

Text filters miss what SQLite's own parser sees; the authorizer is called by that parser. Source:
https://www.sqlite.org/c3ref/set_authorizer.html.
"""

import sqlite3

from database_operator.build.pragmas import PRAGMAS

_DBPAGE = "sqlite_dbpage"  # writes pages past every check
_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer"})  # run code of any file, or of any address
_MODULES = frozenset({"fts3", "fts4", "fts5", "rtree", "rtree_i32", "geopoly"})
_ABOUT = frozenset(  # may take a table, index or database as argument; read only
    {
        "foreign_key_check",
        "foreign_key_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "integrity_check",
        "quick_check",
        "table_info",
        "table_list",
        "table_xinfo",
    }
)
_READABLE = (  # without an argument
    _ABOUT
    | frozenset(PRAGMAS)
    | {
        "application_id",
        "collation_list",
        "compile_options",
        "data_version",
        "database_list",
        "encoding",
        "freelist_count",
        "function_list",
        "incremental_vacuum",
        "module_list",
        "optimize",
        "page_count",
        "pragma_list",
        "query_only",
        "schema_version",
        "trusted_schema",
        "user_version",
    }
)
_WRITABLE = frozenset({"application_id", "defer_foreign_keys", "incremental_vacuum", "optimize", "user_version"})


class Guard:
    """One connection's authorizer. ``trusted`` while the server's own statements run, ``vacuum`` during a VACUUM."""

    def __init__(self, writer: bool) -> None:
        self._writer = writer
        self.trusted = True
        self.vacuum = False

    def __call__(self, action: int, first: str | None, second: str | None, schema: str | None, trigger: str | None) -> int:
        return sqlite3.SQLITE_OK if self.trusted or self._allows(action, first, second) else sqlite3.SQLITE_DENY

    def _allows(self, action: int, first: str | None, second: str | None) -> bool:
        match action:
            case sqlite3.SQLITE_ATTACH:
                return self.vacuum and first == ""  # VACUUM attaches a nameless temporary; VACUUM INTO a file
            case sqlite3.SQLITE_DETACH:
                return self.vacuum
            case sqlite3.SQLITE_TRANSACTION:
                return self.vacuum  # a request is one transaction, which the server ends
            case sqlite3.SQLITE_SAVEPOINT:
                return self._writer
            case sqlite3.SQLITE_PRAGMA:
                return self._allows_pragma((first or "").lower(), second)
            case sqlite3.SQLITE_FUNCTION:
                return (second or "").lower() not in _FUNCTIONS
            case sqlite3.SQLITE_CREATE_VTABLE:
                return (second or "").lower() in _MODULES
            case sqlite3.SQLITE_INSERT | sqlite3.SQLITE_UPDATE | sqlite3.SQLITE_DELETE:
                return (first or "").lower() != _DBPAGE
        return True

    def _allows_pragma(self, name: str, argument: str | None) -> bool:
        if argument is None:
            return name in _READABLE
        return name in _ABOUT or (self._writer and name in _WRITABLE)
