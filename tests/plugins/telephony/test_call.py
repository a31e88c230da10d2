"""A call from its first message to its end: hang-ups, cancellation, stalls, in every state."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from realtime_bus import Bus, Session, SessionClosed, UsageError
from realtime_bus import events as ev
from realtime_bus.audio import AudioSink
from realtime_bus.server import EnergyDetector, RealtimeServer
from realtime_bus_plugins.interruption import Interruption, PlaybackInterrupted
from realtime_bus_plugins.telephony import (
    VONAGE,
    CallEnded,
    CallStalled,
    CallStarted,
    DtmfReceived,
    LineProblem,
    NoCall,
    PhoneCall,
)
from tests.plugins._wire import Wire

from ._ear import VONAGE_START, read_sent
from ._phone import connected, dtmf, mark, media, started, stopped

pytestmark = pytest.mark.anyio


class FakeWebSocket:
    """A connection whose other end is the test."""

    def __init__(self) -> None:
        self._said: deque[dict[str, Any] | Exception] = deque()
        self._says = anyio.Event()
        self.sent: list[str | bytes] = []
        self.closed = 0
        self.broken: Exception | None = None
        self.full: anyio.Event | None = None  # what is sent waits for it
        self.yields = True  # uvicorn's does not, while there is something to receive

    def say(self, *messages: Any) -> None:
        """Let the provider say something."""
        for message in messages:
            if isinstance(message, bytes):
                self._say({"type": "websocket.receive", "bytes": message})
            else:
                text = message if isinstance(message, str) else json.dumps(message)
                self._say({"type": "websocket.receive", "text": text})

    def leave(self, code: int = 1000) -> None:
        """Let the provider close."""
        self._say({"type": "websocket.disconnect", "code": code})

    def breaks(self) -> None:
        """Let the connection break."""
        self._say(RuntimeError('Cannot call "receive" once a disconnect has been received.'))

    def _say(self, event: dict[str, Any] | Exception) -> None:
        self._said.append(event)
        self._says.set()

    async def receive(self) -> dict[str, Any]:
        """Return the next event."""
        while not self._said:
            self._says = anyio.Event()
            await self._says.wait()
        event = self._said.popleft()
        if self.yields:
            await anyio.lowlevel.checkpoint()
        if isinstance(event, Exception):
            raise event
        return event

    async def send_text(self, data: str) -> None:
        """Take a text message."""
        await self._send(data)

    async def send_bytes(self, data: bytes) -> None:
        """Take a binary message."""
        await self._send(data)

    async def _send(self, data: str | bytes) -> None:
        if self.full is not None:
            await self.full.wait()
        if self.broken is not None:
            raise self.broken
        await anyio.lowlevel.checkpoint()
        self.sent.append(data)

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Note the close."""
        self.closed += 1
        await anyio.lowlevel.checkpoint()

    @property
    def kinds(self) -> list[str]:
        """What was sent: audio, marks, clears."""
        return [read_sent(each)[0] for each in self.sent]


class Happened:
    """What was told in the sessions of a bus."""

    def __init__(self, bus: Bus) -> None:
        self.events: list[ev.BusEvent] = []
        kinds = (CallStarted, CallEnded, DtmfReceived, CallStalled, LineProblem)
        bus.on(*kinds)(self.events.append)

    @property
    def names(self) -> list[str]:
        """Their classes."""
        return [type(each).__name__ for each in self.events]


async def until(condition: Callable[[], object]) -> None:
    """Wait for something to become true."""
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - a condition of somebody else's
            await anyio.sleep(0.001)


@asynccontextmanager
async def calling(
    *plugins: Any, output: ev.AudioFormat | None = None, **options: Any
) -> AsyncGenerator[tuple[PhoneCall, FakeWebSocket, Session, Wire, Happened]]:
    """Hold a call in a session whose other end is the test."""
    websocket = FakeWebSocket()
    websocket.say(connected(), started(language="en"))
    wire = Wire()
    wire.begin(output=output or ev.AudioPCMU(), source=ev.AudioPCMU())
    bus = Bus(raise_handler_errors=True)
    happened = Happened(bus)
    async with PhoneCall(websocket, **options) as call:
        given = [call, Interruption(call), *plugins]
        async with bus.session(wire.transport, plugins=given) as session:
            yield call, websocket, session, wire, happened


async def test_a_call_is_source_and_sink_and_tells_what_happens() -> None:
    """What is said is appended, what is answered is played, keys and the start are events."""
    async with calling() as (call, websocket, session, wire, happened):
        assert isinstance(call, AudioSink)
        websocket.say(media(b"\x11" * 160, 1), dtmf("5"), media(b"\x22" * 160, 2))
        await until(lambda: sum(len(each.audio) for each in wire.sent) == 320)
        assert b"".join(each.audio for each in wire.sent) == b"\x11" * 160 + b"\x22" * 160
        wire.respond()
        wire.speak(b"\x33" * 320)
        await until(lambda: len(websocket.sent) == 4)
        assert websocket.kinds == ["audio", "mark", "audio", "mark"]
        assert happened.events == [CallStarted(info=call.info), DtmfReceived(digit="5")]
        assert call.info.parameters == {"language": "en"}
        assert session.close_info is None
    assert websocket.closed == 1


async def test_an_interruption_is_truncated_at_what_was_acknowledged() -> None:
    """The clear goes out in place of what waits; marks that it brings back change nothing."""
    async with calling() as (call, websocket, _, wire, _):
        wire.respond()
        wire.speak(bytes(8 * 1000))
        await until(lambda: len(websocket.sent) == 100)
        websocket.say(mark("1"), mark("2"), mark("3"))
        await until(lambda: call.positions()[0].played_ms == 60)
        wire.interrupt()
        websocket.say(*(mark(str(number)) for number in range(4, 51)))
        await until(lambda: websocket.kinds[-1] == "clear")
        [cut] = [each for each in wire.sent if isinstance(each, ev.ConversationItemTruncate)]
        assert cut.audio_end_ms == 60
        wire.finish()
        wire.respond("r2", "b")
        wire.speak(bytes(8 * 40), "r2", "b")
        await until(lambda: len(websocket.sent) == 105)
        websocket.say(mark("50"))
        assert [(part.item_id, part.played_ms) for part in call.positions()] == [("b", 0)]


async def test_the_end_of_an_item_is_sent_at_once() -> None:
    """What is left of a frame goes out with the end of its audio, unpadded."""
    async with calling() as (_, websocket, _, wire, _):
        wire.respond()
        wire.speak(b"\x33" * 200)
        wire.finish()
        await until(lambda: len(websocket.sent) == 4)
        lengths = [len(read_sent(each)[1]) for each in websocket.sent[::2]]
        assert lengths == [160, 40]


async def test_a_farewell_is_heard_to_its_end() -> None:
    """`wait_played` returns with the last mark, for everybody who waits."""
    async with calling() as (call, websocket, _, wire, _):
        await call.wait_played()
        wire.respond()
        wire.speak(bytes(320))
        heard: list[str] = []

        async def wait(name: str) -> None:
            await call.wait_played()
            heard.append(name)

        async with anyio.create_task_group() as tasks:
            for name in ("a", "b"):
                tasks.start_soon(wait, name)
            await until(lambda: len(websocket.sent) == 4)
            websocket.say(mark("1"))
            await until(lambda: call.positions()[0].played_ms == 20)
            assert heard == []
            websocket.say(mark("2"))
        assert sorted(heard) == ["a", "b"]


@pytest.mark.parametrize("how", ["flush", "hang-up"])
def test_nobody_waits_for_what_is_never_heard(how: str) -> None:
    """An interruption and a hang-up end the waiting, too."""

    async def main() -> None:
        async with calling() as (call, websocket, _, wire, _):
            wire.respond()
            wire.speak(bytes(320))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call.wait_played)
                await anyio.wait_all_tasks_blocked()
                if how == "flush":
                    wire.interrupt()
                else:
                    websocket.leave()

    anyio.run(main)


# --- the caller hangs up


@pytest.mark.parametrize("how", ["stop", "close", "break"])
async def test_a_hang_up_closes_the_session_in_good_order(how: str) -> None:
    """The session is told, closed with 1000, and the block ends without an error."""
    async with calling() as (call, websocket, session, _, happened):
        if how == "stop":
            websocket.say(stopped())
        elif how == "close":
            websocket.leave(1001)
        else:
            websocket.breaks()
        with anyio.fail_after(60):
            close = await session.wait_closed()
        assert (close.code, close.clean) == (1000, True)
        assert happened.names[-1] == "CallEnded"
        assert call.ended == await call.wait_ended()
        expected = {
            "stop": CallEnded(reason="stopped"),
            "close": CallEnded(reason="disconnected", code=1001),
            "break": CallEnded(reason="disconnected"),
        }
        assert call.ended == expected[how]


async def test_a_hang_up_in_the_midst_of_a_request_is_no_error() -> None:
    """`SessionClosed` out of the block, because the caller is gone, ends with the call."""
    reached = False
    async with calling() as (_, websocket, session, _, _):
        websocket.leave()
        await session.respond()
        reached = True
    assert not reached


@pytest.mark.parametrize("who", ["caller", "agent"])
async def test_a_call_outlives_the_sessions_connection(who: str) -> None:
    """The server is lost and found again: the caller is heard, and either side can hang up."""
    websocket = FakeWebSocket()
    websocket.say(started())
    server = RealtimeServer(detector_factory=EnergyDetector)
    bus = Bus(log_errors=False)
    happened = Happened(bus)
    async with server.serve() as bound, PhoneCall(websocket) as call:
        plugins = [call, Interruption(call)]
        async with bus.connect(bound.url_for("any"), plugins=plugins, **call.settings) as session:
            again = session.wait_for(ev.Reconnected, timeout_s=60)
            server.sessions[0].drop()
            websocket.say(media(bytes(160), 1))
            await again
            assert session.settings.input_format == ev.AudioPCMU()
            sent: list[bytes] = []

            def keep(event: ev.ClientEvent, session: Session) -> ev.ClientEvent:
                assert isinstance(event, ev.InputAudioBufferAppend)
                sent.append(event.audio)
                return event

            session.intercept_outgoing(ev.InputAudioBufferAppend, keep)
            websocket.say(media(b"\x11" * 160, 2))
            await until(lambda: b"\x11" * 160 in sent)
            if who == "caller":
                websocket.say(stopped())
                with anyio.fail_after(60):
                    await session.wait_closed()
    assert happened.names == ["CallStarted", "CallEnded"][: 2 if who == "caller" else 1]
    assert websocket.closed == 1


async def test_a_hang_up_while_the_server_is_lost() -> None:
    """Nobody dials for a caller who is gone."""
    websocket = FakeWebSocket()
    websocket.say(started())
    addresses: list[str] = []
    stop = anyio.Event()

    async def serve() -> None:
        async with RealtimeServer(detector_factory=EnergyDetector).serve() as bound:
            addresses.append(bound.url_for("any"))
            await stop.wait()

    bus = Bus(log_errors=False)
    async with anyio.create_task_group() as tasks, PhoneCall(websocket) as call:
        tasks.start_soon(serve)
        await until(lambda: addresses)
        async with bus.connect(addresses[0], plugins=[call], **call.settings) as session:
            lost = session.wait_for(ev.Reconnecting, timeout_s=60)
            stop.set()
            await lost
            websocket.leave()
            with anyio.fail_after(60):
                await session.wait_closed()
    assert websocket.closed == 1


async def test_a_session_that_is_lost_is_an_error() -> None:
    """The caller is still there: `SessionClosed` is not swallowed, and the call is closed."""
    websocket = FakeWebSocket()
    websocket.say(started())
    with pytest.raises(SessionClosed):
        async with PhoneCall(websocket):
            raise SessionClosed("lost", close=ev.Closed())  # type: ignore[arg-type]  # as good as a CloseInfo here
    assert websocket.closed == 1


async def test_what_the_block_raises_comes_out_as_it_is() -> None:
    """Not in a group; and the connection is closed."""
    websocket = FakeWebSocket()
    websocket.say(started())
    with pytest.raises(ValueError, match="a bug"):
        async with PhoneCall(websocket):
            raise ValueError("a bug")
    assert websocket.closed == 1


async def test_a_hang_up_before_the_session_begins() -> None:
    """While the server was dialled the caller has gone: the session closes as it begins."""
    websocket = FakeWebSocket()
    websocket.say(started())
    wire = Wire()
    bus = Bus(raise_handler_errors=True)
    happened = Happened(bus)
    async with PhoneCall(websocket) as call:
        websocket.say(dtmf("1"))
        websocket.leave()
        await call.wait_ended()
        wire.begin()
        async with bus.session(wire.transport, plugins=[call], instructions="x") as session:
            await session.wait_closed()
            pytest.fail("the block must not begin: the settings were never confirmed")
    assert happened.names == ["CallStarted", "DtmfReceived", "CallEnded"]


async def test_a_stream_that_never_begins() -> None:
    """Nothing came in time, the connection left, or its audio is in a code that is not known."""
    silent = FakeWebSocket()
    with pytest.raises(NoCall, match=r"within 0\.01 s"):
        async with PhoneCall(silent, start_timeout_s=0.01):
            pytest.fail("the block must not begin")
    left = FakeWebSocket()
    left.say(connected())
    left.leave()
    with pytest.raises(NoCall, match="closed before"):
        async with PhoneCall(left):
            pytest.fail("the block must not begin")
    odd = FakeWebSocket()
    odd.say({**VONAGE_START, "content-type": "audio/l16;rate=1"})
    with pytest.raises(NoCall, match="known are audio/l16;rate=16000"):
        async with PhoneCall(odd, VONAGE):
            pytest.fail("the block must not begin")
    assert (silent.closed, left.closed, odd.closed) == (1, 1, 1)


@pytest.mark.parametrize("state", ["starting", "waiting", "talking", "sending"])
async def test_cancelled_in_any_state_a_call_is_closed(state: str) -> None:
    """Whoever cancels is not kept, and the connection is closed."""
    websocket = FakeWebSocket()
    reached = anyio.Event()

    async def hold() -> None:
        async with PhoneCall(websocket) as call:
            wire = Wire()
            wire.begin(output=ev.AudioPCMU())
            if state == "waiting":
                reached.set()
                await anyio.sleep_forever()
            bus = Bus(raise_handler_errors=True)
            async with bus.session(wire.transport, plugins=[call, Interruption(call)]):
                wire.respond()
                wire.speak(bytes(8000))
                if state == "sending":
                    await until(lambda: websocket.sent)
                    websocket.full = anyio.Event()
                    wire.speak(bytes(8000))
                reached.set()
                await anyio.sleep_forever()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold)
            if state == "starting":
                await anyio.wait_all_tasks_blocked()
            else:
                websocket.say(started())
                await reached.wait()
            tasks.cancel_scope.cancel()
    assert websocket.closed == 1


async def test_cancelled_at_every_step_a_call_is_closed() -> None:
    """One checkpoint later each time, until the call is over by itself."""
    for steps in range(400):
        websocket = FakeWebSocket()
        websocket.say(started(), media(bytes(160), 1), dtmf("1"))
        over = False

        async def hold(websocket: FakeWebSocket = websocket) -> None:
            nonlocal over
            async with PhoneCall(websocket) as call:
                wire = Wire()
                wire.begin(output=ev.AudioPCMU())
                async with Bus().session(wire.transport, plugins=[call, Interruption(call)]) as s:
                    wire.respond()
                    wire.speak(bytes(320))
                    wire.interrupt()
                    websocket.say(stopped())
                    await s.wait_closed()
            over = True

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(hold)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
        assert websocket.closed == 1 or steps < 2, "never begun"
        if over:
            return
    pytest.fail("the call never came to its end")


async def test_a_connection_that_takes_nothing_is_a_hang_up() -> None:
    """Whatever a server raises for a peer that has gone."""
    async with calling() as (_, websocket, session, wire, happened):
        websocket.broken = RuntimeError('Cannot call "send" once a close message has been sent.')
        wire.respond()
        wire.speak(bytes(320))
        with anyio.fail_after(60):
            await session.wait_closed()
        assert happened.events[-1] == CallEnded(reason="disconnected")


async def test_the_agent_hangs_up() -> None:
    """The end of the session leaves the line; the end of the block closes the connection."""
    websocket = FakeWebSocket()
    websocket.say(started())
    async with PhoneCall(websocket) as call:
        for _ in range(2):  # one agent after the other
            wire = Wire()
            wire.begin(output=ev.AudioPCMU())
            bus = Bus(raise_handler_errors=True)
            happened = Happened(bus)
            async with bus.session(wire.transport, plugins=[call, Interruption(call)]) as session:
                wire.respond()
                wire.speak(bytes(160))
                await session.aclose()
            assert happened.names == ["CallStarted"]
        await until(lambda: len(websocket.sent) == 4)
        assert websocket.kinds == ["audio", "mark", "audio", "mark"], "nothing was cleared"
        assert call.ended is None
        assert websocket.closed == 0
    assert websocket.closed == 1


# --- misuse, misbehaviour


async def test_a_call_is_for_one_session_and_one_block() -> None:
    """Each mistake is told where it is made."""
    call = PhoneCall(FakeWebSocket())
    with pytest.raises(UsageError, match="has not begun"):
        _ = call.settings
    with pytest.raises(UsageError, match="has not begun"):
        async with Bus().session(Wire().transport, plugins=[call]):
            pytest.fail("the block must not begin")
    async with calling() as (call, *_):
        with pytest.raises(UsageError, match="attached to a session already"):
            async with Bus().session(Wire().transport, plugins=[call]):
                pytest.fail("the block must not begin")
        with pytest.raises(UsageError, match="once"):
            async with call:
                pytest.fail("the block must not begin")


async def test_of_many_problems_some_are_told() -> None:
    """The 1st, 10th, 100th: a flood of rubbish is no flood of events."""
    async with calling() as (_, websocket, _, _, happened):
        websocket.say(*["rubbish"] * 150, dtmf("1"))
        await until(lambda: happened.names[-1] == "DtmfReceived")
        told = [each.count for each in happened.events if isinstance(each, LineProblem)]
        assert told == [1, 10, 100]


async def test_a_stalled_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes: an event, and the application may hang up."""
    async with calling(stall_s=0.01) as (_, _, session, _, happened):
        await until(lambda: "CallStalled" in happened.names)
        await session.aclose()


async def test_a_session_that_takes_nothing_loses_the_oldest() -> None:
    """Back-pressure: so much may wait, then the oldest is dropped and told."""
    async with calling(input_limit_s=0.1) as (call, websocket, session, _, happened):
        sending, held = anyio.Event(), anyio.Event()

        async def wait(audio: bytes) -> None:
            sending.set()
            await held.wait()

        session.append_audio = wait  # type: ignore[method-assign]  # a session that waits
        websocket.say(media(bytes(160), 1))
        await sending.wait()
        websocket.say(*(media(bytes(160), number) for number in range(2, 21)))
        await until(lambda: call.dropped_bytes >= 160 * 14)
        assert call.dropped_bytes == 160 * 14, "one is being sent, five wait"
        told = [(each.kind, each.count) for each in happened.events[1:]]  # type: ignore[attr-defined]  # all of one class
        assert told == [("dropped", 1), ("dropped", 10)]
        held.set()


async def test_what_follows_the_start_at_once_is_not_lost() -> None:
    """The first words may be read before anybody has taken the call."""
    websocket = FakeWebSocket()
    websocket.yields = False
    websocket.say(started(), *(media(bytes(160), number) for number in range(1, 11)))
    wire = Wire()
    wire.begin(source=ev.AudioPCMU())
    async with (
        PhoneCall(websocket) as call,
        Bus(raise_handler_errors=True).session(wire.transport, plugins=[call]),
    ):
        await until(lambda: sum(len(each.audio) for each in wire.sent) == 1600)
        assert call.dropped_bytes == 0


async def test_a_burst_is_not_lost() -> None:
    """The network had stalled: ten seconds at once, and the session takes them all."""
    async with calling() as (call, websocket, _, wire, happened):
        websocket.yields = False
        websocket.say(*(media(bytes(160), number) for number in range(1, 501)))
        await until(lambda: sum(len(each.audio) for each in wire.sent) == 160 * 500)
        assert call.dropped_bytes == 0
        assert happened.names == ["CallStarted"]


# --- formats


async def test_what_is_said_during_a_change_of_format_waits_for_its_end() -> None:
    """Until the update is confirmed nobody knows how the audio would be read."""
    async with calling() as (call, websocket, session, wire, _):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: session.update(input_format="pcma"))
            await until(lambda: wire.sent)
            websocket.say(media(b"\xff" * 160, 1), media(b"\xff" * 160, 2))
            await until(lambda: call._input_bytes == 320)
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            assert [type(each) for each in wire.sent] == [ev.SessionUpdate]
            audio = ev.AudioConfig(input=ev.AudioInputConfig(format=ev.AudioPCMA()))
            wire.feed(ev.SessionUpdated(session=ev.RealtimeSession(audio=audio)))
        await until(lambda: len(wire.sent) == 2)
        assert wire.sent[1].audio == b"\xd5" * 320, "µ-law silence as A-law"


async def test_a_session_in_another_format_is_converted() -> None:
    """An application that forgot the settings hears no noise."""
    websocket = FakeWebSocket()
    websocket.say(started())
    wire = Wire()
    wire.begin()  # PCM16 at 24 kHz both ways
    async with (
        PhoneCall(websocket) as call,
        Bus(raise_handler_errors=True).session(wire.transport, plugins=[call]) as _,
    ):
        assert call.settings == {"input_format": ev.AudioPCMU(), "output_format": ev.AudioPCMU()}
        websocket.say(*(media(b"\xff" * 160, number) for number in range(1, 6)))
        await until(lambda: sum(len(each.audio) for each in wire.sent) >= 960 * 4)
        assert {byte for each in wire.sent for byte in each.audio} == {0}
        wire.respond()
        wire.speak(bytes(48 * 100))
        await until(lambda: len(websocket.sent) >= 8)
        assert set(read_sent(websocket.sent[0])[1]) == {0xFF}
        assert call.positions()[0].written_ms == 100


async def test_vonage_at_16_khz_speaks_pcm16_with_the_session() -> None:
    """Binary frames of exactly 640 bytes, from and to PCM16 at 24 kHz."""
    websocket = FakeWebSocket()
    websocket.say(VONAGE_START | {"content-type": "audio/l16;rate=16000"})
    wire = Wire()
    wire.begin()
    async with (
        PhoneCall(websocket, VONAGE) as call,
        Bus(raise_handler_errors=True).session(wire.transport, plugins=[call]),
    ):
        assert call.settings == {"input_format": ev.AudioPCM(), "output_format": ev.AudioPCM()}
        websocket.say(*[bytes(640)] * 5)
        await until(lambda: sum(len(each.audio) for each in wire.sent) >= 960 * 4)
        wire.respond()
        wire.speak(bytes(48 * 110))
        wire.finish()
        await until(lambda: len(websocket.sent) == 12)
        assert {len(each) for each in websocket.sent if isinstance(each, bytes)} == {640}
        for number in range(1, 6):
            websocket.say({"event": "websocket:notify", "payload": {"mark": str(number)}})
            await until(lambda: call.positions()[0].played_ms > 20 * (number - 1))  # noqa: B023  # awaited before the next number
            assert call.positions()[0].played_ms <= 20 * number
        websocket.say({"event": "websocket:notify", "payload": {"mark": "6"}})
        await until(lambda: not call.playing)


async def test_without_an_end_a_resampled_item_is_played_to_its_end() -> None:
    """No `done` comes: once the line has run dry, what the resampler holds back goes out."""
    websocket = FakeWebSocket()
    websocket.say(VONAGE_START | {"content-type": "audio/l16;rate=8000"})
    wire = Wire()
    wire.begin()
    async with (
        PhoneCall(websocket, VONAGE) as call,
        Bus(raise_handler_errors=True).session(wire.transport, plugins=[call]),
    ):
        wire.respond()
        wire.speak(bytes(48 * 33))
        await until(lambda: websocket.kinds == ["audio", "mark"] * 2)
        websocket.say({"event": "websocket:notify", "payload": {"mark": "2"}})
        await call.wait_played()


async def test_a_call_that_is_interrupted_again_and_again_stays_right() -> None:
    """Nothing playing, everything queued, a second time at once: no truncation is refused."""
    interruptions: list[PlaybackInterrupted] = []
    async with calling() as (call, websocket, session, wire, _):
        session.on(PlaybackInterrupted)(interruptions.append)
        for number in range(20):
            wire.interrupt()
            response, item = f"r{number}", f"i{number}"
            wire.respond(response, item)
            wire.speak(bytes(8 * 100), response, item)
            if number % 2:
                count = len(websocket.sent)
                await until(lambda: len(websocket.sent) >= count + 10)  # noqa: B023 - at once
                websocket.say(mark(str(5 * number)))
            wire.interrupt()
            wire.interrupt()
            wire.finish(response, item)
        assert len(interruptions) == 20
        assert not call.playing
