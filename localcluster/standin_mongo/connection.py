"""One client's connection: each command is answered here, or by the server behind, or by both."""

import asyncio
import contextlib
import ipaddress
from typing import TYPE_CHECKING, Any

from pymongo.errors import OperationFailure, PyMongoError

from . import options, rules, wire
from .errors import Refused

if TYPE_CHECKING:
    from .front import Front

Document = dict[str, Any]

HELLO = frozenset({"hello", "isMaster", "ismaster"})
WIRE_VERSION = 21  # 7.0's: src/mongo/db/wire_version.h
# Without a login: mongodb.com/docs/manual/reference/command, and what drivers need before they have one
OPEN = HELLO | {"ping", "buildInfo", "buildinfo", "saslStart", "saslContinue", "authenticate", "endSessions", "whatsmyuri", "logout"}
# With the localhost exception: AuthorizationSessionImpl::getDefaultPrivileges
FIRST = frozenset({"createUser", "replSetInitiate", "replSetReconfig", "replSetStepDown", "replSetFreeze", "replSetGetStatus"})
WRITES = frozenset(
    {
        "insert",
        "update",
        "delete",
        "findAndModify",
        "findandmodify",
        "create",
        "drop",
        "dropDatabase",
        "createIndexes",
        "dropIndexes",
        "collMod",
        "renameCollection",
        "createUser",
        "updateUser",
        "dropUser",
        "dropAllUsersFromDatabase",
        "grantRolesToUser",
        "revokeRolesFromUser",
        "createRole",
        "updateRole",
        "dropRole",
        "setDefaultRWConcern",
        "bulkWrite",
    }
)
OF_THE_SET = frozenset(
    {
        "setName",
        "setVersion",
        "hosts",
        "passives",
        "arbiters",
        "primary",
        "me",
        "electionId",
        "lastWrite",
        "secondary",
        "isWritablePrimary",
        "ismaster",
        "topologyVersion",
    }
)
READS = frozenset({"find", "aggregate", "count", "distinct", "listCollections", "listIndexes", "dbStats", "collStats", "mapReduce"})
_SECONDARY_READS = frozenset({"primaryPreferred", "secondary", "secondaryPreferred", "nearest"})


class Connection:
    def __init__(self, front: "Front", address: str) -> None:
        self.front = front
        self.local = ipaddress.ip_address(address.partition("%")[0]).is_loopback
        self.authenticated = False
        self._behind: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def close(self) -> None:
        if self._behind is not None:
            self._behind[1].close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (frame := await wire.read(reader)) is not None:
            reply = await self._reply(frame)
            if reply is not None:
                writer.write(reply)
                await writer.drain()

    async def _ask_behind(self, raw: bytes, *, answered: bool = True) -> wire.Frame | None:
        if self._behind is None:
            self._behind = await asyncio.open_connection("127.0.0.1", self.front.backend.port)
        reader, writer = self._behind
        writer.write(raw)
        await writer.drain()
        if not answered:
            return None
        reply = await wire.read(reader)
        if reply is None:
            raise ConnectionResetError("the server behind closed the connection")
        return reply

    async def _behind_document(self, document: Document) -> Document:
        """A command of the front's own on this client's login."""
        reply = await self._ask_behind(wire.message(document | {"$db": "admin"}))
        assert reply is not None
        return reply.document

    async def _reply(self, frame: wire.Frame) -> bytes | None:
        if not frame.understood:
            raise wire.Broken(f"opcode {frame.code}")
        silent = bool(frame.flags & wire.MORE_TO_COME)
        try:
            document = await self._answer(frame)
        except Refused as error:
            document = self._stamped(error.reply())
        if document is None:
            passed = await self._ask_behind(frame.raw, answered=not silent)
            return passed.raw if passed is not None else None
        return None if silent else wire.answer(frame, document)

    def _stamped(self, reply: Document) -> Document:
        """A driver believes "not primary" only with a newer topologyVersion."""
        node = self.front.node
        if node is not None and reply["code"] in (10107, 13435, 13436, 189):
            reply["topologyVersion"] = node.hello()["topologyVersion"]
        return reply

    async def _answer(self, frame: wire.Frame) -> Document | None:
        """The front's own answer; None: the server behind has it. Raises Refused."""
        name = frame.name
        if name in HELLO:
            return await self._hello(frame)
        if name in ("saslStart", "saslContinue", "authenticate"):
            return await self._login(frame)
        if name not in OPEN:
            await self._authorize(name)
        self._need_primary(name, frame.document)
        handler = getattr(self, f"_on_{name}", None)
        if handler is not None:
            found: Document | None = await handler(frame)
            return found
        if name in rules.COMMANDS:
            return await self._replica_set(frame)
        return None

    async def _authorize(self, name: str) -> None:
        if not self.front.auth or self.authenticated:
            return
        if name in FIRST and self.local and not await self.front.has_users():
            return
        raise Refused(13, f"Command {name} requires authentication")

    async def _privileged(self) -> None:
        """Whether this login may administer the server: the server behind knows its roles. Raises Refused."""
        if not self.front.auth or not self.authenticated:
            return  # the exception for loopback, seen to before
        reply = await self._behind_document({"getCmdLineOpts": 1})
        if not reply.get("ok"):
            raise Refused(int(reply.get("code", 13)), str(reply.get("errmsg", "not authorized")))

    def _need_primary(self, name: str, document: Document) -> None:
        node = self.front.node
        if node is None or node.state == "PRIMARY":
            return
        if name in WRITES:
            raise Refused(10107, "not primary")
        if name in READS:
            if node.state != "SECONDARY":
                raise Refused(13436, "node is not in primary or recovering state")
            if document.get("$readPreference", {}).get("mode") not in _SECONDARY_READS:
                raise Refused(13435, "not primary and secondaryOk=false")

    async def _login(self, frame: wire.Frame) -> Document:
        reply = await self._ask_behind(frame.raw)
        assert reply is not None
        document = reply.document
        if document.get("ok") and document.get("done", True):
            self.authenticated = True
        return document

    async def _hello(self, frame: wire.Frame) -> Document:
        """The server behind does the login folded into it; what concerns the set is the front's."""
        asked = dict(frame.document)
        node = self.front.node
        known, patience = asked.pop("topologyVersion", None), asked.pop("maxAwaitTimeMS", None)
        if node is not None and known and patience and known.get("counter") == node.counter:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience / 1000), self.front.changed:
                    await self.front.changed.wait()
        raw = frame.with_document(asked)
        if frame.code == wire.OP_MSG:  # no streaming: the reply is the only one
            raw = raw[:16] + (frame.flags & ~wire.EXHAUST_ALLOWED).to_bytes(4, "little") + raw[20:]
        reply = await self._ask_behind(raw)
        assert reply is not None
        document = reply.document
        document = {key: value for key, value in document.items() if key not in OF_THE_SET}
        document["maxWireVersion"] = WIRE_VERSION
        if node is None:
            return document | {"isWritablePrimary": True, "ismaster": True}
        return document | node.hello()

    async def _replica_set(self, frame: wire.Frame) -> Document:
        await self._privileged()
        node = self.front.node
        if node is None:
            raise Refused(76, "This node was not started with replication enabled.")
        asked = frame.document
        if frame.name == "replSetStepDown" and not asked.get("force"):
            return await self._patient_step_down(node, asked)
        if frame.name == "replSetReconfig":
            members = (asked["replSetReconfig"] or {}).get("members", ())
            if len(members) > 1:
                raise Refused(93, "the stand-in holds one member: it copies no data")
        reply = node.command(frame.name, asked)
        async with self.front.changed:
            self.front.changed.notify_all()
        return reply

    async def _patient_step_down(self, node: rules.Node, asked: Document) -> Document:
        """mongod waits for a secondary to catch up before it gives up; a set of one has none."""
        try:
            return node.command("replSetStepDown", asked)
        except Refused as error:
            if error.code == 262:
                await asyncio.sleep(float(asked.get("secondaryCatchUpPeriodSecs", 10)))
            raise

    async def _on_createUser(self, frame: wire.Frame) -> Document | None:
        """The first user of all is made by the member itself, for a client on loopback."""
        if not self.front.auth or self.authenticated:
            return None
        if frame.database != "admin":
            raise Refused(13, f"not authorized on {frame.database} to execute command createUser")
        kept = ("createUser", "pwd", "roles", "mechanisms", "customData")
        command = {key: value for key, value in frame.document.items() if key in kept}
        try:
            await self.front.backend.run(command)
        except OperationFailure as error:
            raise Refused(error.code or 2, str((error.details or {}).get("errmsg", error))) from error
        except PyMongoError as error:
            raise Refused(2, str(error)) from error
        return {"ok": 1.0}

    async def _on_buildInfo(self, frame: wire.Frame) -> Document:
        reply = await self._ask_behind(frame.raw)
        assert reply is not None
        version = [*(int(part) for part in options.VERSION.split(".")[:3]), 0]
        return reply.document | {"version": options.VERSION, "versionArray": version, "standin": True}

    _on_buildinfo = _on_buildInfo

    async def _on_getParameter(self, frame: wire.Frame) -> Document:
        await self._privileged()
        return self.front.parameters.get(frame.document)

    async def _on_setParameter(self, frame: wire.Frame) -> Document:
        await self._privileged()
        return self.front.parameters.set(frame.document)

    async def _on_profile(self, frame: wire.Frame) -> Document:
        reply = await self._behind_document({"profile": -1})
        if not reply.get("ok"):
            raise Refused(int(reply.get("code", 13)), str(reply.get("errmsg")))
        was = self.front.parameters.slow_ms
        if "slowms" in frame.document:
            self.front.parameters.slow_ms = int(frame.document["slowms"])
        return {"was": int(reply.get("was", 0)), "slowms": was, "sampleRate": 1.0, "ok": 1.0}

    async def _on_serverStatus(self, frame: wire.Frame) -> Document:
        reply = await self._ask_behind(frame.raw)
        assert reply is not None
        document = reply.document
        if document.get("ok"):
            engine = dict(document.get("wiredTiger", {}))
            cache = dict(engine.get("cache", {})) | {"maximum bytes configured": self.front.parameters.cache_bytes}
            document |= {"version": options.VERSION, "process": "mongod", "wiredTiger": engine | {"cache": cache}}
        return document

    async def _on_getDefaultRWConcern(self, frame: wire.Frame) -> Document:
        await self._privileged()
        chosen = self.front.defaults
        source = "global" if chosen.get("defaultWriteConcern") else "implicit"
        concern = chosen.get("defaultWriteConcern") or {"w": "majority", "wtimeout": 0}
        return {"defaultReadConcern": {"level": "local"}, "defaultWriteConcern": concern, "defaultWriteConcernSource": source, "ok": 1.0}

    async def _on_setDefaultRWConcern(self, frame: wire.Frame) -> Document:
        await self._privileged()
        concern = frame.document.get("defaultWriteConcern")
        if not isinstance(concern, dict) or "w" not in concern:
            raise Refused(2, "setDefaultRWConcern needs a defaultWriteConcern with w")
        self.front.keep_defaults({"defaultWriteConcern": {"wtimeout": 0} | concern})
        return {"defaultWriteConcern": concern, "defaultWriteConcernSource": "global", "ok": 1.0}

    async def _on_shutdown(self, frame: wire.Frame) -> Document:
        await self._privileged()
        self.front.stopping.set()
        return {"ok": 1.0}
