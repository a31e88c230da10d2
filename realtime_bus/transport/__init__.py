"""Transports: what carries frames between a session and its peer.

A transport pushes: `Transport.run` calls ``deliver(frame)`` for each message as soon as its bytes
are there. `dial` makes one over a WebSocket, and `dial_picows` one that takes less CPU;
`memory_transport_pair` two for a test, `adapt` one from a connection that the application already
has, and `PushTransport` one that is fed by hand.
"""

from __future__ import annotations

from ._adapters import adapt
from ._asyncio import AsyncioTransport
from ._connection import Connection
from ._dial import dial
from ._handshake import (
    Refusal,
    Settings,
    UpgradeRequest,
    client_connection,
    server_connection,
)
from ._memory import MemoryTransport, PushTransport, memory_transport_pair
from ._picows import dial_picows
from ._stream import StreamTransport
from ._transport import Dial, Transport

__all__ = [
    "AsyncioTransport",
    "Connection",
    "Dial",
    "MemoryTransport",
    "PushTransport",
    "Refusal",
    "Settings",
    "StreamTransport",
    "Transport",
    "UpgradeRequest",
    "adapt",
    "client_connection",
    "dial",
    "dial_picows",
    "memory_transport_pair",
    "server_connection",
]
