"""The engines there are: one line each."""

from database_operator.api.spec import EngineType
from database_operator.engines import elasticsearch, mongodb, postgresql, redis, sqlite
from database_operator.engines.base import Engine

ENGINES: dict[EngineType, Engine] = {
    engine.type: engine for engine in (postgresql.ENGINE, mongodb.ENGINE, redis.ENGINE, elasticsearch.ENGINE, sqlite.ENGINE)
}
