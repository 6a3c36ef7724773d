"""PostgreSQL's agent: Patroni, run with the image's own server."""

import sys

USAGE = "usage: database-agent postgresql run"


def main(argv: list[str]) -> int:
    """The exit status: Patroni's own, 1 where this container cannot run the database, 2 for unknown words."""
    if argv[:1] == ["postmaster"] and len(argv) > 1:  # from Patroni's own process, never by hand
        from agent.postgresql import postmaster

        return postmaster.run(argv[1:])
    if argv != ["run"]:
        print(USAGE, file=sys.stderr)
        return 2
    from agent.postgresql import init

    return init.run(_serve)


def _serve() -> int:
    from agent.postgresql.layout import Layout, Unusable
    from agent.postgresql.member import serve

    try:
        return serve(Layout())
    except (Unusable, OSError, KeyError) as error:
        print(f"database-agent postgresql: {error}", file=sys.stderr, flush=True)
        return 1
