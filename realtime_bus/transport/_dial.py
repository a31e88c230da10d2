"""Connect to a WebSocket server, with one clear exception for each way that this can fail.

The connection is made directly: proxy settings of the environment are not honoured, so that the
key goes nowhere but to the host that was named. Redirects are not followed, for the same reason.
TLS certificates and host names are verified. Nothing is logged, and no frame has a key in a local
variable: what is asked of the server is carried by an `Upgrade`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio import to_thread

from realtime_bus.errors import (
    ConnectError,
    HostUnreachable,
    InvalidURL,
    MissingExtra,
    UsageError,
)

from ._asyncio import AsyncioTransport, on_asyncio
from ._handshake import ConnectionOptions, Upgrade, clock_ahead_s, refused
from ._stream import StreamTransport
from ._transport import (
    CLOSE_TIMEOUT_S,
    MAX_FRAME_BYTES,
    OPEN_TIMEOUT_S,
    PING_INTERVAL_S,
    PING_TIMEOUT_S,
)

if TYPE_CHECKING:
    from anyio.abc import ByteStream

    from ._transport import Transport

_NEXT_ADDRESS_S: Final = 0.25
"""How long one address of a host has before the next is tried beside it."""


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
    upgrade = Upgrade(url, headers, subprotocols)
    del url, headers, subprotocols  # no local variable of ours shows a key
    return await _dial(
        upgrade,
        AsyncioTransport,
        ssl_context=ssl_context,
        open_timeout_s=open_timeout_s,
        close_timeout_s=close_timeout_s,
        options=ConnectionOptions(
            ping_interval_s=ping_interval_s,
            ping_timeout_s=ping_timeout_s,
            max_frame_bytes=max_frame_bytes,
        ),
    )


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
    upgrade = Upgrade(url, headers, subprotocols)
    del url, headers, subprotocols  # no local variable of ours shows a key
    if not on_asyncio():
        raise UsageError("dial_picows runs on asyncio only; on trio use dial")
    if find_spec("picows") is None:
        raise MissingExtra("picows", extra="picows")
    from ._picows import PicowsTransport  # noqa: PLC0415 - it needs picows

    return await _dial(
        upgrade,
        PicowsTransport,
        ssl_context=ssl_context,
        open_timeout_s=open_timeout_s,
        close_timeout_s=close_timeout_s,
        options=ConnectionOptions(
            ping_interval_s=ping_interval_s,
            ping_timeout_s=ping_timeout_s,
            max_frame_bytes=max_frame_bytes,
        ),
    )


async def _dial(
    upgrade: Upgrade,
    asyncio_transport: type[AsyncioTransport],
    *,
    ssl_context: ssl.SSLContext | None,
    open_timeout_s: float,
    close_timeout_s: float,
    options: ConnectionOptions,
) -> Transport:
    upgrade.read()
    connection = upgrade.connection(options)
    transport: AsyncioTransport | StreamTransport | None = None
    with anyio.move_on_after(open_timeout_s):
        if upgrade.secure and ssl_context is None:
            # Reads the authorities' certificates from disk: tens of milliseconds.
            ssl_context = await to_thread.run_sync(ssl.create_default_context)
        tls = ssl_context if upgrade.secure else None
        try:
            # TCP_NODELAY: asyncio and anyio set it on every TCP connection.
            if on_asyncio():
                sock = await _connect_socket(upgrade.host, upgrade.port)
                transport = asyncio_transport(connection, close_timeout_s=close_timeout_s)
                await transport.connect(sock, tls, upgrade.host)
            else:
                stream = await _connect_stream(upgrade, tls)
                transport = StreamTransport(stream, connection, close_timeout_s=close_timeout_s)
        except (OSError, UnicodeError, anyio.BrokenResourceError, anyio.EndOfStream) as exc:
            raise _unreachable(upgrade, exc) from exc
        try:
            opened = await transport.open()
        except BaseException as exc:  # noqa: BLE001 - it is raised again
            with anyio.CancelScope(shield=True):
                await transport.abort()
            raise exc.with_traceback(None)  # noqa: B904 - itself; frames below it hold the request
        if opened:
            transport.clock_ahead_s = clock_ahead_s(connection.response, time.time())
            return transport
        with anyio.CancelScope(shield=True):
            await transport.abort()
        raise refused(connection, url=upgrade.shown, secrets=upgrade.secrets)
    raise HostUnreachable(
        f"{upgrade.shown}: no answer within {open_timeout_s:g} s", url=upgrade.shown
    )


async def _connect_socket(host: str, port: int) -> socket.socket:
    """Connect to whichever of a host's addresses answers first (RFC 8305, happy eyeballs).

    asyncio's own way loses the winner's socket when it is cancelled, and uvloop has none.

    Raises:
        OSError: There is no such host, or nobody answers at any of its addresses.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    # The families take turns, the resolver's favourite first.
    first = [info for info in found if info[0] == found[0][0]]
    second = [info for info in found if info[0] != found[0][0]]
    turns = [info for pair in zip_longest(first, second) for info in pair if info is not None]
    winner: socket.socket | None = None
    errors: list[OSError] = []

    async def attempt(sock: socket.socket, address: Any, failed: anyio.Event) -> None:
        nonlocal winner
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            winner = winner or sock
            tasks.cancel_scope.cancel()
        except OSError as exc:
            errors.append(exc)
            failed.set()
        finally:
            if sock is not winner:
                sock.close()

    try:
        async with anyio.create_task_group() as tasks:
            for family, kind, protocol, _, address in turns:
                failed = anyio.Event()
                tasks.start_soon(attempt, socket.socket(family, kind, protocol), address, failed)
                with anyio.move_on_after(_NEXT_ADDRESS_S):
                    await failed.wait()
    except BaseException:
        if winner is not None:
            winner.close()
        raise
    if winner is None:
        raise errors[0] if len(errors) == 1 else OSError("; ".join(map(str, errors)))
    return winner


async def _connect_stream(upgrade: Upgrade, tls: ssl.SSLContext | None) -> ByteStream:
    if tls is None:
        return await anyio.connect_tcp(upgrade.host, upgrade.port)
    # Not standard-compatible: a WebSocket has its own closing handshake.
    return await anyio.connect_tcp(
        upgrade.host,
        upgrade.port,
        ssl_context=tls,
        tls_hostname=upgrade.host,
        tls_standard_compatible=False,
    )


def _unreachable(upgrade: Upgrade, exc: Exception) -> ConnectError:
    """Say in one sentence what went wrong below the WebSocket."""
    shown = upgrade.shown
    if isinstance(exc, UnicodeError):
        return InvalidURL(f"{shown!r} holds no valid host name", url=shown)
    if isinstance(exc, socket.gaierror):
        return HostUnreachable(f"{shown}: there is no host {upgrade.host!r}", url=shown)
    if isinstance(exc, ssl.SSLCertVerificationError):
        text = f"{shown}: the server's certificate is not trusted: {exc.verify_message}"
        return HostUnreachable(f"{text} (pass an ssl_context if it should be)", url=shown)
    if isinstance(exc, ssl.SSLError):
        text = f"{shown}: TLS failed: {exc.reason}; does the server speak TLS on this port?"
        return HostUnreachable(text, url=shown)
    if isinstance(exc, OSError) and not isinstance(exc, ConnectionResetError):
        text = f"{shown}: nobody answers at {upgrade.host}:{upgrade.port} ({exc.__cause__ or exc})"
        return HostUnreachable(text, url=shown)
    return HostUnreachable(
        f"{shown}: the server hung up while connecting; does it speak TLS?", url=shown
    )
