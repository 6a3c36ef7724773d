"""MongoDB's wire frames, as far as a front needs them: the command's document is read, all else passes as bytes.

Source: mongodb.com/docs/manual/reference/mongodb-wire-protocol.
"""

import asyncio
import struct
from collections.abc import Mapping
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion

Document = dict[str, Any]

OP_REPLY = 1
OP_QUERY = 2004
OP_COMPRESSED = 2012
OP_MSG = 2013
MORE_TO_COME = 2
CHECKSUM = 1
EXHAUST_ALLOWED = 1 << 16
MAX_FRAME = 48_000_000
_HEADER = struct.Struct("<iiii")
_INT = struct.Struct("<i")
OPTIONS: CodecOptions[Document] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)


class Broken(Exception):
    """Bytes that are no frame: the connection is given up."""


class Frame:
    """One message. ``document`` is the command or the reply; ``rest`` what follows it (document sequences)."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        length, self.request_id, self.response_to, self.code = _HEADER.unpack_from(raw)
        self.flags = 0
        self.collection = ""
        self._start = 0
        if length != len(raw):
            raise Broken("length")
        if self.code == OP_MSG:
            self.flags = _INT.unpack_from(raw, 16)[0]
            self._start = self._body()
        elif self.code == OP_QUERY:
            end = raw.index(b"\0", 20)
            self.collection = raw[20:end].decode()
            self._start = end + 9
        elif self.code == OP_REPLY:
            self._start = 36
        self._document: Document | None = None

    def _body(self) -> int:
        """Where the section of kind 0 begins; drivers may put sequences before it."""
        at = 20
        end = len(self.raw) - (4 if self.flags & CHECKSUM else 0)
        while at < end:
            kind = self.raw[at]
            if kind == 0:
                return at + 1
            at += 1 + _INT.unpack_from(self.raw, at + 1)[0]
        raise Broken("no body")

    @property
    def understood(self) -> bool:
        return self.code in (OP_MSG, OP_QUERY)

    @property
    def document(self) -> Document:
        if self._document is None:
            length = _INT.unpack_from(self.raw, self._start)[0]
            data = self.raw[self._start : self._start + length]
            self._document = bson.decode(data, codec_options=OPTIONS)
        return self._document

    @property
    def name(self) -> str:
        """The command's name: its document's first key."""
        return next(iter(self.document), "")

    @property
    def database(self) -> str:
        if self.code == OP_QUERY:
            return self.collection.partition(".")[0]
        return str(self.document.get("$db", "admin"))

    def with_document(self, document: Mapping[str, Any]) -> bytes:
        """The same message with another document in the place of its own."""
        length = _INT.unpack_from(self.raw, self._start)[0]
        data = self.raw[16 : self._start] + bson.encode(document) + self.raw[self._start + length :]
        return _HEADER.pack(16 + len(data), self.request_id, self.response_to, self.code) + data


def answer(to: Frame, document: Mapping[str, Any]) -> bytes:
    """The reply to ``to``, in the form that it was asked in."""
    body = bson.encode(document)
    if to.code == OP_QUERY:
        data = struct.pack("<iqii", 8, 0, 0, 1) + body
        return _HEADER.pack(16 + len(data), 0, to.request_id, OP_REPLY) + data
    data = _INT.pack(0) + b"\0" + body
    return _HEADER.pack(16 + len(data), 0, to.request_id, OP_MSG) + data


def message(document: Mapping[str, Any], request_id: int = 1) -> bytes:
    """A command as OP_MSG."""
    data = _INT.pack(0) + b"\0" + bson.encode(document)
    return _HEADER.pack(16 + len(data), request_id, 0, OP_MSG) + data


async def read(reader: asyncio.StreamReader) -> Frame | None:
    """The next frame; None at the end of the connection. Raises Broken."""
    try:
        head = await reader.readexactly(16)
        length = _INT.unpack_from(head)[0]
        if not 16 <= length <= MAX_FRAME:
            raise Broken("length")
        return Frame(head + await reader.readexactly(length - 16))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except (struct.error, ValueError, IndexError) as error:
        raise Broken(str(error)) from error
