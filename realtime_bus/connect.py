"""Where a session connects to, with which key, and what it speaks there."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from realtime_bus.errors import AuthenticationError, InvalidURL
from realtime_bus.events import REALTIME, TRANSLATION, WireProtocol
from realtime_bus.session import SessionKind
from realtime_bus.transport import Dial, Transport
from realtime_bus.transport import dial as default_dial
from realtime_bus.transport._url import is_loopback, parse_url

__all__ = ["API_KEY_VARIABLE", "Target", "target"]

API_KEY_VARIABLE = "OPENAI_API_KEY"
_DEFAULT_URL = "wss://api.openai.com/v1/realtime"


class Target:
    """Where to connect to, and as what.

    Attributes:
        url: The whole address.
        shown: The same without its query, which may hold a key.
        protocol: What is spoken there.
        kind: What the session will do there.
    """

    def __init__(self, url: str, key: Secret | None, *, intent: str | None) -> None:
        self.url = url
        self.shown: str = url.split("?", 1)[0]
        self.protocol: WireProtocol = REALTIME
        self.kind: SessionKind = "realtime"
        if intent == "transcription":
            self.kind = "transcription"
        elif _is_translation(url):
            self.protocol, self.kind = TRANSLATION, "translation"
        self.key = key

    def opener(
        self,
        dial: Dial | None,
        *,
        headers: Mapping[str, str],
        open_timeout_s: float,
        **options: Any,
    ) -> Callable[[], Awaitable[Transport]]:
        """Return what opens the connection."""

        async def open_transport() -> Transport:
            given = dict(headers)
            if self.key is not None:
                given["Authorization"] = f"Bearer {self.key.reveal()}"
            return await (dial or default_dial)(
                self.url, headers=given, open_timeout_s=open_timeout_s, **options
            )

        return open_transport


def target(
    model_or_url: str | None,
    *,
    call_id: str | None,
    intent: str | None,
    api_key: str | None,
    headers: Mapping[str, str],
) -> Target:
    """Work out where to connect to, and with which key.

    Raises:
        InvalidURL: Neither a model nor anything else says where to.
        AuthenticationError: There is no key, and OpenAI wants one.
    """
    url = _DEFAULT_URL
    query = {"call_id": call_id, "intent": None if intent == "translation" else intent}
    if model_or_url is not None and "://" in model_or_url:
        parse_url(model_or_url)  # complains now, not when it is dialed
        url = model_or_url
    elif not (model_or_url or call_id or intent):
        raise InvalidURL(
            "connect() needs a model such as 'gpt-realtime', a wss:// address, a call_id "
            "or an intent"
        )
    else:
        query = {"model": model_or_url, **query}
    if intent == "translation" and not _is_translation(url):
        parts = urlsplit(url)
        url = parts._replace(path=f"{parts.path.rstrip('/')}/translations").geturl()
    given = urlencode({name: value for name, value in query.items() if value is not None})
    if given:
        url = f"{url}{'&' if urlsplit(url).query else '?'}{given}"
    return Target(url, _find_key(api_key, url, headers), intent=intent)


def _is_translation(url: str) -> bool:
    return urlsplit(url).path.rstrip("/").endswith("/translations")


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


def _find_key(api_key: str | None, url: str, headers: Mapping[str, str]) -> Secret | None:
    """Return the key to send: the one given, or the environment's where that is safe."""
    if api_key is not None:
        return Secret(api_key)
    if _has_credentials(url, headers):
        return None
    parts = urlsplit(url)
    host = parts.hostname or ""
    found = os.environ.get(API_KEY_VARIABLE)
    if found and (parts.scheme == "wss" or is_loopback(host)):
        return Secret(found)
    if host.endswith("openai.com"):
        raise AuthenticationError(
            f"there is no key for {host}: pass api_key=..., or set {API_KEY_VARIABLE}", url=host
        )
    return None


def _has_credentials(url: str, headers: Mapping[str, str]) -> bool:
    named = {name.lower() for name in headers} & {"authorization", "api-key"}
    return bool(named) or bool(parse_qs(urlsplit(url).query).keys() & {"api-key", "key"})
