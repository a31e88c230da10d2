"""One log line an event, in both directions, with ids and sizes; never audio, never secrets.

::

    bus = Bus(plugins=[EventLog(render="json", level="debug")])

The rules:

1. A line holds only what the tables below list: fields that are ids, numbers, states and sizes.
   Of an application's own events it shows numbers, flags and ids.
2. Texts (transcripts, instructions, arguments, whatever an application's event holds) appear only
   with ``texts=True``. What an error says is shown without, too. All is shortened.
3. Audio, tools' credentials and whole frames never appear. What looks like a key, a token or a
   password is blotted out wherever it stands; of an address's query, only the model is shown.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal, TextIO, TypeAlias, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import structlog

from realtime_bus import Session, UsageError
from realtime_bus import events as ev
from realtime_bus.audio import bytes_to_ms
from realtime_bus_plugins._blotted import blotted
from realtime_bus_plugins._playback import PlaybackInterrupted

__all__ = ["EventLog"]

_Level: TypeAlias = Literal["debug", "info", "warning", "error"]
_Fields: TypeAlias = dict[str, Any]
_Way: TypeAlias = Literal["in", "out", "bus", "app"]

_NUMBERS: dict[_Level, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_LEVELS: dict[str, _Level] = {
    "input_audio_buffer.append": "debug",
    "conversation.item.input_audio_transcription.segment": "debug",
    "conversation.item.input_audio_transcription.failed": "warning",
    "mcp_list_tools.failed": "warning",
    "response.mcp_call.failed": "warning",
    "error": "warning",
    "bus.handler_failed": "error",
    "bus.invalid_frame": "warning",
    "bus.unknown_event": "warning",
    "bus.drift": "warning",
    "bus.overflow": "warning",
}
"""Levels by wire name; deltas are debug, everything else is info."""

_LEVELS_BY_CODE: dict[str, _Level] = {
    "response_cancel_not_active": "debug",  # a cancel that lost a race: nothing went wrong
    "session_expired": "error",
    "invalid_api_key": "error",
    "insufficient_quota": "error",
    "billing_hard_limit_reached": "error",
    "account_deactivated": "error",
}
"""Levels of ``error`` events whose code says more: those that end a session are errors."""

_LEVELS_BY_STATUS: dict[str, _Level] = {"failed": "warning", "incomplete": "warning"}
"""Levels of ``response.done`` by the response's status."""

_LEVEL_VARIES = (ev.Error, ev.ResponseDone)

_INCOMING = tuple(cls for protocol in ev.PROTOCOLS.values() for cls in protocol.server.values())

_PLAIN = (
    "event_id", "response_id", "item_id", "previous_item_id", "call_id", "name", "output_index",
    "content_index", "audio_start_ms", "audio_end_ms", "elapsed_ms", "received_at", "event_type",
    "path", "kind", "handler", "policy", "dropped", "code", "reason", "clean",
    "session_id", "latency_s",
)  # fmt: skip
"""Fields of events that may be shown as they are, if they are text, numbers or flags."""

_NESTED: dict[str, tuple[str, ...]] = {
    "session": ("id", "type", "model", "expires_at"),
    "conversation": ("id",),
    "item": ("id", "type", "role", "status", "call_id", "name"),
    "part": ("type",),
    "response": ("id", "status", "conversation_id"),
    "error": ("type", "code", "param", "event_id"),
}
"""Objects in events, and which of their fields may be shown, as ``item_id``, ``item_type`` …"""

_USAGE = ("total_tokens", "input_tokens", "output_tokens")
_TEXTS = ("delta", "transcript", "text", "arguments")
_AUDIO: dict[str, str] = {
    "response.output_audio.delta": "delta",
    "session.output_audio.delta": "delta",
}
"""Incoming events with audio: the field that holds it."""

_SHORT = 80
_SCALARS = (str, int, float, bool)
_OURS = frozenset({"event", "level", "timestamp", "way", "session"})  # what every line has
_QUERY = frozenset({"model", "intent", "deployment", "api-version"})


class EventLog:
    """Log one line for every event that a session receives, sends, or has to tell.

    Deltas and appended audio are at debug, errors at warning or error, everything else at info.
    A line that its level hides costs no more than finding that out.

    Args:
        logger: A structlog logger to write to; None to make one for ``render`` and ``file``.
        render: One JSON object a line, or something for people. Only without ``logger``.
        level: The lowest level that is written. Only without ``logger``, which has its own.
        texts: Whether to show transcripts, instructions and arguments, shortened.
        file: Where to write, standard error by default. Only without ``logger``.

    Raises:
        UsageError: There is no such rendering or level, or the logger does not filter.
    """

    def __init__(
        self,
        logger: structlog.typing.FilteringBoundLogger | None = None,
        *,
        render: Literal["json", "console"] = "console",
        level: _Level = "info",
        texts: bool = False,
        file: TextIO | None = None,
    ) -> None:
        if logger is not None and not hasattr(logger, "is_enabled_for"):
            raise UsageError(
                f"logger={logger!r} has no is_enabled_for; give a structlog logger whose "
                "wrapper class is structlog.make_filtering_bound_logger(level)"
            )
        self._logger = logger or _make_logger(render, level, file or sys.stderr)
        self._texts = texts

    def attach(self, session: Session) -> None:
        """Log a session. Called by the bus."""

        def received(event: ev.Event, session: Session) -> None:
            self._log(event, session, "in")

        def told(event: ev.BusEvent, session: Session) -> None:
            self._log(event, session, "app" if isinstance(event, ev.AppEvent) else "bus")

        def sent(event: ev.ClientEvent, session: Session) -> ev.ClientEvent:
            self._log(event, session, "out")
            return event

        # a frame that nobody listens to is not even decoded: do not listen to what is not shown
        if shown := [cls for cls in _INCOMING if self._shown(cls)]:
            session.on(*shown, narrowed=True)(received)
        session.on(ev.BusEvent)(told)
        session.intercept_outgoing(ev.ClientEvent, sent)

    def _shown(self, cls: type[ev.Event]) -> bool:
        """Tell whether any event of a class could be written."""
        return cls in _LEVEL_VARIES or self._logger.is_enabled_for(_NUMBERS[_level_of(_name(cls))])

    def _log(self, event: ev.Event, session: Session, way: _Way) -> None:
        level = _NUMBERS[_level(event)]
        if not self._logger.is_enabled_for(level):
            return
        fields: _Fields = {"way": way, "session": session.id}
        if isinstance(event, ev.AppEvent):
            fields.update(_of_application(event, texts=self._texts))
        else:
            fields.update(_plain(event), **_nested(event), **_sizes(event, session))
            for describe in _SPECIAL.get(type(event), ()):
                fields.update(describe(event))
            if self._texts:
                fields.update(_text(event))
        shown = {name: value for name, value in fields.items() if value not in (None, "")}
        self._logger.log(level, event.type, **shown)


def _make_logger(render: str, level: _Level, file: TextIO) -> structlog.typing.FilteringBoundLogger:
    """Return a logger that does not depend on how the application configured structlog."""
    renderers: dict[str, Callable[[], structlog.typing.Processor]] = {
        "json": lambda: structlog.processors.JSONRenderer(default=repr),
        "console": lambda: structlog.dev.ConsoleRenderer(colors=file.isatty()),
    }
    if render not in renderers:
        raise UsageError(f"render={render!r} must be 'json' or 'console'")
    if level not in _NUMBERS:
        raise UsageError(f"level={level!r} must be one of {', '.join(map(repr, _NUMBERS))}")
    logger = structlog.wrap_logger(
        structlog.WriteLogger(file),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            renderers[render](),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_NUMBERS[level]),
    )
    # bound at once: a lazy proxy would look the level up anew for every line
    return cast("structlog.typing.FilteringBoundLogger", logger.bind())


def _level(event: ev.Event) -> _Level:
    if isinstance(event, ev.Error):
        return _LEVELS_BY_CODE.get(getattr(event.error, "code", None) or "", "warning")
    if isinstance(event, ev.ResponseDone):
        return _LEVELS_BY_STATUS.get(getattr(event.response, "status", None) or "", "info")
    return _level_of(event.type)


def _level_of(name: str) -> _Level:
    return _LEVELS.get(name, "debug" if name.endswith(".delta") else "info")


def _name(cls: type[ev.Event]) -> str:
    return str(cls.__struct_config__.tag)


def _plain(event: ev.Event) -> _Fields:
    found = {name: getattr(event, name, None) for name in _PLAIN}
    return {name: _safe(value) for name, value in found.items() if isinstance(value, _SCALARS)}


def _of_application(event: ev.AppEvent, *, texts: bool) -> _Fields:
    found = {name: getattr(event, name) for name in event.__struct_fields__}
    return {
        f"{name}_" if name in _OURS else name: _safe(value)
        for name, value in found.items()
        if isinstance(value, _SCALARS)
        and (texts or not isinstance(value, str) or name.endswith("_id"))
    }


def _nested(event: ev.Event) -> _Fields:
    fields: _Fields = {}
    for holder, names in _NESTED.items():
        thing = getattr(event, holder, None)
        for name in names:
            value = getattr(thing, name, None)
            if isinstance(value, _SCALARS):
                fields[f"{holder}_{name}"] = _safe(value)
    return fields


def _sizes(event: ev.Event, session: Session) -> _Fields:
    """Return how large the frame is, and how much audio it holds."""
    if isinstance(event, ev.InputAudioBufferAppend):
        length = len(event.audio)
        return {
            "audio_bytes": length,
            "audio_ms": bytes_to_ms(length, session.settings.input_format),
        }
    if isinstance(event, ev.UnknownEvent | ev.InvalidFrame):
        return {"frame_bytes": len(event.frame)}
    if not isinstance(event, ev.ServerEvent):
        return {}
    fields: _Fields = {"frame_bytes": len(session.frame)}
    if field := _AUDIO.get(event.type):
        length = _base64_bytes(session.frame, field)
        audio_format = session.conversation.audio_format_of(getattr(event, "response_id", None))
        fields |= {"audio_bytes": length, "audio_ms": bytes_to_ms(length, audio_format)}
    return fields


def _base64_bytes(frame: bytes, field: str) -> int:
    """Return how many bytes a frame's base64 field stands for, without decoding it."""
    key = b'"%s"' % field.encode()
    start = frame.find(b'"', frame.find(b":", frame.find(key) + len(key))) + 1
    end = frame.find(b'"', start)
    padding = frame.count(b"=", max(start, end - 2), end)
    return max(0, (end - start) * 3 // 4 - padding)


def _text(event: ev.Event) -> _Fields:
    found = {name: getattr(event, name, None) for name in _TEXTS if event.type not in _AUDIO}
    found["instructions"] = getattr(getattr(event, "session", None), "instructions", None)
    return {name: _safe(value) for name, value in found.items() if isinstance(value, str)}


def _safe(value: str | float) -> str | float:
    """Shorten a text, and blot out whatever looks like a key."""
    if not isinstance(value, str):
        return value
    return blotted(value, _SHORT)


def _usage(event: ev.ResponseDone) -> _Fields:
    usage = getattr(event.response, "usage", None)
    counts = {name: getattr(usage, name, None) for name in _USAGE}
    output: list[Any] | None = getattr(event.response, "output", None)
    return {**counts, "items": None if output is None else len(output)}


def _details(event: ev.ResponseDone) -> _Fields:
    details = getattr(event.response, "status_details", None)
    error = getattr(details, "error", None)
    reason, code = getattr(details, "reason", None), getattr(error, "code", None)
    return {"status_reason": reason, "error": code}


def _address(event: ev.Connected) -> _Fields:
    parts = urlsplit(event.url)
    query = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name in _QUERY])
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query, fragment="")
    return {"url": _safe(plain.geturl())}


def _message(event: ev.Error) -> _Fields:
    message = getattr(event.error, "message", None)
    return {"message": _safe(message) if isinstance(message, str) else None}


def _failure(event: ev.HandlerFailed) -> _Fields:
    return {"error": _safe(repr(event.error))}


def _interrupted(event: PlaybackInterrupted) -> _Fields:
    return {
        "items": [item.item_id for item in event.items],
        "actions": [item.action for item in event.items],
        "played_ms": [item.played_ms for item in event.items],
        "discarded_ms": [item.discarded_ms for item in event.items],
    }


_SPECIAL: dict[type[ev.Event], tuple[Callable[[Any], _Fields], ...]] = {
    ev.Connected: (_address,),
    ev.ResponseDone: (_usage, _details),
    ev.Error: (_message,),
    ev.HandlerFailed: (_failure,),
    PlaybackInterrupted: (_interrupted,),
}
"""What some events say beside the tables above."""
