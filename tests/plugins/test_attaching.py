"""Sinks, microphone and interruption on sessions: one at a time, late, and in which format."""

from __future__ import annotations

from typing import Any

import pytest

from realtime_bus import Bus, Session, UsageError
from realtime_bus import events as ev
from realtime_bus.audio import AcknowledgedSink, AudioPiece, PlayedItem, feed_sink
from realtime_bus.events import AudioFormat, AudioPCM, AudioPCMA, AudioPCMU
from realtime_bus.server import RealtimeServer, Speech
from realtime_bus_plugins.devices import Microphone, Speaker
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.sinks import NullSink, WavSink

from ._wire import Wire, session_on

pytestmark = pytest.mark.anyio


def acknowledged() -> AcknowledgedSink:
    """Return a sink on a line that does nothing."""
    return AcknowledgedSink(send=lambda piece: None, clear=lambda: None)


@pytest.fixture(autouse=True)
def no_devices(streams: object) -> None:
    """Open no sound device."""


@pytest.mark.parametrize(
    ("make", "way"),
    [
        (NullSink, r"plugins=\[sink := NullSink\(\), Interruption\(sink\)\]"),
        (WavSink, r"plugins=\[sink := WavSink\(\), Interruption\(sink\)\]"),
        (Speaker, r"plugins=\[speaker := Speaker\(\), Interruption\(speaker\)\]"),
        (acknowledged, r"plugins=\[sink := AcknowledgedSink\(\.\.\.\), Interruption\(sink\)\]"),
        (Microphone, r"plugins=\[Microphone\(\)\]"),
        (lambda: Interruption(NullSink()), r"\[sink := NullSink\(\), Interruption\(sink\)\]"),
    ],
)
async def test_one_session_at_a_time(make: Any, way: str) -> None:
    """A second call is refused with what to write instead; after the first one it is welcome."""
    plugin = make()
    async with session_on(plugin):
        with pytest.raises(UsageError, match=way):
            async with session_on(plugin):
                pass
    async with session_on(plugin) as (session, wire):
        wire.respond()
        with pytest.raises(UsageError, match=f"this {type(plugin).__name__} is attached"):
            plugin.attach(session)


async def test_two_callers_on_one_bus_do_not_silence_each_other() -> None:
    """The first call plays on when the second is refused."""
    sink = NullSink()
    bus = Bus(plugins=[sink, Interruption(sink)], raise_handler_errors=True)
    first, second = Wire(), Wire()
    first.begin()
    second.begin()
    async with bus.session(first.transport):
        first.respond()
        first.speak(bytes(48_000))
        with pytest.raises(UsageError, match="serves one at a time"):
            async with bus.session(second.transport):
                second.interrupt()
        assert [part.item_id for part in sink.positions()] == ["a"]


async def test_a_refused_attach_leaves_the_others_free() -> None:
    """What a call had taken before it was refused is free for the next one."""
    taken, free = NullSink(), NullSink()
    async with session_on(taken):
        with pytest.raises(UsageError):
            async with session_on(free, taken):
                pass
        async with session_on(free) as (_, wire):
            wire.respond()
            wire.speak(bytes(4800))
            assert free.playing


class Recorder:
    """A sink that notes what it is told."""

    playing = False

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def start(self, audio_format: AudioFormat) -> None:
        """Note the format."""
        self.calls.append(audio_format)

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Note the item."""
        self.calls.append(item_id)

    def flush(self) -> list[PlayedItem]:
        """Note it."""
        return []

    def positions(self) -> list[PlayedItem]:
        """Know nothing."""
        return []


class Feeding:
    """A plugin of the user's own around a sink of the user's own."""

    def __init__(self, sink: Recorder) -> None:
        self.sink = sink

    def attach(self, session: Session) -> None:
        """Feed it."""
        feed_sink(session, self.sink)


async def test_a_sink_of_ones_own_is_fed_by_one_call() -> None:
    """The format comes before the audio, and not again while it stays."""
    sink = Recorder()
    async with session_on(Feeding(sink), output=AudioPCMU()) as (_, wire):
        wire.respond()
        wire.speak(bytes(80))
        wire.speak(bytes(80))
    assert sink.calls == [AudioPCMU(), "a", "a"]


async def test_a_sink_attached_late_takes_the_format_in_force() -> None:
    """A G.711 call that runs already counts as what it is."""
    sink = NullSink(clock=lambda: 1.0)
    async with session_on(output=AudioPCMU()) as (session, wire):
        if session.config is None:
            await session.wait_for(ev.SessionCreated)
        sink.attach(session)
        wire.respond()
        wire.speak(bytes(8 * 4143))
        [part] = sink.positions()
    assert part.written_ms == 4143


def response(response_id: str, audio_format: AudioFormat | None = None) -> ev.ResponseCreated:
    """Return the beginning of a response, with a format of its own perhaps."""
    audio = audio_format and ev.ResponseAudio(output=ev.ResponseAudioOutput(format=audio_format))
    return ev.ResponseCreated(
        response=ev.Response(id=response_id, conversation_id="conv", audio=audio)
    )


def updated(audio_format: AudioFormat) -> ev.SessionUpdated:
    """Return a change of the session's output format."""
    audio = ev.AudioConfig(output=ev.AudioOutputConfig(format=audio_format))
    return ev.SessionUpdated(session=ev.RealtimeSession(audio=audio))


async def test_the_format_belongs_to_the_response() -> None:
    """A running response keeps its format when the session's changes; the next one has the new."""
    sink = Recorder()
    async with session_on(Feeding(sink)) as (_, wire):
        wire.feed(response("r"))
        wire.speak(bytes(480))
        wire.feed(updated(AudioPCMU()))
        wire.speak(bytes(480))
        wire.feed(response("r2"))
        wire.speak(bytes(80), "r2", "b")
        wire.feed(response("r3", AudioPCMA()))
        wire.speak(bytes(80), "r3", "c")
    heard = [AudioPCM(), "a", AudioPCMU(), AudioPCM(), "a", AudioPCMU(), "b", AudioPCMA(), "c"]
    assert sink.calls == heard


@pytest.mark.parametrize("kind", [NullSink, WavSink])
async def test_a_truncation_is_in_the_responses_own_time(kind: type[NullSink | WavSink]) -> None:
    """1000 ms of G.711 in a session of PCM16 are cut within 1000 ms, whichever way it came."""
    now_s = 0.0
    sink = kind(clock=lambda: now_s)
    async with session_on(sink, Interruption(sink)) as (_, wire):
        wire.feed(response("r", AudioPCMU()))
        wire.feed(
            ev.ConversationItemAdded(item=ev.MessageItem(id="a", role="assistant", content=[]))
        )
        wire.speak(bytes(8 * 1000))
        now_s += 0.6
        wire.feed(updated(AudioPCMA()))
        wire.feed(updated(AudioPCM()))
        wire.interrupt()
        [cut] = wire.sent
        assert cut.audio_end_ms == 600
        wire.feed(response("r2"))
        wire.speak(bytes(48 * 500), "r2", "b")
        now_s += 0.2
        wire.feed(updated(AudioPCMU()))
        wire.speak(bytes(48 * 500), "r2", "b")
        wire.interrupt()
        assert wire.sent[-1].audio_end_ms == 200


async def test_a_phone_lines_marks_are_enough() -> None:
    """What the line acknowledged is what the server is told; the line is cleared first."""
    line: list[AudioPiece | str] = []
    sink = AcknowledgedSink(send=line.append, clear=lambda: line.append("clear"))
    async with session_on(sink, Interruption(sink), output=AudioPCMU()) as (_, wire):
        wire.respond()
        wire.speak(bytes(8 * 500))
        marks = [(p.item_id, p.end_ms) for p in line if isinstance(p, AudioPiece)]
        assert marks == [("a", 100), ("a", 200), ("a", 300), ("a", 400), ("a", 500)]
        for item_id, end_ms in marks[:3]:
            sink.on_played(item_id, end_ms)
        wire.interrupt()
        assert line[-1] == "clear"
        for item_id, end_ms in marks[3:]:
            sink.on_played(item_id, end_ms)  # the line returns the marks of what it threw away
        [cut] = wire.sent
        assert (cut.item_id, cut.audio_end_ms) == ("a", 300)


class Talkative:
    """Says two seconds of sound."""

    async def respond(self, request: Any) -> Any:
        """Speak."""
        yield Speech(bytes(48 * 2000), "and so on")


async def test_the_local_server_agrees_on_a_responses_own_format() -> None:
    """A response in G.711, a session in PCM16: the server takes the truncation as it is sent."""
    now_s = 0.0
    sink = NullSink(clock=lambda: now_s)
    interruption = Interruption(sink)
    bus = Bus(plugins=[sink, interruption], raise_handler_errors=True)
    errors: list[Any] = []
    bus.on(ev.Error)(errors.append)
    server = RealtimeServer(Talkative())
    async with server.connect_memory() as transport, bus.session(transport) as session:
        audio = ev.ResponseAudioRequest(output=ev.ResponseAudioOutputRequest(format=AudioPCMU()))
        await session.respond(audio=audio)
        truncated = session.wait_for(ev.ConversationItemTruncated, timeout_s=60)
        now_s += 1.5
        happening = interruption.interrupt(session)
        assert (await truncated).audio_end_ms == 1500
    assert happening is not None
    assert [item.received_ms for item in happening.items] == [2000]
    assert errors == []
