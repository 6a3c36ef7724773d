"""mongod as the sidecar sees it: commands in, documents or errors out. The driver's details stay in ``driver``."""

from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct

Document = dict[str, Any]

# Source of the numbers: src/mongo/base/error_codes.yml in mongodb/mongo
UNAUTHORIZED = 13
AUTHENTICATION_FAILED = 18
ALREADY_INITIALIZED = 23
NODE_NOT_FOUND = 74
INVALID_REPLICA_SET_CONFIG = 93
NOT_YET_INITIALIZED = 94
NEW_CONFIG_INCOMPATIBLE = 103
CONFIGURATION_IN_PROGRESS = 109
NO_ELECTABLE_SECONDARY = 262  # ExceededTimeLimit, as replSetStepDown uses it
CURRENT_CONFIG_NOT_COMMITTED = 308
NOT_WRITABLE_PRIMARY = 10107
NOT_PRIMARY_NO_SECONDARY_OK = 13435
NOT_PRIMARY_OR_SECONDARY = 13436
USER_EXISTS = 51003
NO_PRIMARY = frozenset({NOT_WRITABLE_PRIMARY, NOT_PRIMARY_NO_SECONDARY_OK, NOT_PRIMARY_OR_SECONDARY, 189, 11602, 91})


class CommandFailed(Exception):
    """mongod's own refusal. ``code`` is one of its numbers."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Silent(Exception):
    """mongod does not answer."""


class Login(Struct, frozen=True):
    """Of a user in database ``admin``."""

    username: str
    password: str


class Server(Protocol):
    def run(self, command: Mapping[str, Any], login: Login | None = None, database: str = "admin") -> Document:
        """The reply to ``command``; without ``login`` nobody is logged in. Raises CommandFailed and Silent."""
