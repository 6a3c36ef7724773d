"""SQLite's agent: it is the server itself, for SQLite has none."""

import argparse
from pathlib import Path


def main(argv: list[str]) -> int:
    """``run``: serve the database of the mounted settings. The options are for running it elsewhere than in a pod."""
    from agent.sqlite.settings import Places

    places = Places()
    parser = argparse.ArgumentParser(prog="database-agent sqlite")
    parser.add_argument("verb", choices=["run"])
    parser.add_argument("--settings", type=Path, default=places.settings)
    parser.add_argument("--token-file", type=Path, default=places.token)
    parser.add_argument("--data", type=Path, default=places.data)
    parser.add_argument("--address", default=places.address)
    parser.add_argument("--port", type=int, default=places.port)
    words = parser.parse_args(argv)

    from agent.sqlite.server import run  # Datasette takes half a second to import: not for a usage error

    return run(Places(settings=words.settings, token=words.token_file, data=words.data, address=words.address, port=words.port))
