"""Code that type checkers must accept; never run."""

# ruff: noqa: D102, D103  # samples for type checkers, named after what they show

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_type

from realtime_bus import (
    Bus,
    EventStream,
    HandlerGroup,
    Interceptor,
    Plugin,
    Reply,
    Session,
    SessionContext,
    decode,
    intercept,
    intercept_outgoing,
    on,
    once,
    pattern,
)
from realtime_bus import events as ev


class Order:
    """What an application knows of one call."""

    items: int = 0


class OrderPlaced(ev.AppEvent):
    """An event of the application's own."""

    items: int


class LeastPlugin:
    """The least that a plugin is."""

    def attach(self, session: Session) -> None:
        session.on(ev.ResponseDone)(self.ended)
        session.intercept("response.done", lambda event, session: event)

    def ended(self, event: ev.ResponseDone) -> None: ...


class PluginOfOrders:
    """Asks for sessions with a state of its own kind."""

    def attach(self, session: Session[Order]) -> None:
        assert_type(session.state.items, int)


class Declaring(Plugin):
    """Declares handlers and interceptors where they stand."""

    @on(ev.SessionCreated)
    async def greet(self, event: ev.SessionCreated, session: Session) -> None:
        assert_type(await session.send_text("hello"), ev.ConversationItemAdded)

    @on("response.done", where=lambda event: event.response.status == "completed")
    def ended(self, event: ev.ResponseDone) -> None: ...

    @on(OrderPlaced)
    async def placed(self, event: OrderPlaced, session: Session[Order]) -> None: ...

    @once("error", mode="queue", timeout_s=1)
    async def first_error(self, event: ev.Error) -> None: ...

    @on("response.*", ev.Error)
    def either(self, event: ev.ServerEvent) -> None: ...

    @intercept("response.done", ev.Error)
    def see(self, event: ev.Event, session: Session) -> ev.Event | None:
        return event

    @intercept_outgoing(ev.SessionUpdate)
    def leaving(self, event: ev.SessionUpdate, session: Session) -> ev.ClientEvent | None:
        return event


bus = Bus(plugins=[LeastPlugin(), PluginOfOrders(), Declaring()])


@bus.on(ev.InputAudioBufferSpeechStarted)
async def by_class(event: ev.InputAudioBufferSpeechStarted, session: Session) -> None:
    assert_type(event.audio_start_ms, int)


@bus.on("response.output_audio_transcript.done", mode="parallel", limit=2, timeout_s=1.5)
async def by_name(event: ev.ResponseOutputAudioTranscriptDone) -> int:
    return len(event.transcript)


@bus.on(ev.ResponseOutputTextDelta, ev.ResponseOutputAudioTranscriptDelta)
def by_classes(event: ev.ResponseOutputTextDelta | ev.ResponseOutputAudioTranscriptDelta) -> str:
    return event.delta


@bus.on("response.*.delta")
@bus.on(pattern("*l*"))
def by_pattern(event: ev.ServerEvent) -> None: ...


@bus.on("response.done", where=lambda event: event.response.status == "completed")
def by_predicate(event: ev.ResponseDone) -> None: ...


@bus.once("error")
def wider(event: ev.ServerEvent) -> None: ...


@bus.on("response.done", ev.Error, "bus.*")
def mixed(event: ev.Event) -> None: ...


Ended = ev.ResponseDone | ev.Error


@bus.on(Ended)
def by_union(event: Ended) -> None: ...


@bus.on(ev.HandlerFailed, ev.Drift, ev.Overflow, ev.UnknownEvent)
def of_the_bus(event: ev.BusEvent) -> None: ...


@bus.on(OrderPlaced, mode="eager")
async def of_the_application(event: OrderPlaced, session: Session) -> None:
    assert_type(event.items, int)


@bus.on("response.done")
def with_state(event: ev.ResponseDone, session: Session[Order]) -> None:
    session.state.items += 1


@bus.on(ev.ResponseDone)
async def without_state(event: ev.ResponseDone, session: Session) -> None:
    assert_type(session.state, Any)
    session.state = Order()


handlers = HandlerGroup()


@handlers.on("response.done")
async def in_a_group(event: ev.ResponseDone, session: Session[Order]) -> None: ...


@handlers.once(OrderPlaced, ev.Error)
def in_a_group_once(event: OrderPlaced | ev.Error) -> None: ...


bus.include(handlers, timeout_s=5, max_pending=3)
bus.off(with_state)


def delay(event: ev.Event, session: Session) -> ev.Event | None:
    return None


interceptor: Interceptor = delay


# a decorated handler keeps its type
assert_type(by_classes(ev.ResponseOutputTextDelta(response_id="r", item_id="i", delta="x")), str)
same: Callable[[ev.ResponseOutputAudioTranscriptDone], object] = by_name


async def program() -> None:
    async with bus.connect("gpt-realtime", instructions="x", voice="marin") as session:
        assert_type(session, Session)
        assert_type(await session.wait_for(ev.ResponseDone), ev.ResponseDone)
        assert_type(await session.wait_for("response.done", timeout_s=1), ev.ResponseDone)
        assert_type(await session.wait_for("session.closed"), ev.translation.SessionClosed)
        assert_type(await session.wait_for(ev.ResponseDone, ev.Error), ev.ResponseDone | ev.Error)
        stream = session.stream("response.output_audio.delta")
        assert_type(stream, EventStream[ev.ResponseOutputAudioDelta])
        async for event in stream:
            assert_type(event.delta, bytes)
        assert_type(await session.update(voice="marin", turn_detection=None), ev.SessionUpdated)
        await session.update(ev.TranscriptionSessionRequest())
        assert_type(await session.commit_input(), ev.InputAudioBufferCommitted)
        reply = session.respond(instructions="x")
        assert_type(reply, Reply)
        assert_type(await reply, ev.Response)
        async for text in reply.text():
            assert_type(text, str)
        async for audio in reply.audio():
            assert_type(audio, bytes)

        @session.on("input_audio_buffer.speech_started", mode="latest")
        async def of_session(event: ev.InputAudioBufferSpeechStarted) -> None: ...

        session.off(of_session)

        session.intercept(OrderPlaced, delay)
        session.inject(ev.ResponseDone(response=ev.Response()), behind=delay)
        session.emit(OrderPlaced(items=1))
        assert_type(await session.wait_for(OrderPlaced), OrderPlaced)
        assert_type(session.settings.turn_detection, ev.TurnDetection | None)
        assert_type(session.conversation.active_response_id, str | None)


async def one_call_of_many() -> None:
    opened = bus.connect("gpt-realtime", plugins=[LeastPlugin()], state=Order(), speed=1.1)
    assert_type(opened, SessionContext[Order])
    async with opened as session:
        last = session.state
        assert_type(session, Session[Order])
    last.items += 1  # bound: leaving a session swallows nothing
    async with bus.connect(intent="transcription", turn_detection=None) as session:
        assert_type(session, Session)
        await session.update(transcription=ev.Transcription(model="whisper-1"))
    async with bus.connect("m", intent="translation", language="de", state=1) as numbered:
        assert_type(numbered.state, int)
        await numbered.update_translation(language="fr")
    async with bus.session(object(), state=Order(), instructions="x") as ordered:
        assert_type(ordered.state, Order)
    async with bus.session(object(), protocol="translation", language="de") as translating:
        assert_type(translating, Session)
    async with bus:
        bus.emit(OrderPlaced(items=2))
    await bus.aclose(1000, "good night")
    for each in bus.sessions:
        assert_type(each, Session)


decode(b"{}", protocol="translation")
