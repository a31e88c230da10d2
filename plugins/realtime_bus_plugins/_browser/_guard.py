"""Who is let in: hosts, origins, and what a browser is told to keep to.

A page of somebody else's, open in the same browser, can open a WebSocket to any server that the
browser reaches, this machine's own included, and it can make its name resolve to that server's
address (DNS rebinding). Two headers tell, and a page can forge neither: Host, the name by which
the browser found the server, and Origin, where the page is from.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from realtime_bus import UsageError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Names that lead to this machine, and to no other."""

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "permissions-policy": "microphone=(self)",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",  # to be asked for again, and answered with 304
}
"""Sent with every file of the page."""


class Guard:
    """Decide who may come in.

    Args:
        hosts: Names by which the server may be called, beside loopback's, with or without a port;
            ``"*"`` for any.
        origins: Where pages may be from, beside the server itself; ``"*"`` for anywhere.

    Attributes:
        hosts: All of them.
    """

    def __init__(self, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        for name, given in (("hosts", hosts), ("origins", origins)):
            if isinstance(given, str):
                raise UsageError(f"{name} takes several; write {name}=[{given!r}]")
        self.hosts: frozenset[str] = LOOPBACK | {host.lower() for host in hosts}
        self._origins = {origin.lower().rstrip("/") for origin in origins}

    def refusal(self, host: str | None, origin: str | None) -> str | None:
        """Say why a request is refused, or None if it is not.

        Args:
            host: Its Host header.
            origin: Its Origin header; None if there is none, as with anything but a browser.
        """
        host = (host or "").lower()
        if "*" not in self.hosts and not {host, _without_port(host)} & self.hosts:
            return f"the host {host!r:.80} is not one of hosts=[...] of this Browser"
        origin = None if origin is None else origin.lower()
        if origin is None or "*" in self._origins or origin in self._origins:
            return None
        try:
            same = urlsplit(origin).netloc == host
        except ValueError:  # whoever made it up left a bracket open
            same = False
        return None if same else f"the origin {origin!r:.80} is not one of origins=[...]"


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
