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
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread

from realtime_bus.errors import (
    ConnectError,
    HostUnreachable,
    InvalidURL,
    MissingExtra,
    UsageError,
)

from ._asyncio import AsyncioTransport, asyncio_in_callbacks, on_asyncio
from ._handshake import ConnectionOptions, Secrets, client_connection, refused
from ._stream import StreamTransport
from ._transport import (
    CLOSE_TIMEOUT_S,
    MAX_FRAME_BYTES,
    OPEN_TIMEOUT_S,
    PING_INTERVAL_S,
    PING_TIMEOUT_S,
)
from ._url import parse_url, show_url

if TYPE_CHECKING:
    from anyio.abc import ByteStream
    from websockets.uri import WebSocketURI

    from ._connection import Connection
    from ._transport import Transport

__all__ = ["dial", "dial_picows"]


@dataclass(frozen=True, kw_only=True, repr=False)  # the headers may hold a key
class _Options:
    """What `dial` can be told; its arguments say what each means."""

    headers: Mapping[str, str]
    subprotocols: Sequence[str]
    ssl_context: ssl.SSLContext | None
    open_timeout_s: float
    ping_interval_s: float | None
    ping_timeout_s: float | None
    close_timeout_s: float
    max_frame_bytes: int | None


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
        UsageError: A header or subprotocol cannot be sent.
    """
    options = _Options(
        headers=headers or {},
        subprotocols=subprotocols,
        ssl_context=ssl_context,
        open_timeout_s=open_timeout_s,
        ping_interval_s=ping_interval_s,
        ping_timeout_s=ping_timeout_s,
        close_timeout_s=close_timeout_s,
        max_frame_bytes=max_frame_bytes,
    )
    return await _dial(url, options, AsyncioTransport)


async def dial_picows(  # noqa: PLR0913 - the same options as `dial`
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
    """Open a WebSocket that is read with picows, for less CPU; else as `dial`.

    For a session: ``bus.connect(..., dial=dial_picows)``. The install extra is ``picows``; it runs
    on asyncio only. Everything but sockets and TLS, which are aiofastnet's, and the reading of
    frames is `dial`'s, with the same arguments, limits and exceptions.

    Raises:
        MissingExtra: picows is not installed.
        UsageError: It runs on trio; or a header or subprotocol cannot be sent.
        InvalidURL: The address is no WebSocket address.
        HostUnreachable: No such host, nobody listens, TLS failed, or no answer in time.
        AuthenticationError: The server answered 401 or 403.
        UpgradeRefused: The server answered something else than a WebSocket.
    """
    if not on_asyncio():
        raise UsageError("dial_picows runs on asyncio only; on trio use dial")
    if find_spec("picows") is None:
        raise MissingExtra("picows", extra="picows")
    from ._picows import PicowsTransport  # noqa: PLC0415 - it needs picows

    options = _Options(
        headers=headers or {},
        subprotocols=subprotocols,
        ssl_context=ssl_context,
        open_timeout_s=open_timeout_s,
        ping_interval_s=ping_interval_s,
        ping_timeout_s=ping_timeout_s,
        close_timeout_s=close_timeout_s,
        max_frame_bytes=max_frame_bytes,
    )
    return await _dial(url, options, PicowsTransport)


async def _dial(
    url: str, options: _Options, asyncio_transport: type[AsyncioTransport]
) -> Transport:
    uri = parse_url(url)
    connection = client_connection(
        uri,
        headers=options.headers,
        subprotocols=options.subprotocols,
        options=ConnectionOptions(
            max_frame_bytes=options.max_frame_bytes,
            ping_interval_s=options.ping_interval_s,
            ping_timeout_s=options.ping_timeout_s,
        ),
    )
    with anyio.move_on_after(options.open_timeout_s):
        return await _open(uri, connection, options, asyncio_transport)
    shown = show_url(uri)
    raise HostUnreachable(f"{shown}: no answer within {options.open_timeout_s:g} s", url=shown)


async def _open(
    uri: WebSocketURI,
    connection: Connection,
    options: _Options,
    asyncio_transport: type[AsyncioTransport],
) -> Transport:
    tls = options.ssl_context if uri.secure else None
    if uri.secure and tls is None:
        # Reads the authorities' certificates from disk: tens of milliseconds.
        tls = await to_thread.run_sync(ssl.create_default_context)
    transport: AsyncioTransport | StreamTransport
    try:
        if on_asyncio():
            transport = asyncio_transport(connection, close_timeout_s=options.close_timeout_s)
            await _connect_asyncio(uri, transport, tls, options.close_timeout_s)
        else:
            transport = await _connect_stream(uri, connection, tls, options.close_timeout_s)
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
    secrets = Secrets(options.headers, options.subprotocols)
    raise refused(connection, url=show_url(uri), secrets=secrets)


async def _connect_asyncio(
    uri: WebSocketURI,
    transport: AsyncioTransport,
    tls: ssl.SSLContext | None,
    close_timeout_s: float,
) -> None:
    loop = asyncio.get_running_loop()
    # uvloop has no happy eyeballs: it tries one address after the other
    delay: dict[str, Any] = (
        {"happy_eyeballs_delay": 0.25} if isinstance(loop, asyncio.BaseEventLoop) else {}
    )
    with asyncio_in_callbacks():
        await transport.connect(
            uri.host,
            uri.port,
            ssl=tls,
            server_hostname=uri.host if tls else None,
            ssl_shutdown_timeout=close_timeout_s if tls else None,
            **delay,
        )  # TCP_NODELAY: asyncio sets it on every TCP connection


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
