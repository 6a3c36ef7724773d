"""SQLite's pragmas that a user may set: what values they take and how SQLite reads them back.

Shared by the engine, which refuses what is wrong before anything runs, and by the agent, which sets them and compares
with what is in force. Source: https://www.sqlite.org/pragma.html.
"""

from msgspec import Struct, field


class Pragma(Struct, frozen=True):
    """``words``: spelling -> how SQLite reads the value back. Without words the value is an integer within the bounds.

    ``static`` ones are written into the file's header and take a VACUUM: they are set when the server starts.
    """

    words: dict[str, str] = field(default_factory=dict)
    minimum: int = 0
    maximum: int = 2**31 - 1
    static: bool = False


FLAG = Pragma(words=dict.fromkeys(("1", "on", "true", "yes"), "1") | dict.fromkeys(("0", "off", "false", "no"), "0"))


def _ordered(*words: str) -> dict[str, str]:
    """Words that SQLite also takes, and reads back, as their place in the list."""
    return {word: str(number) for number, word in enumerate(words)} | {str(number): str(number) for number in range(len(words))}


PRAGMAS: dict[str, Pragma] = {
    "analysis_limit": Pragma(),
    "application_id": Pragma(minimum=-(2**31)),
    "auto_vacuum": Pragma(words=_ordered("none", "full", "incremental"), static=True),
    "automatic_index": FLAG,
    "busy_timeout": Pragma(maximum=30_000),  # milliseconds; a longer wait would hold one of the few reader threads
    "cache_size": Pragma(minimum=-(2**31)),  # pages, or KiB where negative
    "cell_size_check": FLAG,
    "checkpoint_fullfsync": FLAG,
    "foreign_keys": FLAG,
    "fullfsync": FLAG,
    "ignore_check_constraints": FLAG,
    "journal_mode": Pragma(words={word: word for word in ("delete", "truncate", "persist", "wal")}),
    "journal_size_limit": Pragma(minimum=-1, maximum=2**62),
    "legacy_alter_table": FLAG,
    "locking_mode": Pragma(words={"normal": "normal"}),
    "max_page_count": Pragma(minimum=1, maximum=2**30 - 1),
    "mmap_size": Pragma(maximum=0x7FFF0000),  # bytes; SQLITE_MAX_MMAP_SIZE of common builds
    "page_size": Pragma(words={str(2**power): str(2**power) for power in range(9, 17)}, static=True),
    "read_uncommitted": FLAG,
    "recursive_triggers": FLAG,
    "reverse_unordered_selects": FLAG,
    "secure_delete": Pragma(words=FLAG.words | {"fast": "2", "2": "2"}),
    "synchronous": Pragma(words=_ordered("off", "normal", "full", "extra")),
    "temp_store": Pragma(words=_ordered("default", "file", "memory")),
    "threads": Pragma(maximum=8),
    "wal_autocheckpoint": Pragma(),
}
STATIC = tuple(name for name, pragma in sorted(PRAGMAS.items()) if pragma.static)


def canonical(name: str, value: str | int) -> str:
    """``value`` as SQLite reads it back: lower-case letters and digits only, safe to stand in a PRAGMA statement.

    ``ValueError`` with the values there are; ``KeyError`` where no such pragma may be set.
    """
    pragma = PRAGMAS[name]
    text = str(value).strip().lower()
    if pragma.words:
        if text not in pragma.words:
            raise ValueError(f"must be one of {', '.join(sorted(word.upper() for word in pragma.words))}")
        return pragma.words[text]
    digits = text.removeprefix("-")
    in_bounds = digits.isascii() and digits.isdigit() and len(digits) < 20 and pragma.minimum <= int(text) <= pragma.maximum
    if not in_bounds:
        raise ValueError(f"must be an integer from {pragma.minimum} to {pragma.maximum}")
    return str(int(text))
