"""``database-agent mongodb sidecar``: answers probes, keeps the users as the credentials say, carries out commands.

HTTP on port 8008. The probes ask for nothing; all else needs the token of ``<name>-internal``.
"""

import contextlib
import hmac
import json
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from agent.mongodb import first_start, member
from agent.mongodb.driver import Driver
from agent.mongodb.member import Conflict, Member, NotYet
from agent.mongodb.run import DATA
from agent.mongodb.server import CommandFailed, Document, Login, Silent
from database_operator.build import constants as c

AGENT_USER = "database-operator-agent"
TURN_SECONDS = 1.0  # until the member is ready
SETTLED_SECONDS = 5.0
MAX_BODY = 64 * 1024
_PARAMETER = re.compile(r"[A-Za-z][A-Za-z0-9]{0,127}")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}:[0-9]{1,5}")


def log(level: str, message: str, **fields: object) -> None:
    """One JSON line on stderr; never a secret."""
    print(json.dumps({"level": level, "logger": "mongodb-sidecar", "msg": message} | fields), file=sys.stderr, flush=True)


class Places(Struct, frozen=True):
    """Where the pod's volumes are mounted."""

    credentials: Path = Path(c.CREDENTIALS_PATH)
    internal: Path = Path(c.INTERNAL_PATH)
    data: Path = DATA


class Sidecar:
    """The state kept in memory is only what saves repeated logins; a restart finds it out anew."""

    def __init__(self, this: Member, domain: str, places: Places) -> None:
        self.member, self.domain, self.places = this, domain, places
        self.users_of: Login | None = None  # the login that mongod was seen to know
        self.agent_known = False
        self.write_concern = False
        self.started = False  # mongod has answered, the mark is gone
        self.complaint = ""
        self.changing = threading.Lock()  # one command at a time
        self.stopping = threading.Event()

    def credentials(self) -> Login:
        """Read each time: the kubelet brings a changed Secret into the mounted folder."""
        folder = self.places.credentials
        return Login((folder / "username").read_text(), (folder / "password").read_text())

    def token(self) -> str:
        return (self.places.internal / "agent-token").read_text()

    def formed_peers(self) -> list[str]:
        """Members that answer over the headless Service and belong to a set. Those that do not answer are the operator's to know."""
        try:
            found = socket.getaddrinfo(self.domain, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise NotYet(f"{self.domain} has no addresses yet") from error
        formed = []
        for address in sorted({str(entry[4][0]) for entry in found}):
            peer = Driver(address)
            try:
                if peer.run({"hello": 1}).get("setName"):
                    formed.append(address)
            except (Silent, CommandFailed):
                continue
            finally:
                peer.close()
        return formed

    def turn(self) -> None:
        """One look at mongod, and what its users still need. Raises Silent, CommandFailed, Conflict, OSError."""
        greeting = member.hello(self.member)
        if not self.started:
            first_start.done(self.places.data)
            self.started = True
        login = self.credentials()
        if greeting.get("isWritablePrimary"):
            if self.users_of != login:
                member.ensure_users(self.member, login)
                self.users_of, self.agent_known = login, True
                log("info", "users are as the credentials say")
            if not self.write_concern:
                member.ensure_write_concern(self.member)
                self.write_concern = True
        elif greeting.get("secondary") and not self.agent_known:
            self.agent_known = member.works(self.member, self.member.agent)

    def ready(self) -> bool:
        """The member serves and lets its users in. Raises Silent."""
        greeting = member.hello(self.member)
        if greeting.get("isWritablePrimary"):
            return self.users_of is not None
        return bool(greeting.get("secondary")) and self.agent_known

    def settled(self) -> bool:
        return self.users_of is not None or self.agent_known

    def loop(self) -> None:
        while not self.stopping.is_set():
            complaint = ""
            try:
                self.turn()
            except (Silent, CommandFailed, Conflict, NotYet, OSError) as error:
                complaint = str(error)
            if complaint != self.complaint:
                self.complaint = complaint
                log("error" if complaint else "info", complaint or "mongod is as it should be")
            self.stopping.wait(SETTLED_SECONDS if self.settled() and not complaint else TURN_SECONDS)

    def status(self, parameters: list[str]) -> Document:
        facts = member.status(self.member, parameters) | {"users": self.settled()}
        return facts | ({"complaint": self.complaint} if self.complaint else {})

    def initiate(self) -> None:
        if not self.started:
            raise NotYet("mongod has not been seen to answer yet")
        member.initiate(self.member, self.formed_peers)


Handler = Callable[[Sidecar, Mapping[str, Any]], None]


def _host(body: Mapping[str, Any]) -> str:
    host = body.get("host")
    if not isinstance(host, str) or not _HOST.fullmatch(host):
        raise ValueError("host must be name:port")
    return host


def _parameters(body: Mapping[str, Any]) -> dict[str, int | float | bool]:
    found = body.get("parameters")
    if not isinstance(found, dict) or not all(
        _PARAMETER.fullmatch(name) and isinstance(value, int | float) for name, value in found.items()
    ):
        raise ValueError("parameters must be names with numbers or switches")
    return found


def _seconds(body: Mapping[str, Any]) -> int:
    seconds = body.get("seconds")
    if not isinstance(seconds, int) or not 0 <= seconds <= 300:
        raise ValueError("seconds must be 0 to 300")
    return seconds


COMMANDS: dict[str, Handler] = {
    "/initiate": lambda sidecar, body: sidecar.initiate(),
    "/add-member": lambda sidecar, body: member.add_member(sidecar.member, _host(body)),
    "/remove-member": lambda sidecar, body: member.remove_member(sidecar.member, _host(body)),
    "/add-vote": lambda sidecar, body: member.add_vote(sidecar.member, _host(body)),
    "/step-down": lambda sidecar, body: member.step_down(sidecar.member),
    "/freeze": lambda sidecar, body: member.freeze(sidecar.member, _seconds(body)),
    "/configure": lambda sidecar, body: member.configure(sidecar.member, _parameters(body)),
}


def _outcome(work: Callable[[], Document | None]) -> tuple[HTTPStatus, Document]:
    """What an answer says, by what came of the work."""
    try:
        return HTTPStatus.OK, work() or {}
    except ValueError as error:
        return HTTPStatus.BAD_REQUEST, {"message": str(error)}
    except Conflict as error:
        return HTTPStatus.CONFLICT, {"message": str(error)}
    except (NotYet, Silent) as error:
        return HTTPStatus.SERVICE_UNAVAILABLE, {"message": str(error)}
    except CommandFailed as error:
        return HTTPStatus.BAD_GATEWAY, {"message": str(error), "code": error.code}


class Requests(BaseHTTPRequestHandler):
    """One request. ``sidecar`` is set on the class that ``serve`` makes."""

    sidecar: Sidecar
    timeout = 10  # seconds for a client to send what it has to say
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Probes come every few seconds: they are not logged."""

    def _answer(self, code: HTTPStatus, body: Document) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        self.close_connection = True
        with contextlib.suppress(ConnectionError):  # who asked may have given up
            self.end_headers()
            self.wfile.write(data)

    def _allowed(self) -> bool:
        given = self.headers.get("Authorization", "")
        try:
            wanted = f"Bearer {self.sidecar.token()}"
        except OSError:
            return False
        return hmac.compare_digest(given.encode(), wanted.encode())

    def _probe(self, check: Callable[[], bool]) -> None:
        try:
            good = check()
        except (Silent, CommandFailed) as error:
            return self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"message": str(error)})
        return self._answer(HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE, {"ok": good})

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        sidecar = self.sidecar
        if url.path == "/healthz":
            return self._answer(HTTPStatus.OK, {"ok": True})
        if url.path == "/liveness":
            return self._probe(lambda: bool(member.hello(sidecar.member)))
        if url.path == "/readiness":
            return self._probe(sidecar.ready)
        if url.path != "/status":
            return self._answer(HTTPStatus.NOT_FOUND, {})
        if not self._allowed():
            return self._answer(HTTPStatus.UNAUTHORIZED, {})
        names = [name for name in parse_qs(url.query).get("parameters", [""])[0].split(",") if _PARAMETER.fullmatch(name)]
        return self._answer(*_outcome(lambda: sidecar.status(names)))

    def do_POST(self) -> None:
        handler = COMMANDS.get(urlsplit(self.path).path)
        if not self._allowed():
            return self._answer(HTTPStatus.UNAUTHORIZED, {})
        length = self.headers.get("Content-Length", "0")
        if handler is None or not length.isdecimal() or int(length) > MAX_BODY:
            return self._answer(HTTPStatus.NOT_FOUND if handler is None else HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {})
        text = self.rfile.read(int(length))
        sidecar = self.sidecar

        def work() -> None:
            body = json.loads(text or b"{}")  # its error is a ValueError
            if not isinstance(body, dict):
                raise ValueError("the body must be an object")
            with sidecar.changing:
                handler(sidecar, body)

        code, answer = _outcome(lambda: work())
        log("info" if code is HTTPStatus.OK else "error", f"command {self.path}: {code.phrase}", why=answer.get("message", ""))
        return self._answer(code, answer)


def listen(sidecar: Sidecar, port: int = c.AGENT_PORT) -> ThreadingHTTPServer:
    """Bound to every address of the pod, IPv6 too where there is one."""
    handler = type("Bound", (Requests,), {"sidecar": sidecar})
    both = socket.has_dualstack_ipv6()
    listener = socket.create_server(("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both)
    server = ThreadingHTTPServer(("", port), handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.daemon_threads = True
    return server


def serve() -> int:
    """Until SIGTERM, which the kubelet sends after mongod has ended."""
    places = Places()
    agent = Login(AGENT_USER, (places.internal / "agent-password").read_text())
    this = Member(Driver(), os.environ["MEMBER_HOST"], os.environ["REPLICA_SET_NAME"], agent)
    sidecar = Sidecar(this, os.environ["MEMBERS_DOMAIN"], places)
    server = listen(sidecar)
    signal.signal(signal.SIGTERM, lambda *_: sidecar.stopping.set())
    signal.signal(signal.SIGINT, lambda *_: sidecar.stopping.set())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    log("info", "serving", port=c.AGENT_PORT)
    sidecar.loop()
    server.shutdown()
    return 0
