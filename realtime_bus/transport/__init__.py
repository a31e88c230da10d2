"""Transports: what carries frames between a session and its peer.

A transport pushes: `Transport.run` calls ``deliver(frame)`` for each message as soon as its bytes
are there. `dial` makes one over a WebSocket, and `dial_picows` one that takes less CPU;
`memory_transport_pair` two for a test, `adapt` one from a connection that the application already
has, and `PushTransport` one that is fed by hand.
"""

from __future__ import annotations

from ._adapters import adapt
from ._dial import dial, dial_picows
from ._memory import MemoryTransport, PushTransport, memory_transport_pair
from ._transport import Dial, Transport

__all__ = [
    "Dial",
    "MemoryTransport",
    "PushTransport",
    "Transport",
    "adapt",
    "dial",
    "dial_picows",
    "memory_transport_pair",
]
