"""The operator as it is, but its databases' answers are simulated: there are no nodes, so nothing could answer.

Answers have the size and shape of real ones, so that memory and the decisions on them cost what they do in life; what
asking over the network costs is not in the figures. Authenticates as a pod does, from the folder in $BENCH_ACCOUNT.
"""

import os
import time
from pathlib import Path
from typing import Any

import msgspec

from database_operator.__main__ import main
from database_operator.api.database import Resolved
from database_operator.api.spec import EngineType
from database_operator.api.status import Role
from database_operator.engines.base import Member, Probe
from database_operator.kube import auth
from database_operator.reconcile.connections.base import Unreachable


def facts(database: Resolved, member: Member, identity: str) -> dict[str, Any]:
    """What a settled single member of this engine says beyond its role."""
    match database.type:
        case EngineType.POSTGRESQL:
            from database_operator.engines.postgresql import config as postgresql

            return {"config": postgresql.dynamic(database, 1), "state": "running", "timeline": 1, "synchronous": False, "pending": {}}
        case EngineType.MONGODB:
            from database_operator.engines.mongodb import config as mongodb

            host = f"{member.pod}.{database.name}-members.{database.namespace}.svc.cluster.local:27017"
            entry = {"_id": 0, "host": host, "votes": 1, "priority": 1}
            found = {"state": "PRIMARY", "self": host, "setId": identity, "users": True, "config": [entry], "states": {host: "PRIMARY"}}
            return found | {"parameters": mongodb.live_parameters(database), "complaint": None}
        case EngineType.REDIS:
            from database_operator.engines.redis import config as redis

            return {"role": "master", "elected": None, "settings": redis.live(database), "priority": "100", "password": "current"}
        case EngineType.ELASTICSEARCH:
            return {
                "elected": True,
                "status": "green",
                "nodes": 1,
                "settings": {},
                "shards": {},
                "lonely": {},
                "excluded": [],
                "voteless": [],
            }
        case EngineType.SQLITE:
            from database_operator.engines.sqlite import config as sqlite

            return {"settings": sqlite.settings_hash(database), "pragmas": {}, "differing": []}


async def probe(target: Any, member: Member) -> Probe:
    database = target.database
    if "password" not in target.credentials:
        raise Unreachable(f"{member.pod} lets nobody in without a password")
    identity = f"id-{database.uid}"
    answer = msgspec.json.decode(msgspec.json.encode(facts(database, member, identity)))  # fresh objects, as from the network
    version = database.spec.version if database.spec.version[0].isdigit() else "3.45.1"
    return Probe(role=Role.PRIMARY, version=version, lag_bytes=0, cluster_id=identity, facts=answer)


async def accepted(*_: object) -> None:
    return None


def simulate() -> None:
    from database_operator.reconcile import act, asking
    from database_operator.reconcile.connections.base import Connection

    simulated = Connection(probe=probe, command=accepted, switchover=accepted)
    for module in (act, asking):
        module.connection = lambda _provider: simulated  # type: ignore[attr-defined]


if __name__ == "__main__":
    auth.SERVICE_ACCOUNT = Path(os.environ["BENCH_ACCOUNT"])
    simulate()
    if "BENCH_PROFILE" not in os.environ:
        main()
    else:  # a file for pstats; the figures of such a run say nothing
        import cProfile

        with cProfile.Profile(time.process_time) as profile:
            main()
        profile.dump_stats(os.environ["BENCH_PROFILE"])
