"""What of a frame, and of what the bus told, may stand in a recording. Pure.

Rules:

1. Keys never stand in it: those that are in use, wherever they stand; what stands in fields whose
   names sound secret, and in the headers of tools; what looks like a provider's key.
2. Frames that are audio or a piece of text, nearly all that there are, hold no keys and are not
   searched (`PLAIN`): that would cost more than all the rest. A small one is searched for the
   keys in use all the same.
3. Without audio, ``""`` is left of each piece of it. Without texts, an ``x`` is left of each
   character of every string that is not known to be a name, an id, a state or a setting: what
   an unknown event holds is left out, too. Images count as texts.
4. What is left out is so for good; all else stays as it came, byte for byte. Only a frame that
   texts were taken out of is written anew.
5. A frame that is no JSON cannot be looked into: it stays as it came, without the keys in use, and
   is left out where texts or audio are.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple, cast

import msgspec
from pybase64 import b64decode

from realtime_bus._secrets import in_use, redact

from ._format import Told

PLAIN_AT: Final = slice(9, 26)
"""Where in a frame that begins with its type a part of its name stands that tells enough."""

PLAIN: Final = frozenset(
    name[:17]
    for name in (
        b"response.output_audio",
        b"response.output_text",
        b"response.audio.delta",
        b"response.audio_transcript",
        b"response.text.delta",
        b"response.function_call_arguments",
        b"input_audio_buffer",
        b"session.input_audio_buffer",
        b"session.input_transcript",
        b"session.output_audio",
        b"session.output_transcript",
    )
)
"""How the names of events begin that hold audio or pieces of text, and nothing else of interest."""

APPEND: Final = b'{"type":"input_audio_buffer.append","audio":"'
"""How what we send from a microphone begins, and then holds nothing but base64."""

SMALL_BYTES: Final = 2048
_LINE_BREAK: Final = 10  # as a number it is found sooner
_DELTA_KEY: Final = b'"delta":"'
_KEY_BYTES: Final = len(_DELTA_KEY)  # that of "audio" is as long
_STRING = rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"'
_AUDIO = re.compile(rb'("audio"\s*+:\s*+)' + _STRING, re.DOTALL)
_DELTA = re.compile(rb'("(?:audio|delta)"\s*+:\s*+)' + _STRING, re.DOTALL)
_AUDIO_DELTAS: Final = frozenset(
    {"response.output_audio.delta", "response.audio.delta", "session.output_audio.delta"}
)
_AUDIO_DELTA_NAMES: Final = frozenset(name.encode() for name in _AUDIO_DELTAS)
_COMPACT: Final = b'{"type":"'
_LONG = re.compile(rb'"(?:delta|audio)"\s*+:\s*+"[A-Za-z0-9+/=]{256,}+"|"[^"\\]{4096,}+"')
_HINTS: Final = (
    b"authorization", b"key", b"token", b"secret", b"cookie", b"passw", b"headers", b"bearer",
    b"k-", b"k_", b"xai", b"eyj",
)  # fmt: skip
"""What stands in all that `_SOUNDS_SECRET` finds: looked for in a hundredth of the time."""
_SOUNDS_SECRET = re.compile(
    rb"(?i)authorization|key\b|token\b|secret|cookie|passw|headers|bearer|\b(?:[sep]k|xai|gsk)[-_]|eyJ"
)
_FIELD = re.compile(rb'("([\w.-]{1,64}+)"\s*+:\s*+)' + _STRING, re.DOTALL)
_HEADERS = re.compile(rb'"(?:headers|client_secret)"\s*+:\s*+\{[^{}]*+\}')
_SECRET_NAME = re.compile(
    rb"(?i)(?:[\w.-]*[_-])?(?:authorization|(?:api|access|secret|private|subscription)[-_]?key"
    rb"|token|secret|cookie|passw(?:or)?d)"
)
_LOOKS_SECRET = re.compile(
    rb"\b(?:sk|ek|pk|xai|gsk)[-_][\w-]{12,}+|\bBearer\s++[\w.~+/=-]{8,}+|\beyJ[\w-]++\.[\w.-]++"
)
_HIDDEN = b"***"
_DASH: Final = ord("-")

_KEPT: Final = frozenset((
    "type", "object", "id", "role", "status", "model", "voice", "format", "code", "param",
    "reason", "event_type", "kind", "language", "detail", "phase", "conversation", "tool_choice",
    "truncation", "tracing", "effort", "eagerness", "server_label", "output_modalities",
    "modalities", "include", "max_output_tokens", "max_response_output_tokens",
    "input_audio_format", "output_audio_format", "require_approval", "name", "message", "handler",
    "path", "policy", "cause", "url", "what", "why", "action", "at", "version", "audio",
    "generation", "realtime_bus_request", "event", "restored", "resent",
))  # fmt: skip
"""Fields whose strings say how things stand, not what was said. So do those that end in ``_id``."""
_TOLD: Final = _KEPT | {"origin", "outcome", "rule", "response_ids"}
"""The same, of what the bus and plugins tell."""


class Cut(NamedTuple):
    """A frame as it may stand in a recording.

    Attributes:
        frame: Its bytes; without line breaks if it is JSON.
        is_json: Whether it is.
        audio_bytes: Length of the audio that was left out, or None if none was.
    """

    frame: bytes
    is_json: bool
    audio_bytes: int | None = None


class Redaction:
    """What is left out of one recording.

    Args:
        audio: Whether audio is kept.
        texts: Whether texts are kept.
    """

    def __init__(self, *, audio: bool = True, texts: bool = True) -> None:
        self.audio: bool = audio
        self.texts: bool = texts
        self._words: list[str] = []
        self._marks: list[int | bytes] = []

    def is_plain(self, frame: bytes) -> bool:
        """Tell whether a frame holds audio or a piece of text, in one line, and no key."""
        return (
            frame[PLAIN_AT] in PLAIN
            and _LINE_BREAK not in frame
            and (len(frame) >= SMALL_BYTES or not self._has_mark(frame))
        )

    def cut(self, frame: bytes) -> Cut:
        """Return a frame as it may stand in a recording."""
        start, end = _audio_at(frame)
        if self.audio and start and not _is_base64(frame[start:end]):
            start = 0  # odd audio: the long way
        if not start:
            return self._cut(frame)
        if self.audio and start == len(APPEND) and frame[end:] == b'"}':  # there is nothing else
            return Cut(frame, is_json=True)
        rest = self._cut(frame[:start] + frame[end:])  # what stands around it is short
        if not rest.is_json:
            return self._cut(frame)
        if not self.audio:
            audio_bytes = decoded_bytes(frame, start, end) + (rest.audio_bytes or 0)
            return rest._replace(audio_bytes=audio_bytes or None)
        at = rest.frame.find(frame[start - _KEY_BYTES : start] + b'"') + _KEY_BYTES
        if at < _KEY_BYTES:
            return self._cut(frame)
        return rest._replace(frame=rest.frame[:at] + frame[start:end] + rest.frame[at:])

    def _cut(self, frame: bytes) -> Cut:
        audio_bytes: int | None = None
        is_plain = self.is_plain(frame)
        if not self.audio:
            frame, audio_bytes = without_audio(frame)
        if not is_plain:
            frame = without_keys(frame)
        try:
            if self.texts:
                _DECODE_RAW(frame)
            else:
                frame = _ENCODE(_texts_left(_DECODE(frame)))
        except (ValueError, RecursionError):  # no JSON, nested too deeply, or numbers that are none
            if self.texts and self.audio:
                return Cut(frame, is_json=False)
            return Cut(b"", is_json=False)
        if b"\n" in frame or b"\r" in frame:
            frame = frame.replace(b"\n", b" ").replace(b"\r", b" ")
        return Cut(frame, is_json=True, audio_bytes=audio_bytes)

    def _has_mark(self, frame: bytes) -> bool:
        """Tell whether there is what plain frames with a key in use hold: a dash, or its beginning.

        A single byte is found in a sixth of the time, and few plain frames have a dash.
        """
        words = in_use()
        if words is not self._words:
            self._words = words
            self._marks = [*{_DASH if "-" in word else word[:4].encode() for word in words}]
        for mark in self._marks:  # noqa: SIM110  # a generator takes three times as long
            if mark in frame:
                return True
        return False

    def told(self, line: Told) -> Told:
        """Return what the bus told as it may stand in a recording."""
        event = cast("dict[str, Any]", _without_keys_in(line.event))
        if not self.texts:  # of an application's event only ids are known not to say anything
            kept = frozenset[str]() if line.application else _TOLD
            event = cast("dict[str, Any]", without_texts(event, kept=kept))
        return msgspec.structs.replace(line, event=event)


_DECODE_RAW: Final = msgspec.json.Decoder(msgspec.Raw).decode
_DECODE: Final = msgspec.json.Decoder().decode
_ENCODE: Final = msgspec.json.Encoder().encode


# Keys


def without_keys(frame: bytes) -> bytes:
    """Return a frame without keys; what is no JSON, too."""
    for word in in_use():
        if (secret := word.encode()) in frame:
            frame = frame.replace(secret, _HIDDEN)
    if len(frame) <= 512:
        return _without_secret_fields(frame)
    # audio, and long strings without any escape: what stands between them is looked at
    parts: list[bytes] = []
    done = 0
    for long in _LONG.finditer(frame):
        parts += (_without_secret_fields(frame[done : long.start()]), long[0])
        done = long.end()
    parts.append(_without_secret_fields(frame[done:]))
    return b"".join(parts)


def _without_secret_fields(text: bytes) -> bytes:
    low = text.lower()
    if not any(hint in low for hint in _HINTS) or _SOUNDS_SECRET.search(text) is None:
        return text
    has_logprobs = b'"logprobs"' in text  # whose tokens are words

    def hide(found: re.Match[bytes]) -> bytes:
        secret = found[3] and _SECRET_NAME.fullmatch(found[2])
        if not secret or (has_logprobs and found[2] == b"token"):
            return found[0]
        return found[1] + b'"***"'

    text = _HEADERS.sub(lambda found: _FIELD.sub(rb'\1"***"', found[0]), text)
    return _LOOKS_SECRET.sub(_HIDDEN, _FIELD.sub(hide, text))


def _without_keys_in(value: object, name: str = "") -> object:
    if isinstance(value, str):
        if value and _SECRET_NAME.fullmatch(name.encode()):
            return "***"
        return _LOOKS_SECRET.sub(_HIDDEN, redact(value).encode()).decode()
    if isinstance(value, list):
        return [_without_keys_in(each, name) for each in cast("list[object]", value)]
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)
        return {key: _without_keys_in(each, key) for key, each in fields.items()}
    return value


# Audio


def _has_audio_delta(frame: bytes) -> bool:
    """Tell whether a frame's ``delta`` is audio, however the frame is written."""
    if frame.startswith(_COMPACT) and (end := frame.find(b'"', len(_COMPACT))) > 0:
        name = frame[len(_COMPACT) : end]
        if b"\\" not in name:
            return name in _AUDIO_DELTA_NAMES
    try:
        return _is_audio_delta(_DECODE(frame))
    except (ValueError, RecursionError):
        return False


def _is_audio_delta(value: Any) -> bool:
    return isinstance(value, dict) and cast("Any", value).get("type") in _AUDIO_DELTAS


def _audio_at(frame: bytes) -> tuple[int, int]:
    """Return where a compact frame's piece of audio begins and ends; 0 if none is found."""
    if frame.startswith(APPEND):
        start = len(APPEND)
    elif frame[len(_COMPACT) : frame.find(b'"', len(_COMPACT), 140)] in _AUDIO_DELTA_NAMES:
        start = frame.find(_DELTA_KEY) + _KEY_BYTES
    else:
        return 0, 0
    end = frame.find(b'"', start)
    if start < _KEY_BYTES or end <= start or frame.find(b"\\", start, end) >= 0:
        return 0, 0
    return start, end


def _is_base64(text: bytes) -> bool:
    try:
        b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def decoded_bytes(text: bytes, start: int, end: int) -> int:
    """Return the length of what stands there in base64."""
    return (end - start) * 3 // 4 - text.count(b"=", max(start, end - 2), end)


def without_audio(frame: bytes) -> tuple[bytes, int | None]:
    """Return a frame with ``""`` for its audio, and the audio's length if there was any."""
    is_delta = b'"delta"' in frame and _has_audio_delta(frame)
    if not is_delta and b'"audio"' not in frame:
        return frame, None
    lengths: list[int] = []

    def leave(found: re.Match[bytes]) -> bytes:
        lengths.append(decoded_bytes(found[2], 0, len(found[2])))
        return found[1] + b'""'

    frame = (_DELTA if is_delta else _AUDIO).sub(leave, frame)
    return frame, sum(lengths) if any(lengths) else None


# Texts


def _texts_left(value: Any) -> object:
    """Return a frame's data without texts; audio stays, where it is not left out already."""
    left = cast("Any", without_texts(value))
    if _is_audio_delta(value) and isinstance(value.get("delta"), str):
        left["delta"] = value["delta"]
    return left


def without_texts(value: object, name: str = "", *, kept: frozenset[str] = _KEPT) -> object:
    """Return data with an ``x`` for each character of its texts."""
    if isinstance(value, str):
        return value if name in kept or name.endswith("_id") else "x" * len(value)
    if isinstance(value, list):
        return [without_texts(each, name, kept=kept) for each in cast("list[object]", value)]
    if isinstance(value, dict):
        if name == "logprobs":
            return {}
        fields = cast("dict[str, object]", value)
        return {key: without_texts(each, key, kept=kept) for key, each in fields.items()}
    return value
