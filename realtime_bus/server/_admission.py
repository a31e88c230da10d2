"""Who is let in, and to what: the upgrade request, judged.

The rules
---------
* An address that is none is HTTP 400; so is one with raw bytes beyond ASCII.
* Web pages are kept out, who may open a WebSocket to any address and send no key: an ``Origin``
  of another site is HTTP 403. Let in are pages of this machine's own loopback, pages of the same
  host if it is named by its address or as the server was bound (any other name may have been
  pointed here by its owner: DNS rebinding), and ``allowed_origins``.
* A server on loopback is asked for by a loopback name or address, or by the host of an allowed
  origin (a proxy's); another ``Host`` is HTTP 403, for the same reason.
* The path is ``/v1/realtime``, or ``/v1/realtime/translations`` for a translation; any other is
  HTTP 404. Above the limit of connections it is HTTP 503.
* With a key set, the client gives it as a bearer token, or (browsers) as the subprotocol
  ``openai-insecure-api-key.<key>``. A wrong one is let in, told ``invalid_api_key`` and closed
  with 3000, as OpenAI does; or refused with HTTP 401.
* The beta shape is told ``beta_api_shape_disabled``, an unknown intent ``invalid_intent``, a
  conversation or translation without a model ``missing_model``, and a model that only
  transcribes ``invalid_model`` (a transcription names it in ``session.update``), as is one that
  is not among ``models``; these close with 4000.
* ``call_id`` joins a running session, whatever else is asked for; HTTP 404 if there is none.
* ``intent=transcription`` is a session that only transcribes; it needs no model.

Source: Realtime protocol, connection, authentication and closing; the refusals without a key
and of a model as in a public record of OpenAI's sockets of September 2026.
"""

from __future__ import annotations

import hmac
from collections.abc import Container
from ipaddress import ip_address
from typing import Literal
from urllib.parse import SplitResult, parse_qs, urlsplit

import msgspec

from realtime_bus.transport._handshake import HttpRefusal, UpgradeRequest

from ._config import SessionKind
from ._options import ServerOptions
from ._wire import InvalidRequest

PATH = "/v1/realtime"
TRANSLATIONS_PATH = f"{PATH}/translations"

_LONGEST_SHOWN = 200
"""Characters of what a client has sent, in a message to it."""

TRANSCRIBING = frozenset(
    {
        "gpt-4o-mini-transcribe",
        "gpt-4o-transcribe",
        "gpt-4o-transcribe-diarize",
        "gpt-live-transcribe",
        "gpt-realtime-whisper",
        "gpt-transcribe",
        "whisper-1",
    }
)
"""Models that are no conversation's (Realtime protocol, transcription settings)."""

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
        code = self.refusal.code
        return "invalid_request_error" if code is None else f"invalid_request_error.{code}"


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
    host: str = "127.0.0.1",
    calls: Container[str] = (),
    crowded: bool = False,
) -> Verdict:
    """Judge an upgrade request.

    Args:
        request: What the client asked for.
        options: The server's knobs.
        host: Where the server was bound.
        calls: The ids of the running sessions.
        crowded: Whether there are as many connections as there may be.
    """
    url = _split(request.path)
    if url is None or not request.path.isascii():
        return http_refusal(400, "invalid_url", "The address cannot be read.")
    path = url.path.rstrip("/")
    refusal = _foreign(request, options, host) or _nowhere(path, crowded=crowded)
    if refusal is not None:
        return refusal
    if options.api_key is not None and (bad := _bad_key(request, options.api_key)) is not None:
        if options.bad_key == "http":
            return http_refusal(401, bad.code, bad.message)
        return TurnedAway(bad, 3000)
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    kind = "translation" if path == TRANSLATIONS_PATH else query.get("intent", "realtime")
    return _session(request, query, _KINDS.get((path, kind)), calls, options.models)


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:  # such as brackets that are not closed
        return None


def _nowhere(path: str, *, crowded: bool) -> HttpRefusal | None:
    if path not in (PATH, TRANSLATIONS_PATH):
        return http_refusal(404, "not_found", f"There is nothing at this path; try {PATH}.")
    if crowded:
        return http_refusal(503, "too_many_connections", "The server is full; try again later.")
    return None


# Web pages


def _foreign(request: UpgradeRequest, options: ServerOptions, bound: str) -> HttpRefusal | None:
    """Refuse a web page of another site, and a name that somebody has pointed at loopback."""
    asked = _host_of(f"//{request.headers.get('host', bound)}")
    trusted = {bound.lower(), *filter(None, map(_host_of, options.allowed_origins))}
    if is_loopback(bound) and not is_loopback(asked) and asked not in trusted:
        message = "This server listens on loopback: ask for it by that name, or allow an origin."
        return http_refusal(403, "host_not_allowed", message)
    origin = request.headers.get("origin")
    if origin is None or origin in options.allowed_origins or "*" in options.allowed_origins:
        return None
    page = _host_of(origin)
    of_this_host = page == asked and (page == bound.lower() or _is_address(page))
    if page and (is_loopback(page) or of_this_host):
        return None
    message = "A web page of this origin is not let in; name it in allowed_origins."
    return http_refusal(403, "origin_not_allowed", message)


def _host_of(url: str) -> str:
    """Return the host of an origin, or of ``//host:port``; empty if there is none."""
    split = _split(url)
    return (split.hostname or "") if split is not None else ""


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Tell whether a name or address is this machine's own, whoever resolves it."""
    if _is_address(host):
        return ip_address(host).is_loopback
    return host.lower() == "localhost" or host.lower().endswith(".localhost")


# Keys, and what is asked for


def _bad_key(request: UpgradeRequest, api_key: str) -> InvalidRequest | None:
    """Refuse a wrong key, and none; the code of the latter is null, as at OpenAI."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        given = token.strip()
    else:
        keys = (name for name in request.subprotocols if name.startswith(_KEY_PROTOCOL))
        given = next(keys, "").removeprefix(_KEY_PROTOCOL)
    if not given:
        return InvalidRequest(None, "Missing bearer or basic authentication in header.")
    if hmac.compare_digest(given.encode("utf-8", "surrogateescape"), api_key.encode()):
        return None
    return InvalidRequest("invalid_api_key", "Incorrect API key provided.")


def _session(
    request: UpgradeRequest,
    query: dict[str, str],
    kind: SessionKind | Literal["translation"] | None,
    calls: Container[str],
    models: Container[str] | None,
) -> Verdict:
    if _BETA_HEADER in request.headers.get("openai-beta", "") or (
        _BETA_PROTOCOL in request.subprotocols
    ):
        message = "The Realtime Beta API is no longer supported; drop the OpenAI-Beta header."
        return TurnedAway(InvalidRequest("beta_api_shape_disabled", message), 4000)
    if (call_id := query.get("call_id")) is not None:
        message = f"There is no call with the id '{call_id[:_LONGEST_SHOWN]}'."
        missing = http_refusal(404, "call_id_not_found", message)
        return Joining(call_id) if call_id in calls else missing
    if kind is None:
        message = "Invalid intent; allowed are realtime, transcription."
        return TurnedAway(InvalidRequest("invalid_intent", message, param="intent"), 4000)
    model = query.get("model")
    if model is None and kind != "transcription":
        message = "You must provide a model parameter, such as ?model=gpt-realtime."
        return TurnedAway(InvalidRequest("missing_model", message, param="model"), 4000)
    unknown = model is not None and models is not None and model not in models
    if unknown or model in TRANSCRIBING:
        message = f'Model "{(model or "")[:_LONGEST_SHOWN]}" is not supported in realtime mode.'
        return TurnedAway(InvalidRequest("invalid_model", message, param="model"), 4000)
    return Accepted(kind, model if kind != "transcription" else None)


def http_refusal(status: int, code: str | None, message: str) -> HttpRefusal:
    """Return an HTTP answer with an error in the protocol's shape."""
    error = {"type": "invalid_request_error", "code": code, "message": message, "param": None}
    return HttpRefusal(status=status, body=msgspec.json.encode({"error": error}))
