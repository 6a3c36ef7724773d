"""/metrics, /healthz and /readyz."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

Check = Callable[[], str | None]  # a reason why not, None when all is well


def health_app(ready: Check) -> web.Application:
    """``/healthz`` answers while the loop turns; ``/readyz`` asks ``ready``."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        why_not = ready()
        return web.Response(text="ok\n") if why_not is None else web.Response(status=503, text=f"{why_not}\n")

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app


def metrics_app(registry: CollectorRegistry) -> web.Application:
    """Prometheus' text format."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    return app


async def serve(app: web.Application, address: tuple[str, int]) -> web.AppRunner:
    """Listen until the runner's ``cleanup``. Raises OSError where the port is taken."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    host, port = address
    await web.TCPSite(runner, host or None, port, reuse_address=True).start()
    return runner
