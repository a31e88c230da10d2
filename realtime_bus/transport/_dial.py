"""Connect to a WebSocket server, with one clear exception for each way that this can fail.

The connection is made directly: proxy settings of the environment are not honoured, so that the
key goes nowhere but to the host that was named. Redirects are not followed, for the same reason.
TLS certificates and host names are verified. Nothing is logged.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from realtime_bus._errors import ConnectError, HostUnreachable, InvalidURL

from ._asyncio import AsyncioTransport
from ._handshake import Settings, client_connection
from ._limits import (
    CLOSE_TIMEOUT_S,
    MAX_FRAME_BYTES,
    OPEN_TIMEOUT_S,
    PING_INTERVAL_S,
    PING_TIMEOUT_S,
)
from ._refusal import Secrets, refused
from ._stream import StreamTransport
from ._url import parse_url, show_url

if TYPE_CHECKING:
    from collections.abc import Generator

    from anyio.abc import ByteStream
    from websockets.uri import WebSocketURI

    from ._connection import Connection
    from ._transport import Transport

__all__ = ["dial"]


async def dial(  # noqa: PLR0913 - each is an option that somebody needs
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    subprotocols: Sequence[str] = (),
    ssl_context: ssl.SSLContext | None = None,
    open_timeout_s: float = OPEN_TIMEOUT_S,
    ping_interval_s: float | None = PING_INTERVAL_S,
    ping_timeout_s: float | None = PING_TIMEOUT_S,
    close_timeout_s: float = CLOSE_TIMEOUT_S,
    max_frame_bytes: int | None = MAX_FRAME_BYTES,
) -> Transport:
    """Open a WebSocket and return it as a transport; then `Transport.run` it and close it.

    Args:
        url: ``wss://`` or ``ws://``; without credentials.
        headers: Sent with the request; the key belongs here.
        subprotocols: Offered to the server, best first.
        ssl_context: For ``wss``, instead of one that trusts the system's authorities.
        open_timeout_s: For name lookup, TCP, TLS and upgrade together.
        ping_interval_s: Seconds between pings; None sends none.
        ping_timeout_s: Seconds that the server has to show life after a ping, else 1011.
        close_timeout_s: Seconds that the server has to finish the closing handshake.
        max_frame_bytes: A larger message closes the connection with 1009; None reads any.

    Raises:
        InvalidURL: The address is no WebSocket address.
        HostUnreachable: No such host, nobody listens, TLS failed, or no answer in time.
        AuthenticationError: The server answered 401 or 403.
        UpgradeRefused: The server answered something else than a WebSocket.
        RegistrationError: A header or subprotocol cannot be sent.
    """
    uri = parse_url(url)
    settings = Settings(
        max_frame_bytes=max_frame_bytes,
        ping_interval_s=ping_interval_s,
        ping_timeout_s=ping_timeout_s,
    )
    connection = client_connection(
        uri, headers=headers, subprotocols=subprotocols, settings=settings
    )
    secrets = Secrets(headers or {}, subprotocols)
    with anyio.move_on_after(open_timeout_s):
        return await _open(uri, connection, ssl_context, close_timeout_s, secrets)
    shown = show_url(uri)
    raise HostUnreachable(f"{shown}: no answer within {open_timeout_s:g} s", url=shown)


async def _open(
    uri: WebSocketURI,
    connection: Connection,
    ssl_context: ssl.SSLContext | None,
    close_timeout_s: float,
    secrets: Secrets,
) -> AsyncioTransport | StreamTransport:
    if uri.secure and ssl_context is None:
        # Reads the authorities' certificates from disk: tens of milliseconds.
        ssl_context = await to_thread.run_sync(ssl.create_default_context)
    tls = ssl_context if uri.secure else None
    connect = _connect_asyncio if _on_asyncio() else _connect_stream
    try:
        transport = await connect(uri, connection, tls, close_timeout_s)
    except (OSError, UnicodeError, anyio.BrokenResourceError, anyio.EndOfStream) as exc:
        raise _unreachable(uri, exc) from exc
    try:
        if await transport.open():
            return transport
    except BaseException:
        with anyio.CancelScope(shield=True):
            await transport.abort()
        raise
    await transport.abort()
    raise refused(connection, url=show_url(uri), secrets=secrets)


def _on_asyncio() -> bool:
    try:
        from sniffio import current_async_library  # noqa: PLC0415 - optional
    except ImportError:
        return True  # trio depends on it
    return current_async_library() == "asyncio"


async def _connect_asyncio(
    uri: WebSocketURI,
    connection: Connection,
    tls: ssl.SSLContext | None,
    close_timeout_s: float,
) -> AsyncioTransport:
    with _asyncio_in_callbacks():
        _, transport = await asyncio.get_running_loop().create_connection(
            lambda: AsyncioTransport(connection, close_timeout_s=close_timeout_s),
            uri.host,
            uri.port,
            ssl=tls,
            server_hostname=uri.host if tls else None,
            ssl_shutdown_timeout=close_timeout_s if tls else None,
            happy_eyeballs_delay=0.25,
        )
    return transport  # TCP_NODELAY: asyncio sets it on every TCP connection


@contextmanager
def _asyncio_in_callbacks() -> Generator[None]:
    """Let handlers that run in the loop's callback, where no task is, use anyio.

    Where sniffio is installed, anyio asks it, and it looks for a task unless this variable is
    set; the transport's callbacks inherit it from here.
    """
    try:
        from sniffio import current_async_library_cvar as library  # noqa: PLC0415 - optional
    except ImportError:
        yield
        return
    token = library.set("asyncio")
    try:
        yield
    finally:
        library.reset(token)


async def _connect_stream(
    uri: WebSocketURI,
    connection: Connection,
    tls: ssl.SSLContext | None,
    close_timeout_s: float,
) -> StreamTransport:
    stream: ByteStream  # TCP_NODELAY: anyio sets it on every TCP connection
    if tls is None:
        stream = await anyio.connect_tcp(uri.host, uri.port)
    else:
        # Not standard-compatible: a WebSocket has its own closing handshake.
        stream = await anyio.connect_tcp(
            uri.host,
            uri.port,
            ssl_context=tls,
            tls_hostname=uri.host,
            tls_standard_compatible=False,
        )
    return StreamTransport(stream, connection, close_timeout_s=close_timeout_s)


def _unreachable(uri: WebSocketURI, exc: Exception) -> ConnectError:
    """Say in one sentence what went wrong below the WebSocket."""
    shown = show_url(uri)
    if isinstance(exc, UnicodeError):
        return InvalidURL(f"{shown!r} holds no valid host name", url=shown)
    if isinstance(exc, socket.gaierror):
        return HostUnreachable(f"{shown}: there is no host {uri.host!r}", url=shown)
    if isinstance(exc, ssl.SSLCertVerificationError):
        text = f"{shown}: the server's certificate is not trusted: {exc.verify_message}"
        return HostUnreachable(f"{text} (pass an ssl_context if it should be)", url=shown)
    if isinstance(exc, ssl.SSLError):
        text = f"{shown}: TLS failed: {exc.reason}; does the server speak TLS on this port?"
        return HostUnreachable(text, url=shown)
    if isinstance(exc, OSError) and not isinstance(exc, ConnectionResetError):
        text = f"{shown}: nobody answers at {uri.host}:{uri.port} ({exc.__cause__ or exc})"
        return HostUnreachable(text, url=shown)
    return HostUnreachable(
        f"{shown}: the server hung up while connecting; does it speak TLS?", url=shown
    )
