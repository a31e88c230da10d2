"""Make connections: the client's request, the server's answer.

Secrets: the client's headers and subprotocols may hold a key. They go into the request's bytes
and nowhere else; no attribute keeps them readable, no log sees them (`SILENT`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

import msgspec
from websockets.client import ClientProtocol
from websockets.server import ServerProtocol
from websockets.uri import WebSocketURI

from realtime_bus._errors import RegistrationError

from ._connection import SILENT, Connection
from ._keepalive import Keepalive
from ._limits import MAX_FRAME_BYTES, PING_INTERVAL_S, PING_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.http11 import Request, Response
    from websockets.typing import Subprotocol

    ProcessRequest = Callable[["UpgradeRequest"], "Refusal | None"]

__all__ = ["Refusal", "Settings", "UpgradeRequest", "client_connection", "server_connection"]

_TOKEN: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS: Final = re.compile(r"(?i)(sec-websocket-.*|upgrade|connection)")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What both sides of a connection can set.

    Attributes:
        max_frame_bytes: Largest message that is read; a larger one closes with 1009. None: any.
        ping_interval_s: Seconds between pings; None sends none.
        ping_timeout_s: Seconds that the peer has to answer; None waits for ever.
    """

    max_frame_bytes: int | None = MAX_FRAME_BYTES
    ping_interval_s: float | None = PING_INTERVAL_S
    ping_timeout_s: float | None = PING_TIMEOUT_S

    def keepalive(self) -> Keepalive:
        """Make the keepalive of one connection."""
        return Keepalive(interval_s=self.ping_interval_s, timeout_s=self.ping_timeout_s)


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


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer instead of the upgrade.

    Attributes:
        status: HTTP status code, not 101.
        body: Sent as it is.
        content_type: Of the body.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"


def client_connection(
    uri: WebSocketURI,
    *,
    headers: Mapping[str, str] | None = None,
    subprotocols: Sequence[str] = (),
    settings: Settings | None = None,
) -> Connection:
    """Make the client's side; its request is in `Connection.outgoing` at once.

    Raises:
        RegistrationError: A header or subprotocol cannot be sent (its value is not told).
    """
    settings = settings or Settings()
    for name in subprotocols:
        if not _TOKEN.fullmatch(name):
            raise RegistrationError("a subprotocol holds a character that HTTP forbids")
    offered = cast("Sequence[Subprotocol]", subprotocols) or None
    protocol = ClientProtocol(
        uri, subprotocols=offered, max_size=settings.max_frame_bytes, logger=SILENT
    )
    request = protocol.connect()
    _add_headers(request, headers or {})
    protocol.send_request(request)
    return Connection(
        protocol, keepalive=settings.keepalive(), max_frame_bytes=settings.max_frame_bytes
    )


def _add_headers(request: Request, headers: Mapping[str, str]) -> None:
    for name, value in {"User-Agent": "realtime-bus", **headers}.items():
        _check_header(name, value)
        if name in request.headers:
            del request.headers[name]
        request.headers[name] = value


def _check_header(name: str, value: str) -> None:
    if not _TOKEN.fullmatch(name) or _OURS.fullmatch(name):
        raise RegistrationError(f"header {name!r} cannot be set on a WebSocket request")
    if not _VALUE.fullmatch(value):
        raise RegistrationError(
            f"the value of header {name!r} holds a line break or another character that HTTP "
            "forbids; was it read from a file? then strip it"
        )


def server_connection(
    *,
    process_request: ProcessRequest | None = None,
    subprotocols: Sequence[str] = (),
    settings: Settings | None = None,
) -> Connection:
    """Make the server's side; it answers the request inside `Connection.receive`.

    Args:
        process_request: Called with the request; a `Refusal` is sent instead of the upgrade.
            Exceptions come out of ``receive``.
        subprotocols: Those that the server accepts, best first. A client that offers none of
            them is served without one.
        settings: Limits and pings.
    """
    settings = settings or Settings()
    protocol = ServerProtocol(
        subprotocols=cast("Sequence[Subprotocol]", subprotocols) or None,
        select_subprotocol=_select_subprotocol,
        max_size=settings.max_frame_bytes,
        logger=SILENT,
    )

    def answer(request: Request) -> None:
        # Broken frames behind the request have already ended the connection.
        if not protocol.eof_sent:
            protocol.send_response(_respond(protocol, request, process_request))

    return Connection(protocol, keepalive=settings.keepalive(), answer=answer)


def _select_subprotocol(
    protocol: ServerProtocol, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    known = protocol.available_subprotocols or ()
    return next((name for name in known if name in offered), None)


def _respond(
    protocol: ServerProtocol, request: Request, process_request: ProcessRequest | None
) -> Response:
    refusal = process_request(_describe(request)) if process_request is not None else None
    if refusal is None:
        return protocol.accept(request)
    response = protocol.reject(refusal.status, "")
    for name in ("Content-Length", "Content-Type"):
        del response.headers[name]
    response.headers["Content-Length"] = str(len(refusal.body))
    response.headers["Content-Type"] = refusal.content_type
    response.body = refusal.body
    return response


def _describe(request: Request) -> UpgradeRequest:
    headers = {name.lower(): ", ".join(request.headers.get_all(name)) for name in request.headers}
    offered = headers.get("sec-websocket-protocol", "").split(",")
    names = [name.strip() for name in offered if name.strip()]
    return UpgradeRequest(path=request.path, headers=headers, subprotocols=names)
