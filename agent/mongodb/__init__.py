"""MongoDB's part of the agent: ``run`` starts mongod in the database's container, ``sidecar`` answers for it beside it."""

import sys

USAGE = "usage: database-agent mongodb run | sidecar"


def main(argv: list[str]) -> int:
    """The exit status; ``run`` does not come back: mongod takes the process over."""
    if argv == ["run"]:
        from agent.mongodb.run import run

        return run()
    if argv == ["sidecar"]:
        from agent.mongodb.sidecar import serve

        return serve()
    print(USAGE, file=sys.stderr)
    return 2
