"""Who is let in, and to what: the upgrade request, judged.

The rules
---------
* The path is ``/v1/realtime``, or ``/v1/realtime/translations`` for a translation; any other is
  HTTP 404. Above the limit of connections it is HTTP 503.
* With a key set, the client gives it as a bearer token, or (browsers) as the subprotocol
  ``openai-insecure-api-key.<key>``. A wrong one is let in, told ``invalid_api_key`` and closed
  with 3000, as OpenAI does; or refused with HTTP 401.
* The beta shape is told ``beta_api_shape_disabled``, an unknown intent ``invalid_intent``, and
  a conversation or translation without a model ``missing_model``; these close with 4000.
* ``call_id`` joins a running session, whatever else is asked for; HTTP 404 if there is none.
* ``intent=transcription`` is a session that only transcribes; it needs no model.

Source: Realtime protocol, connection, authentication and closing.
"""

from __future__ import annotations

import hmac
from collections.abc import Container
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import msgspec

from realtime_bus.transport._handshake import HttpRefusal, UpgradeRequest

from ._config import SessionKind
from ._options import ServerOptions
from ._wire import InvalidRequest

PATH = "/v1/realtime"
TRANSLATIONS_PATH = f"{PATH}/translations"

_KEY_PROTOCOL = "openai-insecure-api-key."
_BETA_HEADER = "realtime=v1"
_BETA_PROTOCOL = "openai-beta.realtime-v1"
_KINDS: dict[tuple[str, str], SessionKind | Literal["translation"]] = {
    (PATH, "realtime"): "realtime",
    (PATH, "transcription"): "transcription",
    (TRANSLATIONS_PATH, "translation"): "translation",
}


class Accepted(msgspec.Struct, frozen=True):
    """A session may begin.

    Attributes:
        kind: Conversation, transcription only, or translation.
        model: From the URL; None if the session only transcribes.
        life_s: How long the session lives, if that is not for the server's options to say.
    """

    kind: SessionKind | Literal["translation"]
    model: str | None
    life_s: float | None = None


class TurnedAway(msgspec.Struct, frozen=True):
    """The upgrade succeeds, the client is told what is wrong, and the connection is closed.

    Attributes:
        refusal: What it is told.
        close_code: 3000 for keys, 4000 for the rest.
    """

    refusal: InvalidRequest
    close_code: int

    @property
    def reason(self) -> str:
        """The close frame's reason."""
        return f"invalid_request_error.{self.refusal.code}"


class Joining(msgspec.Struct, frozen=True):
    """A client joins a running session.

    Attributes:
        call_id: Which.
    """

    call_id: str


Verdict = Accepted | Joining | TurnedAway | HttpRefusal


def admit(
    request: UpgradeRequest,
    options: ServerOptions,
    *,
    calls: Container[str] = (),
    crowded: bool = False,
) -> Verdict:
    """Judge an upgrade request.

    Args:
        request: What the client asked for.
        options: The server's knobs.
        calls: The ids of the running sessions.
        crowded: Whether there are as many connections as there may be.
    """
    url = urlsplit(request.path)
    path = url.path.rstrip("/")
    if path not in (PATH, TRANSLATIONS_PATH):
        return http_refusal(404, "not_found", f"There is nothing at this path; try {PATH}.")
    if crowded:
        return http_refusal(503, "too_many_connections", "The server is full; try again later.")
    if options.api_key is not None and not _has_key(request, options.api_key):
        message = "Incorrect API key provided."
        if options.bad_key == "http":
            return http_refusal(401, "invalid_api_key", message)
        return TurnedAway(InvalidRequest("invalid_api_key", message), 3000)
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    kind = "translation" if path == TRANSLATIONS_PATH else query.get("intent", "realtime")
    return _session(request, query, _KINDS.get((path, kind)), calls)


def _has_key(request: UpgradeRequest, api_key: str) -> bool:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        given = token.strip()
    else:
        keys = (name for name in request.subprotocols if name.startswith(_KEY_PROTOCOL))
        given = next(keys, "").removeprefix(_KEY_PROTOCOL)
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), api_key.encode())


def _session(
    request: UpgradeRequest,
    query: dict[str, str],
    kind: SessionKind | Literal["translation"] | None,
    calls: Container[str],
) -> Verdict:
    if _BETA_HEADER in request.headers.get("openai-beta", "") or (
        _BETA_PROTOCOL in request.subprotocols
    ):
        message = "The Realtime Beta API is no longer supported; drop the OpenAI-Beta header."
        return TurnedAway(InvalidRequest("beta_api_shape_disabled", message), 4000)
    if (call_id := query.get("call_id")) is not None:
        message = f"There is no call with the id '{call_id}'."
        missing = http_refusal(404, "call_id_not_found", message)
        return Joining(call_id) if call_id in calls else missing
    if kind is None:
        message = "Invalid intent; allowed are realtime, transcription."
        return TurnedAway(InvalidRequest("invalid_intent", message, param="intent"), 4000)
    model = query.get("model")
    if model is None and kind != "transcription":
        message = "You must provide a model parameter, such as ?model=gpt-realtime."
        return TurnedAway(InvalidRequest("missing_model", message, param="model"), 4000)
    return Accepted(kind, model if kind != "transcription" else None)


def http_refusal(status: int, code: str, message: str) -> HttpRefusal:
    """Return an HTTP answer with an error in the protocol's shape."""
    error = {"type": "invalid_request_error", "code": code, "message": message, "param": None}
    return HttpRefusal(status=status, body=msgspec.json.encode({"error": error}))
