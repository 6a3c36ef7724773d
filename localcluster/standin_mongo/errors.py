"""mongod's refusals. Source of numbers and names: src/mongo/base/error_codes.yml in mongodb/mongo."""

from typing import Any

NAMES = {
    2: "BadValue",
    13: "Unauthorized",
    18: "AuthenticationFailed",
    20: "IllegalOperation",
    23: "AlreadyInitialized",
    59: "CommandNotFound",
    72: "InvalidOptions",
    74: "NodeNotFound",
    76: "NoReplicationEnabled",
    93: "InvalidReplicaSetConfig",
    94: "NotYetInitialized",
    95: "NotSecondary",
    103: "NewReplicaSetConfigurationIncompatible",
    109: "ConfigurationInProgress",
    189: "PrimarySteppedDown",
    262: "ExceededTimeLimit",
    308: "CurrentConfigNotCommittedYet",
    10107: "NotWritablePrimary",
    13435: "NotPrimaryNoSecondaryOk",
    13436: "NotPrimaryOrSecondary",
    51003: "Location51003",
}


class Refused(Exception):
    """A command that mongod does not carry out."""

    def __init__(self, code: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.code, self.more = code, more

    def reply(self) -> dict[str, Any]:
        name = NAMES.get(self.code, f"Location{self.code}")
        return {"ok": 0.0, "errmsg": str(self), "code": self.code, "codeName": name} | self.more
