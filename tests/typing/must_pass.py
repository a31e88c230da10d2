"""Code that type checkers must accept; never run."""

# ruff: noqa: D102, D103  # samples for type checkers, named after what they show

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

from realtime_bus import Bus, EventStream, Reply, Session, pattern
from realtime_bus import events as ev


class Plugin:
    """The least that a plugin is."""

    def attach(self, session: Session) -> None:
        session.on(ev.ResponseDone)(self.ended)
        session.intercept("response.done", lambda event, session: event)

    def ended(self, event: ev.ResponseDone) -> None: ...


bus = Bus(plugins=[Plugin()])


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
