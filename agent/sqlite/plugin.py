"""Our plugin of Datasette: requests for SQL, the login form, and who the actor is."""

import asyncio
import sqlite3
import sys
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec
from datasette import hookimpl
from datasette.app import Datasette
from datasette.database import Database
from datasette.utils.asgi import Request, Response

from agent.sqlite import statements
from agent.sqlite.access import COOKIE, SESSION_SECONDS, Access
from agent.sqlite.gate import ACTOR, App, Gate
from agent.sqlite.settings import decode
from agent.sqlite.store import Store

F = TypeVar("F", bound=Callable[..., Any])
hook: Callable[[F], F] = hookimpl  # typed: Datasette is not

WRONG_TOKEN_SECONDS = 0.5
CHECK_SECONDS = 2.0
LOGIN_FORM = """{% extends "base.html" %}{% block title %}Log in{% endblock %}{% block content %}
<h1>Log in</h1>{% if wrong %}<p class="message-error">This is not the token.</p>{% endif %}
<form action="{{ urls.path("/-/login") }}" method="post"><input type="hidden" name="csrftoken" value="{{ csrftoken() }}">
<p><label>Token <input type="password" name="token" autocomplete="current-password" autofocus required></label>
<input type="submit" value="Log in"></p></form>{% endblock %}"""
_STATUS = {  # SQLite's result code -> HTTP status; all others are the statement's own fault
    sqlite3.SQLITE_CONSTRAINT: 409,
    sqlite3.SQLITE_BUSY: 503,
    sqlite3.SQLITE_LOCKED: 503,
    sqlite3.SQLITE_INTERRUPT: 504,
    sqlite3.SQLITE_FULL: 507,
    sqlite3.SQLITE_IOERR: 500,
    sqlite3.SQLITE_CORRUPT: 500,
    sqlite3.SQLITE_NOTADB: 500,
}


class StoreDatabase(Database):  # type: ignore[misc]  # Datasette is untyped
    """Datasette's view of the store: it opens no connection of its own."""

    def __init__(self, datasette: Datasette, store: Store) -> None:
        super().__init__(datasette, path=str(store.file))
        self._store = store

    async def execute_fn(self, fn: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._store.reading, self._store.read, fn)

    async def execute_write_fn(self, fn: Any, block: bool = True) -> Any:
        raise PermissionError("writes go through /-/execute")

    async def execute(self, sql: str, params: Any = None, **options: Any) -> Any:
        return await super().execute(sql, params, **options | {"log_sql_errors": False})  # users' values stay out of the log


def answer(content: Any, status: int = 200) -> Response:
    body = msgspec.json.encode(content).decode()
    return Response(body, status=status, content_type="application/json; charset=utf-8")


def failure(error: Exception) -> Response:
    """Raises ``error`` again where it is no fault of the request's or the database's."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        return answer({"error": str(error), "code": name}, _STATUS.get(code & 0xFF, 400))
    if isinstance(error, ValueError | OverflowError | sqlite3.Warning):
        return answer({"error": str(error), "code": "BAD_REQUEST"}, 400)
    raise error


class Plugin:
    """Hooks are Datasette's: https://docs.datasette.io/en/stable/plugin_hooks.html."""

    __name__ = "database_agent"

    def __init__(self, store: Store, access: Access) -> None:
        self._store = store
        self._access = access

    @hook
    def asgi_wrapper(self, datasette: Datasette) -> Any:
        def wrapper(app: App) -> Gate:
            return Gate(app, self._access, self._check)

        return wrapper

    @hook
    def actor_from_request(self, request: Request) -> dict[str, str] | None:
        actor: dict[str, str] | None = request.scope.get(ACTOR)
        return actor

    @hook
    def register_routes(self) -> list[tuple[str, Any]]:
        return [
            (r"^/-/login$", self._login),
            (r"^/-/query$", self._query),
            (r"^/-/execute$", self._execute),
            (r"^/-/status$", self._status),
            (r"^/-/configure$", self._configure),
        ]

    async def _check(self) -> None:
        async with asyncio.timeout(CHECK_SECONDS):
            await asyncio.get_running_loop().run_in_executor(self._store.checking, self._store.check)

    async def _login(self, request: Request, datasette: Datasette) -> Response:
        wrong = False
        if request.method == "POST":
            form = parse_qs((await request.post_body()).decode("utf-8", "replace"), keep_blank_values=True)
            if self._access.is_token(form.get("token", [""])[0].encode()):
                response = Response.redirect("/")
                response.set_cookie(COOKIE, self._access.session(), max_age=SESSION_SECONDS, httponly=True, samesite="lax")
                return response
            wrong = True
            await asyncio.sleep(WRONG_TOKEN_SECONDS)
        template = datasette.jinja_env.from_string(LOGIN_FORM)
        page = await datasette.render_template(template, {"wrong": wrong}, request=request, view_name="login")
        return Response.html(page, status=403 if wrong else 200)

    async def _query(self, request: Request) -> Response:
        if request.method != "POST":
            return answer({"error": "POST a JSON object with sql and parameters"}, 405)
        try:
            statement = statements.decode_statement(await request.post_body())
            loop = asyncio.get_running_loop()
            work = self._store.read
            return answer(await loop.run_in_executor(self._store.reading, work, lambda reader: statements.read(reader, statement)))
        except Exception as error:  # noqa: BLE001  sorted out in failure()
            return failure(error)

    async def _execute(self, request: Request) -> Response:
        if request.method != "POST":
            return answer({"error": "POST a JSON object with statements, or with sql and parameters"}, 405)
        try:
            batch = statements.decode_batch(await request.post_body())
            loop = asyncio.get_running_loop()
            work = self._store.write
            results = await loop.run_in_executor(self._store.writing, work, lambda writer: statements.write(writer, batch))
            return answer({"results": results})
        except Exception as error:  # noqa: BLE001  sorted out in failure()
            return failure(error)

    async def _status(self) -> Response:
        store = self._store
        return answer(
            {
                "version": sqlite3.sqlite_version,
                "identity": store.identity,
                "file": str(store.file),
                "settings": store.settings.hash,
                "pragmas": store.in_force,
                "differing": store.differing,
            }
        )

    async def _configure(self, request: Request) -> Response:
        """Pragmas without waiting for the kubelet to bring the file; the file is not changed by it."""
        if request.method != "POST":
            return answer({"error": "POST the settings"}, 405)
        try:
            settings = decode(await request.post_body())
            if settings.hash != self._store.settings.hash:
                await asyncio.get_running_loop().run_in_executor(self._store.writing, self._store.configure, settings)
        except TimeoutError as error:
            return answer({"error": str(error)}, 503)
        except Exception as error:  # noqa: BLE001  sorted out in failure()
            return failure(error)
        print(f"settings {settings.hash} in force", file=sys.stderr)
        return await self._status()
