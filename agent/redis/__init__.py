"""What runs in the pods of a Redis: nothing that stays. It writes files, then becomes Redis or Sentinel."""

import sys
from pathlib import PurePath

USAGE = "usage: database-agent redis run | sentinel | prestop"


def main(argv: list[str]) -> int:
    """The exit status. Sentinel's script comes as its path: the words of its first line do not tell them apart."""
    verb, arguments = (PurePath(argv[0]).name, argv[1:]) if argv else ("", [])
    if verb == "run":
        from agent.redis.member import run

        return run()
    if verb == "sentinel":
        from agent.redis.sentinel import run as run_sentinel

        return run_sentinel()
    if verb == "prestop":
        from agent.redis.handover import prestop

        return prestop()
    if verb == "client-reconfig" and len(arguments) == 7:
        from agent.redis.sentinel import reconfigure

        return reconfigure(arguments)
    print(USAGE, file=sys.stderr)
    return 2
