"""What the API server was asked, by its own audit log: nobody's word but the server's."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec

WRITES = frozenset({"create", "update", "patch", "delete"})
OPERATOR = "database-operator/"


class Reference(msgspec.Struct, frozen=True):
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


class Status(msgspec.Struct, frozen=True):
    code: int = 0


class Entry(msgspec.Struct, rename="camel"):
    """One answered request."""

    verb: str
    stage: str
    user_agent: str = ""
    object_ref: Reference = Reference()
    response_status: Status = Status()
    request_received_timestamp: str = ""
    stage_timestamp: str = ""

    @property
    def begun(self) -> float:
        """Seconds since the epoch, on the server's clock."""
        return datetime.fromisoformat(self.request_received_timestamp).timestamp()

    @property
    def ended(self) -> float:
        return datetime.fromisoformat(self.stage_timestamp).timestamp()

    @property
    def call(self) -> str:
        at = self.object_ref
        what = f"{at.resource}/{at.subresource}" if at.subresource else at.resource
        return f"{self.verb} {what}" + (f" {self.response_status.code}" if self.response_status.code >= 400 else "")

    @property
    def is_write(self) -> bool:
        """Of the operator's work: the Lease and Events are counted apart."""
        return self.verb in WRITES and self.object_ref.resource not in ("leases", "events")


class Log:
    """The part of an audit log that is written from now on."""

    def __init__(self, path: Path, agent: str = OPERATOR) -> None:
        self._path, self._agent = path, agent.encode()
        self._decoder = msgspec.json.Decoder(Entry)
        self._at = path.stat().st_size if path.exists() else 0

    def entries(self) -> Iterator[Entry]:
        """What ``agent`` asked since the last call, in the order of the answers. Watches appear when they end."""
        with self._path.open("rb") as file:
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._at += len(line)
                if self._agent not in line:
                    continue
                entry = self._decoder.decode(line)
                if entry.stage == "ResponseComplete" and entry.user_agent.encode().startswith(self._agent):
                    yield entry


def counted(entries: list[Entry]) -> Counter[str]:
    return Counter(entry.call for entry in entries if entry.verb != "watch")
