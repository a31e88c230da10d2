"""Where a session connects to, and with which key."""

from __future__ import annotations

import os
from urllib.parse import parse_qs, urlencode, urlsplit

from realtime_bus.errors import AuthenticationError, InvalidURL
from realtime_bus.events._vocabulary import REALTIME, TRANSLATION, Vocabulary

__all__ = ["API_KEY_VARIABLE", "Secret", "address", "find_key", "vocabulary_of"]

API_KEY_VARIABLE = "OPENAI_API_KEY"
_DEFAULT_URL = "wss://api.openai.com/v1/realtime"


class Secret:
    """A key that shows itself to nobody who does not ask for it by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('…')"


def address(model_or_url: str | None, *, call_id: str | None, intent: str | None) -> str:
    """Return the address to connect to.

    Raises:
        InvalidURL: Neither a model nor anything else says where to.
    """
    if model_or_url is not None and "://" in model_or_url:
        return _with_query(model_or_url, {"call_id": call_id, "intent": intent})
    if not (model_or_url or call_id or intent):
        raise InvalidURL(
            "connect() needs a model such as 'gpt-realtime', a wss:// address, a call_id "
            "or an intent"
        )
    return _with_query(_DEFAULT_URL, {"model": model_or_url, "call_id": call_id, "intent": intent})


def _with_query(url: str, wanted: dict[str, str | None]) -> str:
    added = urlencode({name: value for name, value in wanted.items() if value is not None})
    if not added:
        return url
    return f"{url}{'&' if urlsplit(url).query else '?'}{added}"


def vocabulary_of(url: str) -> Vocabulary:
    """Return which protocol is spoken at an address."""
    return TRANSLATION if urlsplit(url).path.rstrip("/").endswith("/translations") else REALTIME


def find_key(api_key: str | None, url: str, headers: dict[str, str]) -> Secret | None:
    """Return the key to send: the one given, or the environment's where that is safe.

    Raises:
        AuthenticationError: There is none, and OpenAI wants one.
    """
    if api_key is not None:
        return Secret(api_key)
    if _has_credentials(url, headers):
        return None
    parts = urlsplit(url)
    host = parts.hostname or ""
    found = os.environ.get(API_KEY_VARIABLE)
    if found and (parts.scheme == "wss" or _is_local(host)):
        return Secret(found)
    if host.endswith("openai.com"):
        raise AuthenticationError(
            f"there is no key for {host}: pass api_key=..., or set {API_KEY_VARIABLE}", url=host
        )
    return None


def _has_credentials(url: str, headers: dict[str, str]) -> bool:
    named = {name.lower() for name in headers} & {"authorization", "api-key"}
    return bool(named) or bool(parse_qs(urlsplit(url).query).keys() & {"api-key", "key"})


def _is_local(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")
