"""Elasticsearch's agent: writes what a node starts from, starts it, and brings it changed passwords."""

import sys

USAGE = "usage: database-agent elasticsearch run"


def main(argv: list[str]) -> int:
    """The exit status of the node, or 2 where the words are not understood."""
    if argv != ["run"]:
        print(USAGE, file=sys.stderr)
        return 2
    from agent.elasticsearch.node import run

    return run()
