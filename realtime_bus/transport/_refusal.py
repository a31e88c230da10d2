"""Turn a handshake that failed into one exception that says what to do.

What the server said may repeat our key, so that every word of it is cleaned first, and no
exception of a lower layer is chained (their texts hold what the server said, too).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from realtime_bus._errors import AuthenticationError, ConnectError, HostUnreachable, UpgradeRefused

if TYPE_CHECKING:
    from websockets.http11 import Response

    from ._connection import Connection

__all__ = ["Secrets", "refused"]

_BODY_CHARS: Final = 300
_SECRET_HEADER: Final = re.compile(r"(?i).*(authorization|key|token|secret|cookie).*")

_HINTS: Final[Mapping[int, str]] = {
    401: "check the API key",
    403: "check what the API key may do",
    404: "check the path and the model",
    429: "too many requests: wait before trying again",
    500: "the server is at fault: try again later",
    502: "the server is at fault: try again later",
    503: "the server is at fault: try again later",
    504: "the server is at fault: try again later",
} | dict.fromkeys((301, 302, 303, 307, 308), "redirects are not followed: use the final address")


class Secrets:
    """What must not be seen in any text; its own repr shows nothing.

    Args:
        headers: Values of those whose name sounds secret count, with and without their scheme.
        subprotocols: ``name.value`` pairs count with and without the name.
    """

    __slots__ = ("_words",)

    def __init__(self, headers: Mapping[str, str], subprotocols: Iterable[str]) -> None:
        words: set[str] = set()
        for name, value in headers.items():
            if _SECRET_HEADER.fullmatch(name):
                words |= {value.strip(), value.strip().rpartition(" ")[2]}
        for name in subprotocols:
            if "key" in name.lower() and "." in name:
                words |= {name, name.partition(".")[2]}
        # Longest first, so that no part of a longer one stays. Very short ones would hide all.
        self._words = sorted((word for word in words if len(word) > 3), key=len, reverse=True)

    def clean(self, text: str) -> str:
        """Return the text with every secret replaced."""
        for word in self._words:
            text = text.replace(word, "***")
        return text


def refused(connection: Connection, *, url: str, secrets: Secrets) -> ConnectError:
    """Describe why the connection was not accepted."""
    response = connection.response
    if response is None:
        return _no_answer(connection, url)
    body = secrets.clean(_text(response))
    message = f"{url}: the server answered HTTP {response.status_code}"
    if response.status_code == 101:
        reason = secrets.clean(str(connection.handshake_error))
        message += f", but not with a WebSocket: {reason}"
        return UpgradeRefused(message, url=url, status=101)
    message += f": {body}" if body else ""
    hint = _HINTS.get(response.status_code)
    message += f" ({hint})" if hint else ""
    error = AuthenticationError if response.status_code in {401, 403} else UpgradeRefused
    return error(message, url=url, status=response.status_code, body=body)


def _no_answer(connection: Connection, url: str) -> ConnectError:
    lost = connection.close_info().error
    cause = getattr(connection.handshake_error, "__cause__", None)
    if isinstance(cause, EOFError) or (lost is not None and connection.handshake_error is None):
        return HostUnreachable(f"{url}: the server hung up without an answer", url=url)
    message = f"{url}: the answer is not HTTP/1.1; is a WebSocket server listening there?"
    return UpgradeRefused(message, url=url, status=0)


def _text(response: Response) -> str:
    """Return the JSON error body's message, or the body itself, in one short line."""
    body = bytes(response.body)
    text = _message(body) or body.decode("utf-8", "replace")
    text = " ".join(text.split())
    return text if len(text) <= _BODY_CHARS else text[: _BODY_CHARS - 1] + "…"


def _message(body: bytes) -> str | None:
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and key in value:
            value = cast("dict[str, Any]", value)[key]
    return value if isinstance(value, str) else None
