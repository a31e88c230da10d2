"""What a running server tells: where it listens, and what it has seen."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from ._admission import PATH

__all__ = ["BoundServer", "ServerStatistics"]


class BoundServer(msgspec.Struct, frozen=True):
    """A server that listens.

    Attributes:
        host: Where.
        port: At which port.
    """

    host: str
    port: int

    @property
    def url(self) -> str:
        """The address for clients, such as ``ws://127.0.0.1:8765/v1/realtime``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ws://{host}:{self.port}{PATH}"

    def url_for(self, model: str) -> str:
        """Return the address with a model in it."""
        return f"{self.url}?model={quote(model)}"


class ServerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a server has seen.

    Attributes:
        open: Connections now.
        served: Sessions that were opened, those that have ended included.
        refused: Connections that got no session.
        failed: Sessions that a fault of the server has ended.
    """

    open: int
    served: int
    refused: int
    failed: int
