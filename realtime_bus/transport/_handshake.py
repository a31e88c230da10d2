"""The upgrade from HTTP: the client's request, the server's answer, and what a refusal means.

Secrets: the client's headers, subprotocols and query may hold a key. An `Upgrade` carries them
unseen; they go into the request's bytes and nowhere else, no log sees them (`SILENT`), and no
local variable that an exception may show has them. What a server says may repeat the key, so that
every word of it is cleaned before it is cut or shown, and no exception of a lower layer is chained
(their texts hold what the server said, too).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from websockets.client import ClientProtocol
from websockets.server import ServerProtocol
from websockets.uri import WebSocketURI

from realtime_bus._secrets import Secrets, unseen
from realtime_bus.errors import (
    AuthenticationError,
    ConnectError,
    HostUnreachable,
    UpgradeRefused,
    UsageError,
)

from ._connection import SILENT, Connection, Keepalive
from ._transport import MAX_FRAME_BYTES, SERVER_PING_INTERVAL_S, SERVER_PING_TIMEOUT_S
from ._url import parse_url, show_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.http11 import Request, Response
    from websockets.typing import Subprotocol

    ProcessRequest = Callable[["UpgradeRequest"], "HttpRefusal | None"]

_TOKEN: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS: Final = re.compile(r"(?i)(sec-websocket-.*|upgrade|connection)")
_BODY_CHARS: Final = 300

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


class ConnectionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What both sides of a connection can set; the defaults for pings are a server's.

    Attributes:
        max_frame_bytes: Largest message that is read; a larger one closes with 1009. None: any.
        ping_interval_s: Seconds between pings; None sends none.
        ping_timeout_s: Seconds that the peer has to answer; None waits for ever.
    """

    max_frame_bytes: int | None = MAX_FRAME_BYTES
    ping_interval_s: float | None = SERVER_PING_INTERVAL_S
    ping_timeout_s: float | None = SERVER_PING_TIMEOUT_S

    def keepalive(self) -> Keepalive:
        """Make the keepalive of one connection."""
        return Keepalive(interval_s=self.ping_interval_s, timeout_s=self.ping_timeout_s)


# The client's side


class Upgrade:
    """What a client asks for; of what may be secret it shows nothing.

    Args:
        url: ``wss://`` or ``ws://``.
        headers: Sent with the request.
        subprotocols: Offered to the server, best first.

    Attributes:
        shown: The address without its query, once it was read.
        host: Where to connect to.
        port: At which port.
        secure: Whether over TLS.
        secrets: What must be in no text.
    """

    __slots__ = (
        "_headers",
        "_subprotocols",
        "_uri",
        "_url",
        "host",
        "port",
        "secrets",
        "secure",
        "shown",
    )

    def __init__(
        self, url: str, headers: Mapping[str, str] | None, subprotocols: Sequence[str]
    ) -> None:
        self._url = url
        self._headers = headers or {}
        self._subprotocols = subprotocols

    @unseen
    def read(self) -> None:
        """Read the address.

        Raises:
            InvalidURL: It is none.
        """
        uri = self._uri = parse_url(self._url)
        self.shown: str = show_url(uri)
        self.host: str = uri.host
        self.port: int = uri.port
        self.secure: bool = uri.secure
        self.secrets: Secrets = Secrets(self._headers, self._subprotocols, uri.query or "")

    def connection(self, options: ConnectionOptions) -> Connection:
        """Make the client's side of the connection.

        Raises:
            UsageError: A header or subprotocol cannot be sent.
        """
        return client_connection(
            self._uri, headers=self._headers, subprotocols=self._subprotocols, options=options
        )


@unseen
def client_connection(
    uri: WebSocketURI,
    *,
    headers: Mapping[str, str] | None = None,
    subprotocols: Sequence[str] = (),
    options: ConnectionOptions | None = None,
) -> Connection:
    """Make the client's side; its request is in `Connection.outgoing` at once.

    Raises:
        UsageError: A header or subprotocol cannot be sent (its value is not told).
    """
    options = options or ConnectionOptions()
    if not all(map(_TOKEN.fullmatch, subprotocols)):
        raise UsageError("a subprotocol holds a character that HTTP forbids")
    offered = cast("Sequence[Subprotocol]", subprotocols) or None
    protocol = ClientProtocol(
        uri, subprotocols=offered, max_size=options.max_frame_bytes, logger=SILENT
    )
    request = protocol.connect()
    for name, value in {"User-Agent": "realtime-bus", **(headers or {})}.items():
        _check_header(name, value)
        if name in request.headers:
            del request.headers[name]
        request.headers[name] = value
    protocol.send_request(request)
    return Connection(
        protocol, keepalive=options.keepalive(), max_frame_bytes=options.max_frame_bytes
    )


def _check_header(name: str, value: str) -> None:
    if not _TOKEN.fullmatch(str(name)) or _OURS.fullmatch(name):
        raise UsageError(f"header {name!r} cannot be set on a WebSocket request")
    if not isinstance(value, str):
        raise UsageError(f"the value of header {name!r} is no text: {type(value).__name__}")
    if not _VALUE.fullmatch(value):
        raise UsageError(
            f"the value of header {name!r} holds a line break or another character that HTTP "
            "forbids; was it read from a file? then strip it"
        )


def clock_ahead_s(response: Response | None, now_s: float) -> float | None:
    """Return how far a server's clock is ahead of ours, or None if it does not tell (``Date``).

    To about a second: the header has whole ones, and took a while to come (RFC 9110, 6.6.1).
    """
    told = [] if response is None else response.headers.get_all("Date")
    try:
        return parsedate_to_datetime(told[0]).timestamp() - now_s
    except (IndexError, ValueError, OverflowError):
        return None


# The server's side


class UpgradeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A client's upgrade request, as a server's ``process_request`` sees it.

    Attributes:
        path: With the query, such as ``/v1/realtime?model=x``.
        headers: Lower-case names; several of one name are joined by ``", "``.
        subprotocols: What the client offers, in its order.
    """

    path: str
    headers: Mapping[str, str]
    subprotocols: Sequence[str] = ()


class HttpRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer instead of the upgrade.

    Attributes:
        status: HTTP status code, not 101.
        body: Sent as it is.
        content_type: Of the body.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"


def server_connection(
    *,
    process_request: ProcessRequest | None = None,
    subprotocols: Sequence[str] = (),
    options: ConnectionOptions | None = None,
) -> Connection:
    """Make the server's side; it answers the request inside `Connection.receive`.

    Args:
        process_request: Called with the request; an `HttpRefusal` is sent instead of the upgrade.
            Exceptions come out of ``receive``.
        subprotocols: Those that the server accepts, best first. A client that offers none of
            them is served without one.
        options: Limits and pings.
    """
    options = options or ConnectionOptions()
    protocol = ServerProtocol(
        subprotocols=cast("Sequence[Subprotocol]", subprotocols) or None,
        select_subprotocol=_select_subprotocol,
        max_size=options.max_frame_bytes,
        logger=SILENT,
    )

    def answer(request: Request) -> None:
        # Broken frames behind the request have already ended the connection.
        if not protocol.eof_sent:
            protocol.send_response(_response(protocol, request, process_request))

    return Connection(protocol, keepalive=options.keepalive(), answer=answer)


def _select_subprotocol(
    protocol: ServerProtocol, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    known = protocol.available_subprotocols or ()
    return next((name for name in known if name in offered), None)


def _response(
    protocol: ServerProtocol, request: Request, process_request: ProcessRequest | None
) -> Response:
    refusal = process_request(_upgrade_request(request)) if process_request is not None else None
    if refusal is None:
        return protocol.accept(request)
    response = protocol.reject(refusal.status, "")
    for name in ("Content-Length", "Content-Type"):
        del response.headers[name]
    response.headers["Content-Length"] = str(len(refusal.body))
    response.headers["Content-Type"] = refusal.content_type
    response.body = refusal.body
    return response


def _upgrade_request(request: Request) -> UpgradeRequest:
    headers = {name.lower(): ", ".join(request.headers.get_all(name)) for name in request.headers}
    offered = headers.get("sec-websocket-protocol", "").split(",")
    names = [name.strip() for name in offered if name.strip()]
    return UpgradeRequest(path=request.path, headers=headers, subprotocols=names)


# A refusal, as the client's one exception that says what to do


def refused(connection: Connection, *, url: str, secrets: Secrets) -> ConnectError:
    """Describe why the connection was not accepted."""
    response = connection.response
    if response is None:
        return _no_answer(connection, url)
    status = response.status_code
    message = f"{url}: the server answered HTTP {status}"
    if status == 101:
        reason = secrets.clean(str(connection.handshake_error))
        message += f", but not with a WebSocket: {reason}"
        return UpgradeRefused(message, url=url, status=101)
    body = _summary(bytes(response.body), secrets)
    message += f": {body}" if body else ""
    message += f" ({_HINTS[status]})" if status in _HINTS else ""
    error = AuthenticationError if status in {401, 403} else UpgradeRefused
    return error(message, url=url, status=status, body=body)


def _no_answer(connection: Connection, url: str) -> ConnectError:
    lost = connection.close_info().error
    cause = getattr(connection.handshake_error, "__cause__", None)
    if isinstance(cause, EOFError) or (lost is not None and connection.handshake_error is None):
        return HostUnreachable(f"{url}: the server hung up without an answer", url=url)
    message = f"{url}: the answer is not HTTP/1.1; is a WebSocket server listening there?"
    return UpgradeRefused(message, url=url, status=0)


def _summary(body: bytes, secrets: Secrets) -> str:
    """Return the JSON error body's message, or the body itself, in one short line."""
    text = _error_message(body) or body.decode("utf-8", "replace")
    text = " ".join(secrets.clean(text).split())
    return text if len(text) <= _BODY_CHARS else text[: _BODY_CHARS - 1] + "…"


def _error_message(body: bytes) -> str | None:
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    for key in ("error", "message", "detail"):
        if isinstance(value, dict) and key in value:
            value = cast("dict[str, Any]", value)[key]
    return value if isinstance(value, str) else None
