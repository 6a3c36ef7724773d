"""What the API server, or the way to it, answers instead of the wanted object.

The classes are few because callers decide on few things: the object is not there, somebody was faster, it is
forbidden, it will never be accepted, or it is worth trying again.
"""

from collections.abc import Iterator

import msgspec


class ApiError(Exception):
    """An answer other than 2xx. ``status`` is the HTTP code, 0 where none came; ``retry_after`` is in seconds.

    ``causes`` holds the reasons of ``details.causes`` (for instance ``NamespaceTerminating``).
    """

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None, causes: tuple[str, ...] = ()) -> None:
        super().__init__(status, reason, message, retry_after, causes)
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.causes = causes

    def __str__(self) -> str:
        return f"{self.status} {self.reason}: {self.message}"


class NotFound(ApiError):
    """404: the object, its namespace or its whole kind does not exist."""


class Conflict(ApiError):
    """409: a precondition (UID, resourceVersion) no longer holds, or another field manager owns a field."""


class AlreadyExists(ApiError):
    """409 on create."""


class Gone(ApiError):
    """410: the resourceVersion or the continue token is older than the server's history. List again."""


class Forbidden(ApiError):
    """403: a missing right, an exceeded quota, a terminating namespace or an admission policy."""


class Invalid(ApiError):
    """400 or 422: the server will not take this body however often it is sent."""


class TooManyRequests(ApiError):
    """429: the server sheds load."""


class Unavailable(ApiError):
    """5xx, time-outs and connection errors; also a write that was not begun since this process does not lead."""


class _Cause(msgspec.Struct):
    reason: str = ""


class _Details(msgspec.Struct, rename="camel"):
    retry_after_seconds: float = 0
    causes: list[_Cause] | None = None


class _Status(msgspec.Struct):
    reason: str | None = ""
    message: str | None = ""
    details: _Details | None = None
    code: int | None = 0


_status = msgspec.json.Decoder(_Status)
_CLASSES: dict[int, type[ApiError]] = {
    400: Invalid,
    403: Forbidden,
    404: NotFound,
    408: Unavailable,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def from_response(status: int, body: bytes | msgspec.Raw, retry_after: str | None = None) -> ApiError:
    """The error for an answer, read from its ``Status`` object, or from the bare text a proxy sends.

    ``status`` 0 takes the code from the ``Status`` itself, as in the ERROR line of a watch.
    ``retry_after`` is the header's value; only its form in seconds is honoured, as in client-go.
    """
    try:
        answer = _status.decode(body)
    except msgspec.DecodeError:
        answer = _Status(message=bytes(body)[:200].decode(errors="replace"))
    status = status or answer.code or 0
    details = answer.details or _Details()
    seconds = details.retry_after_seconds or None
    if retry_after is not None and retry_after.isascii() and retry_after.isdigit():
        seconds = float(retry_after)
    reason = answer.reason or ""
    found = _CLASSES.get(status, Unavailable if status >= 500 else ApiError)
    if found is Conflict and reason == "AlreadyExists":
        found = AlreadyExists
    return found(status, reason, answer.message or "", seconds, tuple(cause.reason for cause in details.causes or ()))


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The single errors inside an exception group, in order; an error outside a group is its own only leaf."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
