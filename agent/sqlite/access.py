"""Who may come in: the token as Bearer or Basic password, or the cookie that the login form gives for it."""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping

COOKIE = "ds_actor"  # Datasette's own log-out page deletes this one
SESSION_SECONDS = 12 * 3600


def _session_mark(token: bytes, expiry: str) -> str:
    return hmac.new(token, b"session until " + expiry.encode(), hashlib.sha256).hexdigest()


class Access:
    """``token`` gives the token of now: a changed one ends every session, and needs no restart."""

    def __init__(self, token: Callable[[], bytes], clock: Callable[[], float] = time.time) -> None:
        self._token = token
        self._clock = clock

    def is_token(self, offered: bytes) -> bool:
        """Compared in constant time; an empty token lets nobody in."""
        token = self._token()
        return bool(token) and hmac.compare_digest(hashlib.sha256(token).digest(), hashlib.sha256(offered).digest())

    def _is_header(self, offered: bytes) -> bool:
        """A token beyond ASCII comes in UTF-8 from some clients and in Latin-1 from others: headers have no charset."""
        return self.is_token(offered) or self.is_token(offered.decode("latin-1").encode())

    def session(self) -> str:
        """The value of a new cookie: its expiry and a mark that only the token can make."""
        expiry = str(int(self._clock()) + SESSION_SECONDS)
        return f"{expiry}.{_session_mark(self._token(), expiry)}"

    def is_session(self, cookie: str) -> bool:
        expiry, _, mark = cookie.partition(".")
        if not (expiry.isascii() and expiry.isdigit() and len(expiry) < 12):
            return False
        token = self._token()
        expected = _session_mark(token, expiry)
        return bool(token) and hmac.compare_digest(expected.encode(), mark.encode()) and int(expiry) > self._clock()

    def allows(self, headers: Mapping[bytes, bytes], cookies: Mapping[str, str]) -> bool:
        """``headers`` with lower-case names."""
        scheme, _, offered = headers.get(b"authorization", b"").partition(b" ")
        match scheme.lower():
            case b"bearer":
                return self._is_header(offered.strip())
            case b"basic":
                try:
                    _, _, password = base64.b64decode(offered.strip(), validate=True).partition(b":")
                except binascii.Error:
                    return False
                return self._is_header(password)
        return self.is_session(cookies.get(COOKIE, ""))
