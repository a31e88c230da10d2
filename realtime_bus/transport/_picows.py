"""Connect with picows as the parser: the same transport, for less CPU.

The install extra is ``picows``; it runs on asyncio only. Everything but sockets, TLS and the
reading of frames is the default transport's, with the same options, limits and exceptions.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from realtime_bus._errors import MissingExtra, RegistrationError

from ._callbacks import on_asyncio
from ._dial import Options, dial_with
from ._limits import (
    CLOSE_TIMEOUT_S,
    MAX_FRAME_BYTES,
    OPEN_TIMEOUT_S,
    PING_INTERVAL_S,
    PING_TIMEOUT_S,
)

if TYPE_CHECKING:
    from ._picows_reader import PicowsTransport
    from ._transport import Transport

__all__ = ["dial_picows"]


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
    """Open a WebSocket that is read with picows; then `Transport.run` it and close it.

    For a session: ``bus.connect(..., dial=dial_picows)``. See `dial` for the arguments. Sockets and
    TLS are aiofastnet's.

    Raises:
        MissingExtra: picows is not installed.
        RegistrationError: It runs on trio; or a header or subprotocol cannot be sent.
        InvalidURL: The address is no WebSocket address.
        HostUnreachable: No such host, nobody listens, TLS failed, or no answer in time.
        AuthenticationError: The server answered 401 or 403.
        UpgradeRefused: The server answered something else than a WebSocket.
    """
    if not on_asyncio():
        raise RegistrationError("dial_picows runs on asyncio only; on trio use dial")
    options = Options(
        headers=headers or {},
        subprotocols=subprotocols,
        ssl_context=ssl_context,
        open_timeout_s=open_timeout_s,
        ping_interval_s=ping_interval_s,
        ping_timeout_s=ping_timeout_s,
        close_timeout_s=close_timeout_s,
        max_frame_bytes=max_frame_bytes,
    )
    return await dial_with(url, options, asyncio_transport=_transport_class())


def _transport_class() -> type[PicowsTransport]:
    if find_spec("picows") is None:
        raise MissingExtra("picows", extra="picows")
    from ._picows_reader import PicowsTransport  # noqa: PLC0415 - it needs picows

    return PicowsTransport
