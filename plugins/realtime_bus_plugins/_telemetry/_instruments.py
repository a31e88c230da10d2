"""The instruments of one meter provider, and the figures of all sessions that it measures.

Rules:

1. There is one set of instruments for each provider, whoever asks: a second observable one of the
   same name would never be observed.
2. What sessions count anyway is read when somebody collects, in a thread of the exporter's. That
   reads, and changes nothing of a session.
3. A counter never falls: what a session has counted since it was last looked at is added. One that
   has ended is looked at until its mailboxes are empty, and then forgotten.
4. A server cannot make up label values without end, nor a model: types that no protocol has count
   together, and so do codes, models and tools beyond the first 256 of each.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache, partial
from threading import Lock
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from realtime_bus import HandlerStatistics, Session
from realtime_bus import events as ev

from ._names import METRICS, OTHER, SCHEMA_URL, SCOPE

_Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]  # a metric, and its attributes
_Figures = defaultdict[_Key, float]
_HEAD = b'{"type":"'
_MAX_HEAD_BYTES = 140
_CHOSEN = ("error.type", "gen_ai.tool.name", "gen_ai.request.model", "gen_ai.response.model")
_MOST_VALUES, _LONGEST_VALUE = 256, 64  # of what a server or a model chooses
_TYPE = re.compile(rb'"type"\s*:\s*"([^"\\]{0,128})"')
_KNOWN = frozenset(
    name
    for protocol in ev.PROTOCOLS.values()
    for names in (protocol.server, protocol.client, protocol.old_names)
    for name in names
)


class EventCounts(dict[bytes, int]):
    """Frames by how they begin, up to the end of their type."""

    def see(self, frame: bytes) -> None:
        """Count a frame."""
        end = frame.find(b'"', len(_HEAD), _MAX_HEAD_BYTES)
        try:
            self[frame[:end]] += 1
        except KeyError:
            head = _HEAD + type_of(frame).encode()
            self[head] = self.get(head, 0) + 1


def type_of(frame: bytes) -> str:
    """Return the type of a frame, if a protocol has it."""
    found = _TYPE.search(frame, 0, 4 * _MAX_HEAD_BYTES)
    name = found[1].decode(errors="replace") if found is not None else ""
    return name if name in _KNOWN else OTHER


class Measured:
    """A session that is measured.

    Attributes:
        session: Which.
        received: Frames from the server.
        sent: Frames to it.
        ended: Whether it was closed.
        seen: What was counted when it was last looked at.
    """

    def __init__(self, session: Session) -> None:
        self.session: Session = session
        self.received: EventCounts = EventCounts()
        self.sent: EventCounts = EventCounts()
        self.ended: bool = False
        self.seen: dict[_Key, float] = {}


class Instruments:
    """What is measured with one provider."""

    def __init__(self, meter: Meter) -> None:
        self._measured: dict[Measured, None] = {}
        self._counted = _Figures(int)
        self._now = _Figures(int)
        self._told: set[str] = set()  # of this collection
        self._chosen: dict[str, set[str]] = {name: set() for name in _CHOSEN}
        self._lock = Lock()
        self._record: dict[str, Callable[..., None]] = {}
        for metric in METRICS:
            make: Callable[..., Any] = getattr(meter, f"create_{metric.instrument}")
            options: dict[str, Any] = {"unit": metric.unit, "description": metric.description}
            if metric.instrument.startswith("observable"):
                make(metric.name, callbacks=[partial(self._observe, metric.name)], **options)
            elif metric.instrument == "histogram":
                made = make(
                    metric.name, explicit_bucket_boundaries_advisory=metric.buckets, **options
                )
                self._record[metric.name] = made.record
            else:
                self._record[metric.name] = make(metric.name, **options).add

    def record(
        self, name: str, value: float | None, attributes: Mapping[str, Any] | None = None
    ) -> None:
        """Add to a counter, or to a histogram; what is not known is not measured."""
        if value is not None:
            found = {key: self._bounded(key, each) for key, each in (attributes or {}).items()}
            self._record[name](value, attributes=found)

    def _bounded(self, name: str, value: Any) -> Any:
        known = self._chosen.get(name)
        if known is None or (value := str(value)) in known:
            return value
        if len(known) >= _MOST_VALUES or len(value) > _LONGEST_VALUE:
            return OTHER
        known.add(value)
        return value

    def measure(self, session: Session) -> Measured:
        """Measure a session that is about to begin."""
        measured = Measured(session)
        session.tap(received=measured.received.see, sent=measured.sent.see)
        self._measured[measured] = None
        return measured

    def has_ended(self, measured: Measured) -> None:
        """Note that a session was closed."""
        measured.ended = True
        if self._lock.acquire(blocking=False):  # else whoever collects looks at it
            try:
                for each in [each for each in list(self._measured) if each.ended]:
                    self._look_at(each, _Figures(int))
            finally:
                self._lock.release()

    # --- when somebody collects --------------------------------------------------------------

    def _observe(self, name: str, _options: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            if name in self._told or not self._told:  # a new collection
                self._told.clear()
                now = _Figures(int, {_SESSIONS: 0})
                for measured in list(self._measured):
                    self._look_at(measured, now)
                self._now = now
            self._told.add(name)
            return [
                Observation(value, dict(attributes))
                for figures in (self._counted, self._now)
                for (metric, attributes), value in figures.items()
                if metric == name
            ]

    def _look_at(self, measured: Measured, now: _Figures) -> None:
        statistics = measured.session.statistics()
        figures: dict[_Key, float] = {
            _IO["received"]: statistics.bytes_received,
            _IO["sent"]: statistics.bytes_sent,
        }
        for direction, counts in (("received", measured.received), ("sent", measured.sent)):
            for head, count in dict(counts).items():  # a copy: it goes on counting
                figures[_event(direction, head)] = count
        for (_, _, kind), count in statistics.drift.items():
            key: _Key = ("realtime_bus.drift", (("realtime_bus.drift.kind", kind),))
            figures[key] = figures.get(key, 0) + count
        handlers: dict[str, HandlerStatistics] = {}
        for handler in statistics.handlers:
            if (same := handlers.setdefault(handler.handler, handler)) is not handler:
                same.add(handler)
        for name, handler in handlers.items():
            calls, total, failures, drops, pending = _of_handler(name)
            figures[calls], figures[total] = handler.delivered, handler.total_s
            figures[failures], figures[drops] = handler.failed, handler.dropped
            now[pending] += handler.pending
        before = measured.seen
        for key, value in figures.items():
            self._counted[key] += max(0, value - before.get(key, 0))
        measured.seen = figures
        if not measured.ended:
            now[_SESSIONS] += 1
        elif not any(handler.pending for handler in handlers.values()):
            self._measured.pop(measured, None)


_SESSIONS: _Key = ("realtime_bus.sessions", ())
_IO: dict[str, _Key] = {
    direction: ("realtime_bus.io", (("realtime_bus.direction", direction),))
    for direction in ("received", "sent")
}


@cache
def _event(direction: str, head: bytes) -> _Key:
    name = head[len(_HEAD) :].decode()
    attributes = ("realtime_bus.event.type", name), ("realtime_bus.direction", direction)
    return "realtime_bus.events", attributes


@lru_cache(maxsize=1024)
def _of_handler(name: str) -> tuple[_Key, ...]:
    figures = "calls", "time", "failures", "drops", "pending"
    attributes = (("realtime_bus.handler", name),)
    return tuple((f"realtime_bus.handler.{figure}", attributes) for figure in figures)


_OF_PROVIDER: WeakKeyDictionary[MeterProvider, Instruments | None] = WeakKeyDictionary()


def instruments_of(provider: MeterProvider | None, version: str) -> Instruments | None:
    """Return the instruments of a provider, or of the global one; None if nobody measures.

    The API has no way to ask that: its own classes, in force where no SDK is or where it was
    switched off, do nothing.
    """
    provider = provider or metrics.get_meter_provider()
    if _is_idle(provider):
        return None
    if provider not in _OF_PROVIDER:
        meter = provider.get_meter(SCOPE, version, SCHEMA_URL)
        _OF_PROVIDER[provider] = None if _is_idle(meter) else Instruments(meter)
    return _OF_PROVIDER[provider]


def _is_idle(thing: object) -> bool:
    return type(thing).__module__.startswith(metrics.__name__)
