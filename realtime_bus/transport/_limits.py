"""Numbers that the transports share, each with its reason."""

from __future__ import annotations

from typing import Final

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
"""Largest message read, in bytes. The protocol states none for server events, so this is only a
guard against a peer that would fill our memory; a larger one closes the connection with 1009."""

HIGH_WATER_BYTES: Final = 64 * 1024
"""``drain()`` waits while more than this is unsent: 1 s of base64 PCM at 24 kHz."""

MAX_UNSENT_BYTES: Final = 64 * 1024 * 1024
"""Above this much unsent data the peer is taken for dead and the connection is given up: four of
the protocol's largest events. Dropping single frames would silently bend the conversation."""

OPEN_TIMEOUT_S: Final = 10.0
"""For name lookup, TCP, TLS and the upgrade together."""

CLOSE_TIMEOUT_S: Final = 5.0
"""How long we wait for the peer's side of the closing handshake."""

PING_INTERVAL_S: Final = 20.0
PING_TIMEOUT_S: Final = 20.0
