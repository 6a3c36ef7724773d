"""A connection of the operator to a member or Sentinel of a Redis, as user ``operator``, who reads no key."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from database_operator.engines.redis.config import PORT
from database_operator.reconcile.connections.base import Target, Unreachable

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 3.0  # both bounded again by the caller


@asynccontextmanager
async def client(target: Target, host: str, port: int = PORT) -> AsyncIterator[Any]:
    """A connection as ``operator``, closed again. Raises Unreachable for whatever goes wrong inside."""
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError

    server: Any = Redis(
        host=host,
        port=port,
        username="operator",
        password=target.internal.get("operator-password", ""),
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        encoding_errors="surrogateescape",  # names of keys are bytes, and go back as they came
        protocol=2,
        driver_info=None,
        single_connection_client=True,
    )
    try:
        yield server
    except (RedisError, OSError) as error:
        raise Unreachable(f"Redis at {host}:{port}: {error}") from error
    finally:
        await server.aclose()
