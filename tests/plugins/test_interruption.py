"""Barge-in in a session: what falls silent, what is sent, and what handlers see."""

from __future__ import annotations

import itertools
import time
from typing import Any

import anyio
import pytest

from realtime_bus import Bus, Session, UsageError
from realtime_bus import events as ev
from realtime_bus.audio import PlayedItem
from realtime_bus.events import AudioFormat, AudioPCMA, AudioPCMU
from realtime_bus_plugins.interruption import Interruption, PlaybackInterrupted, PlaybackStarted
from realtime_bus_plugins.sinks import NullSink, WavSink

from ._wire import Clock, Wire, session_on

pytestmark = pytest.mark.anyio

SECOND = bytes(48_000)


@pytest.fixture
def clock() -> Clock:
    """Return a clock that the test moves."""
    return Clock()


@pytest.fixture
def sink(clock: Clock) -> NullSink:
    """Return a sink on that clock."""
    return NullSink(clock=clock)


def truncate(item_id: str, audio_end_ms: int) -> ev.ConversationItemTruncate:
    """Return the event that cuts an item."""
    return ev.ConversationItemTruncate(item_id=item_id, content_index=0, audio_end_ms=audio_end_ms)


async def test_speech_silences_the_sink_and_truncates(sink: NullSink, clock: Clock) -> None:
    """When speech_started has been delivered, the sink is silent and the truncation sent."""
    async with session_on(sink, Interruption(sink)) as (_, wire):
        wire.respond()
        wire.speak(SECOND)
        clock.now_s += 0.25
        assert sink.playing
        wire.interrupt()
        assert not sink.playing
        assert wire.sent == [truncate("a", 250)]


async def test_handlers_hear_of_the_interruption_once_and_before_the_speech(
    sink: NullSink, clock: Clock
) -> None:
    """PlaybackInterrupted tells what became of each item; a second speech_started adds nothing."""
    seen: list[ev.Event] = []
    async with session_on(sink, Interruption(sink)) as (session, wire):

        @session.on(PlaybackInterrupted, ev.InputAudioBufferSpeechStarted)
        def see(event: PlaybackInterrupted | ev.InputAudioBufferSpeechStarted) -> None:
            seen.append(event)

        wire.respond()
        wire.speak(SECOND)
        wire.finish()
        wire.respond("r2", "b")
        wire.speak(SECOND, "r2", "b")
        clock.now_s += 0.5
        wire.interrupt()
        wire.interrupt()
        assert wire.sent == [truncate("a", 500), ev.ConversationItemDelete(item_id="b")]
    interrupted, speech, second_speech = seen
    assert isinstance(speech, ev.InputAudioBufferSpeechStarted)
    assert isinstance(second_speech, ev.InputAudioBufferSpeechStarted)
    assert isinstance(interrupted, PlaybackInterrupted)
    assert [(i.item_id, i.played_ms, i.discarded_ms, i.action) for i in interrupted.items] == [
        ("a", 500, 500, "truncated"),
        ("b", 0, 1000, "deleted"),
    ]
    assert interrupted.audio_start_ms == 1000
    assert 0 < interrupted.latency_s < 30


async def test_no_handler_comes_before_the_silence(sink: NullSink) -> None:
    """Even an application's inline handler of speech_started finds the sink silent."""
    states: list[bool] = []
    async with session_on(sink, Interruption(sink)) as (session, wire):
        session.on(ev.InputAudioBufferSpeechStarted)(lambda event: states.append(sink.playing))
        wire.respond()
        wire.speak(SECOND)
        wire.interrupt()
    assert states == [False]


async def test_late_audio_and_transcripts_reach_nobody(sink: NullSink) -> None:
    """Deltas of the interrupted response are dropped before any handler, the sink included."""
    seen: list[str] = []
    async with session_on(sink, Interruption(sink)) as (session, wire):
        session.on("response.output_audio.delta")(lambda event: seen.append(event.response_id))
        session.on("response.output_audio_transcript.delta")(
            lambda event: seen.append(event.response_id)
        )
        wire.respond()
        wire.speak(SECOND)
        wire.interrupt()
        wire.speak(SECOND)
        assert not sink.playing
        wire.finish()
        wire.respond("r2", "b")
        wire.speak(SECOND, "r2", "b")
        assert [part.item_id for part in sink.positions()] == ["b"]
    assert seen == ["r", "r", "r2", "r2"]


@pytest.mark.parametrize("detection", [ev.ServerVad, ev.SemanticVad])
async def test_interrupt_response_false_makes_us_cancel(
    sink: NullSink, clock: Clock, detection: Any
) -> None:
    """Where the server goes on by itself, the response is cancelled by id, before the cut."""
    vad = detection(interrupt_response=False)
    async with session_on(sink, Interruption(sink), detection=vad) as (_, wire):
        wire.respond()
        wire.speak(SECOND)
        clock.now_s += 0.1
        wire.interrupt()
        assert wire.sent == [ev.ResponseCancel(response_id="r"), truncate("a", 100)]


async def test_a_done_response_is_truncated_and_not_cancelled(sink: NullSink, clock: Clock) -> None:
    """All audio was received and still plays: it is cut; there is nothing to cancel."""
    vad = ev.ServerVad(interrupt_response=False)
    async with session_on(sink, Interruption(sink), detection=vad) as (_, wire):
        wire.respond()
        wire.speak(SECOND)
        wire.finish()
        clock.now_s += 0.75
        wire.interrupt()
        assert wire.sent == [truncate("a", 750)]


@pytest.mark.parametrize("audio_format", [AudioPCMU(), AudioPCMA()])
@pytest.mark.parametrize("kind", [NullSink, WavSink])
async def test_g711_is_cut_by_its_own_clock(
    kind: type[NullSink | WavSink], audio_format: AudioFormat, clock: Clock
) -> None:
    """In G.711 a second is 8000 bytes, for the sink as for the limit of the truncation."""
    sink = kind(clock=clock)
    async with session_on(sink, Interruption(sink), output=audio_format) as (_, wire):
        wire.respond()
        wire.speak(bytes(8000))
        clock.now_s += 0.4
        wire.interrupt()
        assert wire.sent == [truncate("a", 400)]


async def test_a_button_interrupts_and_cancels(sink: NullSink, clock: Clock) -> None:
    """Interrupting by hand works without VAD: cancel, cut, and the same happening."""
    plugin = Interruption(sink, on_speech_started=False)
    seen: list[PlaybackInterrupted] = []
    async with session_on(sink, plugin) as (session, wire):
        session.on(PlaybackInterrupted)(seen.append)
        wire.respond()
        wire.speak(SECOND)
        clock.now_s += 0.3
        wire.interrupt()
        assert sink.playing, "speech alone does nothing here"
        happening = plugin.interrupt(session)
        assert plugin.interrupt(session) is None
        assert wire.sent == [ev.ResponseCancel(response_id="r"), truncate("a", 300)]
    assert seen == [happening]


async def test_a_button_cancels_what_has_not_spoken_yet(sink: NullSink) -> None:
    """A response that is still silent is cancelled, and its audio never heard."""
    plugin = Interruption(sink)
    async with session_on(sink, plugin) as (session, wire):
        wire.feed(ev.ResponseCreated(response=ev.Response(id="r", conversation_id="conv")))
        assert plugin.interrupt(session) is None
        wire.speak(SECOND)
        assert not sink.playing
        assert wire.sent == [ev.ResponseCancel(response_id="r")]


async def test_only_a_session_that_has_the_plugin_can_be_interrupted(sink: NullSink) -> None:
    """A session without the plugin is a mistake; one that is over is not."""
    plugin, stranger = Interruption(sink), Interruption(sink)
    async with session_on(sink, plugin) as (session, _):
        with pytest.raises(UsageError, match="not attached"):
            stranger.interrupt(session)
    assert plugin.interrupt(session) is None


async def test_an_interruption_as_the_connection_ends_is_no_failure(
    sink: NullSink, clock: Clock
) -> None:
    """The sink falls silent even if nothing can be sent any more."""
    plugin = Interruption(sink)
    async with session_on(sink, plugin) as (session, wire):
        wire.respond()
        wire.speak(SECOND)
        clock.now_s += 0.1
        wire.transport.end(1006)
        plugin.interrupt(session)
        assert not sink.playing
        assert wire.sent == []


async def test_playback_started_comes_when_an_item_is_heard() -> None:
    """The first item starts at once, the second when the first is over."""
    sink = NullSink()
    started: list[tuple[str, str]] = []
    async with session_on(sink, Interruption(sink)) as (session, wire):
        second = anyio.Event()

        @session.on(PlaybackStarted)
        def see(event: PlaybackStarted) -> None:
            started.append((event.item_id, event.response_id))
            positions = [part.item_id for part in sink.positions()]
            assert positions[:1] in ([event.item_id], [])
            if event.item_id == "b":
                second.set()

        wire.respond()
        wire.speak(SECOND[:4800])
        wire.finish()
        wire.respond("r2", "b")
        wire.speak(SECOND, "r2", "b")
        with anyio.fail_after(60):
            await second.wait()
    assert started == [("a", "r"), ("b", "r2")]


async def test_a_queued_item_that_was_interrupted_never_started(
    sink: NullSink, clock: Clock
) -> None:
    """An item that was flushed before its turn is not announced."""
    started: list[str] = []
    async with session_on(sink, Interruption(sink)) as (session, wire):
        session.on(PlaybackStarted)(lambda event: started.append(event.item_id))
        wire.respond()
        wire.speak(SECOND[:480])
        wire.finish()
        wire.respond("r2", "b")
        wire.speak(SECOND, "r2", "b")
        with anyio.fail_after(60):
            await session.wait_for(PlaybackStarted)
        wire.interrupt()
        clock.now_s += 10
        wire.respond("r3", "c")
        wire.speak(SECOND, "r3", "c")
        with anyio.fail_after(60):
            await session.wait_for(PlaybackStarted)
    assert started == ["a", "c"]


async def test_an_unknown_turn_detection_is_asked_what_it_does(
    sink: NullSink, clock: Clock
) -> None:
    """A kind of turn detection that we do not know still says whether it interrupts."""
    vad = ev.UnknownObject({"type": "clever_vad", "interrupt_response": False})
    async with session_on(sink, Interruption(sink), detection=vad) as (_, wire):
        wire.respond()
        wire.speak(SECOND)
        clock.now_s += 0.1
        wire.interrupt()
        assert wire.sent == [ev.ResponseCancel(response_id="r"), truncate("a", 100)]


class OwnSink:
    """A sink of the user's own, which some other code writes to."""

    playing = True

    def start(self, audio_format: AudioFormat) -> None:
        """Ignore the format."""

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Ignore the audio."""

    def flush(self) -> list[PlayedItem]:
        """Say that a sound of the application was playing."""
        return [PlayedItem(item_id="jingle", played_ms=10, written_ms=100)]

    def positions(self) -> list[PlayedItem]:
        """Say nothing."""
        return []


async def test_any_sink_will_do() -> None:
    """Interruption needs the protocol only; sounds of the application are silenced, no more."""
    async with session_on(Interruption(OwnSink())) as (session, wire):
        interrupted = session.wait_for(PlaybackInterrupted)
        wire.interrupt()
        with anyio.fail_after(60):
            [item] = (await interrupted).items
        assert (item.item_id, item.action) == ("jingle", "left")
        assert wire.sent == []


async def test_a_wav_sink_writes_its_file_when_the_session_ends(
    tmp_path: Any, clock: Clock
) -> None:
    """A sink in a bus needs no care: the end of the session completes it."""
    sink = WavSink(tmp_path / "heard.wav", clock=clock)
    async with session_on(sink) as (_, wire):
        wire.respond()
        wire.speak(SECOND)
        clock.now_s += 0.5
    assert (tmp_path / "heard.wav").stat().st_size == 44 + 24_000


class Unwell(NullSink):
    """A sink whose device is gone."""

    def __init__(self, clock: Clock, *, knows_positions: bool) -> None:
        super().__init__(clock=clock)
        self.broken = False
        self.knows_positions = knows_positions

    def flush(self) -> list[PlayedItem]:
        """Fail once it is broken."""
        if self.broken:
            raise OSError("the device is gone")
        return super().flush()

    def positions(self) -> list[PlayedItem]:
        """Fail too, or not."""
        if self.broken and not self.knows_positions:
            raise OSError("nobody knows")
        return super().positions()


@pytest.mark.parametrize("knows_positions", [True, False])
@pytest.mark.parametrize("by_hand", [True, False])
async def test_a_sink_that_cannot_be_flushed_costs_no_more_than_its_silence(
    clock: Clock, *, knows_positions: bool, by_hand: bool
) -> None:
    """The generation, the cancel and, where positions are known, the cut go on; then it is told."""
    sink = Unwell(clock, knows_positions=knows_positions)
    plugin = Interruption(sink)
    wire = Wire()
    wire.begin(detection=ev.ServerVad(interrupt_response=False))
    bus = Bus(plugins=[sink, plugin])
    failed: list[str] = []
    late: list[ev.Event] = []
    bus.on(ev.HandlerFailed)(lambda event: failed.append(repr(event.error)))
    async with bus.session(wire.transport) as session:
        wire.respond()
        wire.speak(SECOND)
        clock.now_s += 0.25
        sink.broken = True
        session.on(ev.ResponseOutputAudioDelta)(late.append)
        if by_hand:
            with pytest.raises(OSError, match="the device is gone"):
                plugin.interrupt(session)
        else:
            wire.interrupt()
            assert failed == ["OSError('the device is gone')"]
        cut = [truncate("a", 250)] if knows_positions else []
        assert wire.sent == [ev.ResponseCancel(response_id="r"), *cut]
        wire.speak(SECOND)
        assert late == []
        sink.broken = False


async def test_an_event_that_cannot_be_sent_does_not_take_the_others_with_it(
    sink: NullSink, clock: Clock
) -> None:
    """An interceptor of the application refuses one event; the rest is sent, and it is told."""

    def refuse(event: ev.ResponseCancel, session: Session) -> ev.ResponseCancel:
        raise ValueError("no cancelling here")

    wire = Wire()
    wire.begin(detection=ev.ServerVad(interrupt_response=False))
    bus = Bus(plugins=[sink, Interruption(sink)])
    failed: list[str] = []
    items: list[str] = []
    bus.on(ev.HandlerFailed)(lambda event: failed.append(repr(event.error)))
    bus.on(PlaybackInterrupted)(lambda event: items.extend(i.item_id for i in event.items))
    async with bus.session(wire.transport) as session:
        session.intercept_outgoing(ev.ResponseCancel, refuse)
        wire.respond()
        wire.speak(SECOND)
        clock.now_s += 0.25
        wire.interrupt()
        assert wire.sent == [truncate("a", 250)]
    assert (failed, items) == (["ValueError('no cancelling here')"], ["a"])


async def test_late_audio_stays_out_even_if_its_deletion_cannot_be_sent(sink: NullSink) -> None:
    """A refused deletion is told; the audio that caused it is not heard for that."""

    def refuse(event: ev.ConversationItemDelete, session: Session) -> None:
        raise ValueError("no deleting here")

    wire = Wire()
    wire.begin()
    bus = Bus(plugins=[sink, Interruption(sink)])
    async with bus.session(wire.transport) as session:
        session.intercept_outgoing(ev.ConversationItemDelete, refuse)
        failure = session.wait_for(ev.HandlerFailed, timeout_s=60)
        wire.respond()
        wire.interrupt()
        wire.speak(SECOND)
        assert not sink.playing
        assert repr((await failure).error) == "ValueError('no deleting here')"


@pytest.mark.parametrize("kept_ms", [0, 300])
async def test_audio_that_an_interceptor_dropped_was_not_heard(
    sink: NullSink, clock: Clock, kept_ms: int
) -> None:
    """The application keeps audio from the sink: what it kept counts as received, not as heard."""
    seen: list[PlaybackInterrupted] = []
    started: list[str] = []
    async with session_on(sink, Interruption(sink)) as (session, wire):

        def drop(event: ev.ResponseOutputAudioDelta, session: Session) -> Any:
            return event if len(event.delta) == 48 * kept_ms else None

        session.intercept(ev.ResponseOutputAudioDelta, drop)
        session.on(PlaybackInterrupted)(seen.append)
        session.on(PlaybackStarted)(lambda event: started.append(event.item_id))
        wire.respond()
        if kept_ms:
            wire.speak(bytes(48 * kept_ms))
        wire.speak(SECOND)
        await anyio.wait_all_tasks_blocked()
        clock.now_s += 5
        wire.interrupt()
        assert wire.sent == ([truncate("a", 300)] if kept_ms else [])
    cuts = [(i.item_id, i.played_ms, i.received_ms) for event in seen for i in event.items]
    assert cuts == ([("a", 300, 1300)] if kept_ms else [])
    assert started == (["a"] if kept_ms else [])


async def test_what_the_application_flushed_never_started(sink: NullSink, clock: Clock) -> None:
    """Whoever empties the sink before an item's turn, nobody is told that it is heard."""
    started: list[str] = []
    async with session_on(sink, Interruption(sink)) as (session, wire):
        session.on(PlaybackStarted)(lambda event: started.append(event.item_id))
        wire.respond()
        wire.speak(SECOND)
        sink.flush()  # before anybody could hear it
        await anyio.wait_all_tasks_blocked()
        wire.respond("r2", "b")
        wire.speak(SECOND[:2400], "r2", "b")
        wire.respond("r3", "c")
        wire.speak(SECOND, "r3", "c")
        await anyio.wait_all_tasks_blocked()
        sink.flush()  # while b plays and c waits
        wire.respond("r4", "d")
        wire.speak(SECOND[:2880], "r4", "d")
        wire.respond("r5", "e")
        wire.speak(SECOND, "r5", "e")
        await session.wait_for(PlaybackStarted, timeout_s=60)
        clock.now_s += 0.06
        await session.wait_for(PlaybackStarted, timeout_s=60)  # later than c's turn would have come
    assert started == ["b", "d", "e"]


async def test_a_short_item_that_is_over_before_anybody_looked_was_heard() -> None:
    """The loop was busy while the item played: it is announced all the same."""
    sink = NullSink()
    async with session_on(sink, Interruption(sink)) as (session, wire):
        started = session.wait_for(PlaybackStarted, timeout_s=60)
        wire.respond()
        wire.speak(SECOND[:96])
        while sink.playing:
            pass
        assert (await started).item_id == "a"


async def test_a_short_item_that_was_looked_at_late_was_heard() -> None:
    """What was played is rounded down: the item ends up to a millisecond before its place says."""
    readings = itertools.count()

    def clock() -> float:  # the item has played for 0.9 ms when somebody looks
        return time.perf_counter() + (0.0009 if next(readings) > 2 else 0.0)

    sink = NullSink(clock=clock)
    async with session_on(sink, Interruption(sink)) as (session, wire):
        started = session.wait_for(PlaybackStarted, timeout_s=60)
        wire.respond()
        wire.speak(SECOND[:96])
        while sink.playing:
            pass
        assert (await started).item_id == "a"
