"""The ConfigMap with what the agent reads."""

from collections.abc import Mapping

from database_operator.api.database import Database
from database_operator.build import names
from database_operator.build.manifest import Manifest, metadata


def settings(database: Database, files: Mapping[str, str]) -> Manifest:
    """``files``: name -> text, mounted at ``constants.SETTINGS_PATH``."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(database, names.settings(database.name)),
        "data": dict(files),
    }
