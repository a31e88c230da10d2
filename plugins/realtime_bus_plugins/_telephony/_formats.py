"""The providers' wire formats, as data: where each one puts things, and what it is sent.

A relative of these is one more `StreamFormat`, in an application as well as here. Each says which
public page it was taken from; what a page does not say is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from realtime_bus import events as ev

Kind: TypeAlias = Literal["start", "media", "mark", "dtmf", "stop", "error"]
"""What a provider's message can mean to us; all others are ignored."""

Path: TypeAlias = tuple[str, ...]
"""Where in a message something is: the keys, from the outside in."""

STREAM = "{stream_id}"
AUDIO = "{audio}"
MARK = "{mark}"
"""What stands in a template for the stream's id, the audio in base64, and a mark's name."""

_SILENCE: dict[type, bytes] = {ev.AudioPCMU: b"\xff", ev.AudioPCMA: b"\xd5"}


class StreamFormat(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider streams a call over a WebSocket.

    Attributes:
        name: Of the provider, for messages.
        kinds: What each word in a message's ``event`` means.
        stream_id: Where the first message has the stream's id; None if there is none.
        call_id: The same of the call's id.
        parameters: Where it has what the application gave the stream to take along: an object,
            or text, be it JSON, ``a=1;b=2`` or ``a=1,b=2``. None: they stand in the message itself,
            beside the rest.
        encoding: Where it names the audio's encoding.
        rate: Where it has samples a second, if that is apart from the encoding.
        encodings: What the encodings are to us, by name and, with ``rate``, by (name, rate);
            the first is taken where a message names none.
        payload: Where audio is, in base64; None where it comes and goes as binary messages.
        track: Where it is said whose audio it is: only ``inbound`` is the caller's.
        chunk: Where audio is numbered, each one more than the one before; None if it is not.
        mark: Where the name of a mark is.
        digit: Where the key is that was pressed.
        complaint: Where the provider says what it finds wrong.
        send_audio: Template of a message with audio; None for binary messages.
        send_mark: Template of a mark, which comes back when what precedes it was played.
        send_clear: Template of what makes the line fall silent and forget what it has.
        frame_ms: The least audio in a message; only the last one may be shorter.
        most_ms: The most audio in a message.
        fills_up: Whether the last one must be filled up with silence, too.
        buffer_ms: How much the provider buffers; None if it does not say, and takes all at once.
    """

    name: str
    kinds: Mapping[str, Kind]
    stream_id: Path | None
    call_id: Path | None
    parameters: Path | None
    encoding: Path
    rate: Path | None = None
    encodings: Mapping[Any, ev.AudioFormat]
    payload: Path | None
    track: Path | None = None
    chunk: Path | None = None
    mark: Path
    digit: Path
    complaint: Path | None = None
    send_audio: Mapping[str, Any] | None
    send_mark: Mapping[str, Any]
    send_clear: Mapping[str, Any]
    frame_ms: int = 20
    most_ms: int = 1000
    fills_up: bool = False
    buffer_ms: int | None = None


TWILIO = StreamFormat(
    name="Twilio",
    kinds={
        "start": "start",
        "media": "media",
        "mark": "mark",
        "dtmf": "dtmf",
        "stop": "stop",
    },
    stream_id=("start", "streamSid"),
    call_id=("start", "callSid"),
    parameters=("start", "customParameters"),
    encoding=("start", "mediaFormat", "encoding"),
    encodings={"audio/x-mulaw": ev.AudioPCMU()},
    payload=("media", "payload"),
    track=("media", "track"),
    chunk=("media", "chunk"),
    mark=("mark", "name"),
    digit=("dtmf", "digit"),
    send_audio={"event": "media", "streamSid": STREAM, "media": {"payload": AUDIO}},
    send_mark={"event": "mark", "streamSid": STREAM, "mark": {"name": MARK}},
    send_clear={"event": "clear", "streamSid": STREAM},
)
"""Twilio Media Streams, bidirectional: ``<Connect><Stream>``.

µ-law at 8 kHz both ways, in messages of any length, which are buffered and played in order. A
``clear`` sends all marks back (twilio.com/docs/voice/media-streams/websocket-messages).
"""

TELNYX = StreamFormat(
    name="Telnyx",
    kinds={
        "start": "start",
        "media": "media",
        "mark": "mark",
        "dtmf": "dtmf",
        "stop": "stop",
        "error": "error",
    },
    stream_id=("stream_id",),
    call_id=("start", "call_control_id"),
    parameters=("start", "custom_parameters"),
    encoding=("start", "media_format", "encoding"),
    encodings={"PCMU": ev.AudioPCMU(), "PCMA": ev.AudioPCMA()},
    payload=("media", "payload"),
    track=("media", "track"),
    chunk=("media", "chunk"),
    mark=("mark", "name"),
    digit=("dtmf", "digit"),
    complaint=("payload",),
    send_audio={"event": "media", "media": {"payload": AUDIO}},
    send_mark={"event": "mark", "mark": {"name": MARK}},
    send_clear={"event": "clear"},
    fills_up=True,
)
"""Telnyx media streaming with ``stream_bidirectional_mode`` ``rtp``.

``stream_bidirectional_codec`` must be the codec in which the call's audio comes, PCMU or PCMA:
the start message does not repeat it. The order of media is not guaranteed; what is sent holds
20 ms to 30 s; ``clear`` sends queued marks back
(developers.telnyx.com/api-reference/websockets/stream-call-media-over-websocket).
L16 is left out: the page does not say in which order its bytes are.
"""

VONAGE = StreamFormat(
    name="Vonage",
    kinds={
        "websocket:connected": "start",
        "websocket:notify": "mark",
        "websocket:dtmf": "dtmf",
    },
    stream_id=None,
    call_id=None,
    parameters=None,
    encoding=("content-type",),
    encodings={
        "audio/l16;rate=16000": ev.AudioPCM(rate=16_000),
        "audio/l16;rate=8000": ev.AudioPCM(rate=8_000),
        "audio/l16;rate=24000": ev.AudioPCM(),
    },
    payload=None,
    mark=("payload", "mark"),
    digit=("digit",),
    send_audio=None,
    send_mark={"action": "notify", "payload": {"mark": MARK}},
    send_clear={"action": "clear"},
    most_ms=20,
    fills_up=True,
    buffer_ms=10_000,
)
"""Vonage Voice API, NCCO ``connect`` to an endpoint of type ``websocket``.

PCM16 in binary messages of exactly 20 ms. At least 1024 messages are buffered, about 20 s: half
of that is used, for marks may count. A notification comes when what precedes it was played; the
call's end is the connection's. The ``headers`` of the endpoint are the parameters, and the only
place for the call's id (developer.vonage.com/en/voice/voice-api/concepts/websockets).
24 kHz passes through untouched; the other rates are resampled. (The page is older than 24 kHz,
which Vonage's own client libraries name.)
"""

PLIVO = StreamFormat(
    name="Plivo",
    kinds={
        "start": "start",
        "media": "media",
        "playedStream": "mark",
        "dtmf": "dtmf",
    },
    stream_id=("start", "streamId"),
    call_id=("start", "callId"),
    parameters=("extra_headers",),
    encoding=("start", "mediaFormat", "encoding"),
    rate=("start", "mediaFormat", "sampleRate"),
    encodings={("audio/x-mulaw", 8000): ev.AudioPCMU()},
    payload=("media", "payload"),
    track=("media", "track"),
    chunk=("media", "chunk"),
    mark=("name",),
    digit=("dtmf", "digit"),
    send_audio={
        "event": "playAudio",
        "media": {"contentType": "audio/x-mulaw", "sampleRate": 8000, "payload": AUDIO},
    },
    send_mark={"event": "checkpoint", "streamId": STREAM, "name": MARK},
    send_clear={"event": "clearAudio", "streamId": STREAM},
)
"""Plivo audio streaming with ``bidirectional="true"``, in µ-law at 8 kHz.

``playedStream`` comes only for what was played; the call's end is the connection's
(plivo.com/docs/voice/audio-streaming/audio-streaming). The parameters come as they were written:
its pages show ``a=1;b=2`` and ``a=1,b=2``, its client library says JSON. L16 is left out: the
pages do not say in which order its bytes are.
"""


def at(message: Any, path: Path | None) -> Any:
    """Return what stands at a place in a message, or None."""
    if path is None:
        return None
    try:
        for key in path:
            message = message[key]
    except (KeyError, TypeError):  # not there, or something else than an object
        return None
    return message


class Template:
    """A message with a blank for a text that needs no escapes, such as base64."""

    def __init__(self, message: Mapping[str, Any], blank: str, stream_id: str) -> None:
        text = msgspec.json.encode(message).decode()
        escaped = msgspec.json.encode(stream_id).decode()
        before, _, behind = text.partition(blank)
        self._before = before.replace(f'"{STREAM}"', escaped)
        self._behind = behind.replace(f'"{STREAM}"', escaped)

    def fill(self, text: str) -> str:
        """Return the message with the text in it."""
        return f"{self._before}{text}{self._behind}"


def silence(length: int, audio_format: ev.AudioFormat) -> bytes:
    """Return so many bytes of silence."""
    return _SILENCE.get(type(audio_format), b"\0") * length
