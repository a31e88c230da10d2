"""WebSocket addresses: checked, shown without what is private, and told apart from local ones."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from websockets.uri import WebSocketURI

from realtime_bus._secrets import unseen
from realtime_bus.errors import InvalidURL

_PATH_SAFE: Final = "/%:@!$&'()*+,;=~"
_QUERY_SAFE: Final = _PATH_SAFE + "?[]"
_HTTP: Final = {"http": "ws", "https": "wss"}


@unseen
def parse_url(url: str) -> WebSocketURI:
    """Parse a ws or wss URL.

    Raises:
        InvalidURL: It is none; the text tells what to do and holds neither query nor credentials.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise InvalidURL("the URL cannot be read: check its host and port") from None
    _check(parts)
    secure = parts.scheme == "wss"
    return WebSocketURI(
        secure=secure,
        host=_ascii_host(parts),
        port=port or (443 if secure else 80),
        path=quote(parts.path, safe=_PATH_SAFE) or "/",
        query=quote(parts.query, safe=_QUERY_SAFE),
    )


def _check(parts: SplitResult) -> None:
    shown = _show(parts)
    if parts.scheme in _HTTP:
        wanted = _HTTP[parts.scheme]
        raise InvalidURL(f"{shown} is no WebSocket address: use {wanted}://", url=shown)
    if parts.scheme not in {"ws", "wss"}:
        raise InvalidURL(f"{shown!r} does not begin with wss:// or ws://", url=shown)
    if not parts.hostname:
        raise InvalidURL(f"{shown!r} names no host: wss://host/path", url=shown)
    if parts.username is not None or parts.password is not None:
        raise InvalidURL(
            f"{shown} was given with credentials in it: send them in a header", url=shown
        )
    if parts.fragment:
        raise InvalidURL(f"{shown} was given with a #fragment: leave it out", url=shown)


def _ascii_host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    try:
        ascii_host = host.encode("idna").decode("ascii") if ":" not in host else host
    except UnicodeError:
        ascii_host = ""
    if not ascii_host or any(char.isspace() for char in ascii_host):
        shown = _show(parts)
        raise InvalidURL(f"{shown!r} holds no valid host name", url=shown)
    return ascii_host


def show_url(uri: WebSocketURI) -> str:
    """Write the address for an error message: no query, no credentials."""
    scheme, default = ("wss", 443) if uri.secure else ("ws", 80)
    host = f"[{uri.host}]" if ":" in uri.host else uri.host
    port = "" if uri.port == default else f":{uri.port}"
    return f"{scheme}://{host}{port}{uri.path}"


def is_loopback(host: str) -> bool:
    """Tell whether a host can only be this machine: a name is believed only if it is localhost."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _show(parts: SplitResult) -> str:
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme else f"{host}{parts.path}"
