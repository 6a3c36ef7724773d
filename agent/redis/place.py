"""Where this pod stands: its name, its settings, its secrets and its files."""

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from database_operator.build import constants as c
from database_operator.build.redisconf import AGENT_FILE, SETTINGS_FILE, AgentSettings

PORT = 6379
MOST_MEMBERS = 10
RUN = Path("/run/redis")  # an emptyDir in memory
DATA = Path("/data")


class Place(Struct, frozen=True, kw_only=True):
    """All that the agent reads before it decides; the paths differ in tests only."""

    pod: str
    namespace: str
    ip: str
    settings: AgentSettings
    settings_path: Path = Path(c.SETTINGS_PATH)
    credentials_path: Path = Path(c.CREDENTIALS_PATH)
    internal_path: Path = Path(c.INTERNAL_PATH)
    run: Path = RUN
    data: Path = DATA

    @property
    def ordinal(self) -> int:
        return int(self.pod.rpartition("-")[2])

    @property
    def host(self) -> str:
        """Own name as a member of the database."""
        return f"{self.pod}.{self.settings.members}"

    def member(self, ordinal: int) -> str:
        return f"{self.settings.workload}-{ordinal}.{self.settings.members}"

    @property
    def configuration(self) -> Path:
        """Kept on the volume: Sentinel has Redis rewrite it, and so it remembers who was whose replica."""
        return self.data / SETTINGS_FILE

    def password(self) -> str:
        return (self.credentials_path / "password").read_text()

    def internal(self, key: str) -> str:
        return (self.internal_path / key).read_text()


def place() -> Place:
    """Raises KeyError or OSError where the pod was not made by the operator."""
    text = (Path(c.SETTINGS_PATH) / AGENT_FILE).read_bytes()
    return Place(
        pod=os.environ["POD_NAME"],
        namespace=os.environ["POD_NAMESPACE"],
        ip=os.environ["POD_IP"],
        settings=msgspec.json.decode(text, type=AgentSettings),
    )
