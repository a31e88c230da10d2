"""Whatever others raise, return or feed costs that one thing, and never the session."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog

from realtime_bus import Bus, HandlerGroup, Session, UsageError
from realtime_bus import events as ev
from realtime_bus.transport import PushTransport

from ._peer import Peer, joined, quiet, speech, word

pytestmark = pytest.mark.anyio

Started = ev.InputAudioBufferSpeechStarted


class NoTextError(Exception):
    """An exception that cannot even say what it is."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class OddError(BaseException):
    """One that ``except Exception`` does not see."""


RAISED = [
    ValueError("v"),
    NoTextError(),
    OddError("o"),
    StopIteration(1),
    StopAsyncIteration(),
    asyncio.CancelledError(),
    BaseExceptionGroup("g", [ValueError("v"), OddError("o")]),
    RecursionError(),
    MemoryError(),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
async def test_whatever_a_callback_raises_is_reported(error: BaseException) -> None:
    """Handlers in every mode, predicates, interceptors and callbacks may raise anything."""
    failed, heard = list[str](), list[int]()

    def broken(*_: Any) -> Any:
        raise error

    async def broken_async(*_: Any) -> Any:
        raise error

    async with joined() as (session, peer):
        session.on(ev.HandlerFailed)(lambda event: failed.append(event.event_type))
        session.intercept(Started, lambda event, session: broken())
        session.on(Started)(lambda event: broken())
        session.on(Started, where=lambda event: broken())(print)
        session.on(Started, mode="queue")(lambda event: broken())
        for mode in ("queue", "eager", "parallel", "latest"):
            session.on(Started, mode=mode)(broken_async)
        session.on(Started)(lambda event: heard.append(event.audio_start_ms))
        session.start_soon(broken_async)
        session.on_close(broken)
        for number in (1, 2):
            peer.say(speech(number))
            await quiet()
        assert session.close_info is None
    assert heard == [1, 2]
    assert failed.count(Started.__struct_config__.tag) == 2 * 8  # type: ignore[arg-type]  # msgspec's tags are text here
    assert failed.count("") == 2


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
async def test_whatever_refuses_a_response_comes_out_of_its_reply(error: BaseException) -> None:
    """An interceptor that raises while a request waits its turn fails that one; the next goes on."""
    refuse = True

    def broken(event: ev.ResponseCreate, _session: Session) -> ev.ResponseCreate:
        if refuse:
            raise error
        return event

    async with joined() as (session, peer):
        session.intercept_outgoing(ev.ResponseCreate, broken)
        reply = session.respond()
        assert reply.done
        with pytest.raises((type(error), RuntimeError)):
            await reply
        refuse = False
        session.respond()
    assert [type(event) for event in peer.sent] == [ev.ResponseCreate]


async def test_a_predicate_whose_answer_is_neither_true_nor_false() -> None:
    """What a predicate returns is judged where its failure is reported."""

    class Ambiguous:
        def __bool__(self) -> bool:
            raise ValueError("ambiguous")

    heard = list[str]()
    async with joined() as (session, peer):
        session.on(Started, where=lambda event: Ambiguous())(lambda event: heard.append("it"))  # type: ignore[arg-type, return-value]  # the mistake
        session.on(ev.HandlerFailed)(lambda event: heard.append(str(event.error)))
        peer.say(speech())
        assert session.close_info is None
    assert heard == ["ambiguous"]


def test_an_async_predicate_is_refused() -> None:
    """A coroutine counts as true, so an async predicate would let everything pass."""

    async def wanted(_event: Any) -> bool:
        return False

    with pytest.raises(UsageError, match=r"where=.*wanted is async"):
        Bus().on(Started, where=wanted)(print)  # type: ignore[arg-type]  # the mistake


async def test_a_failure_that_causes_itself_comes_to_an_end() -> None:
    """A handler of failures that emits what makes a handler fail ends with the stack, not for ever."""

    class Again(ev.AppEvent): ...

    logging.getLogger("realtime_bus").setLevel(logging.CRITICAL)  # pytest's capturing costs seconds
    calls = list[int]()

    def fail(_event: Again) -> None:
        raise ValueError

    async with joined() as (session, _):

        @session.on(ev.HandlerFailed)
        def once_more(event: ev.HandlerFailed) -> None:
            calls.append(1)
            session.emit(Again())

        session.on(Again)(fail)
        session.emit(Again())
        assert session.close_info is None
    assert 1 < len(calls) < 10_000


# Transports


class Whimsical(PushTransport):
    """A transport of somebody's own, some method of which does what it should not."""

    def __init__(self, method: str, does: Callable[..., Any]) -> None:
        super().__init__(send=len)
        setattr(self, method, does)


async def test_a_transport_that_does_not_say_how_it_ended() -> None:
    """``run`` that returns nothing has ended all the same; nobody waits for ever."""
    gone = anyio.Event()
    transport = Whimsical("run", lambda deliver: gone.wait())
    async with Bus().session(transport, wait_created=False) as session:
        gone.set()
        assert (await session.wait_closed()).code == 1006
    assert session.close_info is not None
    assert "returned" in session.close_info.reason


@pytest.mark.parametrize("method", ["run", "aclose", "drain"])
async def test_a_transport_that_raises_what_it_likes(method: str) -> None:
    """Reading, closing and waiting may fail in any way: the session ends or goes on, and is left."""

    async def broken(*_: object) -> Any:
        raise NoTextError

    with anyio.fail_after(5):
        async with Bus().session(Whimsical(method, broken), wait_created=False) as session:
            await quiet()
            if method == "drain":
                with pytest.raises(NoTextError):
                    await session.send(ev.InputAudioBufferClear())
    assert session.close_info is not None


async def test_a_command_that_the_transport_refused_answers_nothing() -> None:
    """What could not be sent takes no answer away from the one that is sent next."""
    refuse = [OSError("busy")]

    def take(_frame: bytes) -> None:
        if refuse:
            raise refuse.pop()

    transport = PushTransport(send=take)
    async with Bus().session(transport, wait_created=False) as session:
        with pytest.raises(OSError, match="busy"):
            await session.clear_input()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.clear_input)
            await quiet()
            transport.feed(ev.InputAudioBufferCleared().to_json())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, bytes.decode])
async def test_frames_may_be_fed_in_any_form(kind: Any) -> None:
    """Whoever reads the connection hands on what it got: bytes of any sort, or text."""
    heard = list[int]()
    async with joined() as (session, peer):
        session.on(Started)(lambda event: heard.append(event.audio_start_ms))
        peer.transport.feed(kind(speech(7).to_json()))
    assert heard == [7]


# Reentrancy and the end


async def test_an_inline_handler_may_do_anything() -> None:
    """Emitting, registering, taking out, asking and closing work in the middle of an event."""

    class Number(ev.AppEvent):
        n: int = 0

    trace = list[Any]()
    async with joined() as (session, peer):

        @session.on(Number)
        def busy(event: Number) -> None:
            trace.append(event.n)
            if event.n == 0:
                session.on(Number)(lambda event: trace.append(("new", event.n)))
                session.emit(Number(n=1))
                session.off(busy)
                session.emit(Number(n=2))
                session.respond()
                session.start_soon(session.aclose)

        session.emit(Number())
        await session.wait_closed()
    assert trace == [0, 1, ("new", 1), ("new", 2)]
    assert [event.type for event in peer.sent] == ["response.create"]


@pytest.mark.parametrize("mode", ["queue", "eager", "parallel", "latest"])
async def test_a_handler_may_hold_a_session_of_its_own(mode: Any) -> None:
    """A session can be opened, used and left inside a handler of another one, on the same bus."""
    bus, trace = Bus(), list[Any]()
    async with joined(bus) as (session, peer):

        @session.on(Started, mode=mode)
        async def relay(event: Started) -> None:
            async with joined(bus) as (inner, other):
                waiting = inner.wait_for(Started)
                other.say(speech(5))
                trace.append((await waiting).audio_start_ms)
                trace.append(len(bus.sessions))
            assert inner.close_info is not None
            trace.append(inner.close_info.code)

        peer.say(speech(1))
        await quiet()
        assert trace == [5, 2, 1000]
        assert bus.sessions == (session,)


async def test_after_the_end_nobody_gets_anything() -> None:
    """A session that was left delivers nothing, to old handlers or new, and says nothing of it."""

    class Late(ev.AppEvent): ...

    heard = list[str]()

    async def listen(event: Late) -> None:
        heard.append("queue")

    async with joined() as (session, _):
        session.on(Late)(lambda event: heard.append("inline"))
    session.on(Late)(listen)
    session.emit(Late())
    session.inject(speech())
    assert heard == []
    assert session.statistics().handlers[0].delivered == 0


async def test_a_callback_for_the_end_that_comes_late_is_called_at_once() -> None:
    """`on_close` of a session that has ended calls back now, for there will be no other time."""
    called = list[str]()
    async with joined() as (session, peer):
        peer.hang_up()
        await session.wait_closed()
        session.on_close(lambda: called.append("late"))
        assert called == ["late"]


async def test_a_session_can_be_cancelled_at_any_point() -> None:
    """Wherever opening, using and leaving is cancelled, the connection is closed, nothing stays."""

    def confirm(event: Any) -> list[ev.ServerEvent]:
        updated = ev.SessionUpdated(session=ev.RealtimeSession(id="sess_1"))
        return [updated] if isinstance(event, ev.SessionUpdate) else []

    reached = set[str]()
    for turns in range(40):
        bus, closed, progress = Bus(drain_timeout_s=0.01), list[str](), ["not open"]

        class Cleaning:
            def attach(self, session: Session) -> None:
                session.start_soon(anyio.sleep_forever)
                session.on_close(lambda: closed.append("closed"))  # noqa: B023  # called in this turn

        async def use(bus: Bus, progress: list[str], peer_: list[Peer]) -> None:
            async with joined(bus, confirm, instructions="x", plugins=[Cleaning()]) as (s, peer):
                peer_.append(peer)
                progress.append("open")

                @s.on(Started)
                async def slow(event: Started) -> None:
                    for _ in range(3):
                        await anyio.lowlevel.checkpoint()

                peer.say(speech(1), speech(2))
                await s.append_audio(b"\0" * 4800)
                with anyio.move_on_after(0):
                    await s.retrieve_item("item_1")
                progress.append("used")
            progress.append("left")

        peers = list[Peer]()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(use, bus, progress, peers)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        reached.add(progress[-1])
        assert bus.sessions == ()
        assert closed == (["closed"] if turns else closed)
        assert all(peer.closed for peer in peers)
    assert reached >= {"not open", "left"}


# The log


@pytest.fixture
def broken_structlog() -> Iterator[None]:
    """Configure structlog with a processor that fails."""

    def fail(*_: object) -> Any:
        raise RuntimeError("processor")

    structlog.configure(processors=[fail])
    yield
    structlog.reset_defaults()


async def test_a_log_that_cannot_be_written_harms_nobody(
    broken_structlog: None, caplog: pytest.LogCaptureFixture
) -> None:
    """A processor of the application's that raises costs the line's values, not the session."""
    heard = list[str]()
    with caplog.at_level(logging.WARNING):
        async with joined() as (session, peer):
            session.on("*")(lambda event: heard.append(event.type))
            peer.say(b'{"type":"input_audio_buffer.speech_started"}', speech())
            assert session.close_info is None
    assert heard.count("input_audio_buffer.speech_started") == 2
    assert "could not be rendered: RuntimeError" in caplog.text


# What a server says wrongly

_EVENTS = json.loads((Path(__file__).parents[1] / "data/events.json").read_text())["events"]
_SERVER = [event for event in _EVENTS if event["direction"] == "server"]
_WRONG: list[Any] = [None, 5, "", [], {}, True, [None], {"id": None}, {"id": []}, 1.5]
_RESPONSE = {"id": "resp_1", "conversation_id": "conv", "metadata": {}, "output": [], "audio": {}}
_SAMPLES: dict[str, Any] = {
    "response": _RESPONSE,
    "item": {"id": "item_a", "type": "message", "role": "assistant", "content": []},
    "session": {"id": "sess_1", "type": "realtime", "audio": {"input": {}, "output": {}}},
    "error": {"type": "t", "code": "c", "message": "m", "param": "item", "event_id": "e"},
    "response_id": "resp_1",
    "item_id": "item_a",
}


def _spoiled(event: dict[str, Any]) -> Iterator[bytes]:
    """Yield frames of a type in each of which one field is wrong, or missing."""
    fields = {name: _SAMPLES.get(name, "x") for name in event["fields"] if name != "type"}
    frame = {"type": event["type"], **fields}
    for name, value in fields.items():
        yield json.dumps({key: it for key, it in frame.items() if key != name}).encode()
        for wrong in _WRONG:
            yield json.dumps({**frame, name: wrong}).encode()
        for part in value if isinstance(value, dict) else ():
            for wrong in _WRONG:
                yield json.dumps({**frame, name: {**value, part: wrong}}).encode()


@pytest.mark.parametrize("event", _SERVER, ids=lambda event: event["type"])
async def test_a_malformed_frame_breaks_no_part_of_a_session(event: dict[str, Any]) -> None:
    """Ids and objects that are missing, null or something else fail nobody: not one handler."""
    failed = list[Any]()
    async with joined() as (session, peer):
        session.on(ev.HandlerFailed)(failed.append)
        replies = [session.respond(), session.respond(), session.respond(conversation="none")]
        metadata = peer.sent[0].response.metadata
        response = ev.Response(id="resp_1", conversation_id="conv", metadata=metadata)
        frames = list(_spoiled(event))
        for frame in frames:
            peer.say(ev.ResponseCreated(response=response), word("x"), frame)
            session.conversation.has_item(json.loads(frame).get("item_id"))
            session.conversation.audio_format_of(json.loads(frame).get("response_id"))
        await quiet()
        assert session.close_info is None
        assert len(replies) == 3
    assert failed == []
    assert len(frames) >= 11


# Misuse


async def test_misuse_is_told_as_such() -> None:
    """What is no event, no group and no list of plugins is refused at the call, with its name."""

    class Own(ev.AppEvent): ...

    wrong: Any = Own  # the class in place of an event
    async with joined() as (session, peer):
        calls: list[tuple[Callable[[], Any], str]] = [
            (lambda: session.emit(wrong), "no event of your own"),
            (lambda: session.emit(speech()), "no event of your own"),  # type: ignore[arg-type]  # the mistake
            (lambda: session.inject(wrong), "is not an event"),
            (lambda: session.send_nowait(wrong), "not an event that a client sends"),
            (lambda: session.send_nowait(speech()), "not an event that a client sends"),  # type: ignore[arg-type]  # the mistake
            (lambda: Bus().include(HandlerGroup), "is no HandlerGroup"),  # type: ignore[arg-type]  # the mistake
            (lambda: Bus(plugins=5), "is no list"),  # type: ignore[arg-type]  # the mistake
            (lambda: session.respond("Say hello"), "send_text"),  # type: ignore[arg-type]  # the mistake
            (lambda: session.respond(instruction="x"), "no 'instruction'"),
        ]
        for call, message in calls:
            with pytest.raises(UsageError, match=message):
                call()
        with pytest.raises(UsageError, match="no single answer"):
            await session.request(wrong)
        with pytest.raises(UsageError, match=r"use respond\(\)"):
            await session.request(ev.ResponseCreate())
        assert peer.sent == []
