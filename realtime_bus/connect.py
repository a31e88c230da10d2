"""Where a session connects to, with which key, and what it speaks there.

Rules of keys:

1. A key that is given (`api_key`) goes where the call goes, wherever that is.
2. Where the call has credentials of its own, in a header or in the query, no key is added.
3. The environment's key goes to OpenAI alone: to a host of openai.com, over TLS. Not to this
   machine either: any of its users may listen at a port, and a port may be forwarded.
4. No frame of ours has a key in a local variable that an exception could show (`_secrets`).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from realtime_bus._secrets import Secret, Secrets, unseen
from realtime_bus.errors import AuthenticationError, InvalidURL, UsageError
from realtime_bus.events import REALTIME, TRANSLATION, WireProtocol
from realtime_bus.session import SessionKind
from realtime_bus.transport import Dial, Transport
from realtime_bus.transport import dial as default_dial
from realtime_bus.transport._url import parse_url

__all__ = ["API_KEY_VARIABLE", "Target", "target"]

API_KEY_VARIABLE = "OPENAI_API_KEY"
_DEFAULT_URL = "wss://api.openai.com/v1/realtime"
_INTENTS: Final = (None, "transcription", "translation")


class Target:
    """Where to connect to, and as what.

    Args:
        url: The whole address.
        key: What to send as a bearer token, or None.
        headers: More headers, which may hold secrets of their own.
        intent: What the session is for, if that is not a conversation.

    Attributes:
        url: The whole address.
        shown: The same without its query, which may hold a key.
        protocol: What is spoken there.
        kind: What the session will do there.
    """

    def __init__(
        self, url: str, key: Secret | None, headers: Mapping[str, str], *, intent: str | None
    ) -> None:
        self.url = url
        self.shown: str = url.split("?", 1)[0]
        self.protocol: WireProtocol = REALTIME
        self.kind: SessionKind = "realtime"
        if intent == "transcription":
            self.kind = "transcription"
        elif _is_translation(url):
            self.protocol, self.kind = TRANSLATION, "translation"
        self.key = key
        self._given = dict(headers)
        self._secrets = Secrets(self._headers(), query=urlsplit(url).query)  # taken out of logs

    def _headers(self) -> dict[str, str]:
        """Return what is sent; to be passed on, and kept in no local variable."""
        own = {} if self.key is None else {"Authorization": f"Bearer {self.key.reveal()}"}
        return {**self._given, **own}

    def opener(
        self, dial: Dial | None, *, open_timeout_s: float, **options: Any
    ) -> Callable[[], Awaitable[Transport]]:
        """Return what opens the connection."""

        async def open_transport() -> Transport:
            return await (dial or default_dial)(
                self.url, headers=self._headers(), open_timeout_s=open_timeout_s, **options
            )

        return open_transport


@unseen
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
        UsageError: There is no such intent, the key is no text or empty, or a transcription
            session was given a model's name, which is a setting there.
    """
    if intent not in _INTENTS:
        raise UsageError(
            f"intent={intent!r:.40} is not known; leave it out, or choose one of "
            + ", ".join(repr(known) for known in _INTENTS[1:])
        )
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
    elif model_or_url and intent == "transcription":  # refused by the server: `invalid_model`
        raise UsageError(
            f"a transcription session is opened without a model; {model_or_url!r} is a setting of "
            f"it: connect(intent='transcription', transcription=Transcription(model="
            f"{model_or_url!r}))"
        )
    else:
        query = {"model": model_or_url, **query}
    if intent == "translation" and not _is_translation(url):
        parts = urlsplit(url)
        url = parts._replace(path=f"{parts.path.rstrip('/')}/translations").geturl()
    given = urlencode({name: value for name, value in query.items() if value is not None})
    if given:
        url = f"{url}{'&' if urlsplit(url).query else '?'}{given}"
    return Target(url, _find_key(api_key, url, headers), headers, intent=intent)


def _is_translation(url: str) -> bool:
    return urlsplit(url).path.rstrip("/").endswith("/translations")


def _find_key(api_key: str | None, url: str, headers: Mapping[str, str]) -> Secret | None:
    """Return the key to send: the one given, or, to OpenAI, the environment's."""
    if api_key is not None:
        return _given_key(api_key)
    if _has_credentials(url, headers):
        return None
    uri = parse_url(url)
    if not f".{uri.host.rstrip('.')}".endswith(".openai.com"):
        return None
    found = os.environ.get(API_KEY_VARIABLE)
    if not found:
        raise AuthenticationError(
            f"there is no key for {uri.host}: pass api_key=..., or set {API_KEY_VARIABLE}",
            url=uri.host,
        )
    if not uri.secure:
        raise AuthenticationError(
            f"{API_KEY_VARIABLE} is not sent to {uri.host} unencrypted: use wss://", url=uri.host
        )
    return Secret(found)


def _given_key(api_key: object) -> Secret:
    if not isinstance(api_key, str) or not api_key.strip():
        raise UsageError("api_key is empty, or no text: is its variable set? for no key, pass None")
    return Secret(api_key)


def _has_credentials(url: str, headers: Mapping[str, str]) -> bool:
    named = {name.lower() for name in headers} & {"authorization", "api-key"}
    return bool(named) or bool(parse_qs(urlsplit(url).query).keys() & {"api-key", "key"})
