"""What asking for responses costs, when reading them ends, and other ways to ask."""

from __future__ import annotations

import gc
import logging
from time import process_time
from typing import Any

import pytest
from msgspec import UNSET

from realtime_bus import InvalidEvent, RequestRejected, Session, SessionClosed
from realtime_bus import events as ev

from ..bus._peer import Peer, joined, refusal, sound, word  # noqa: TID252  # tests are no package with a name of its own
from ._replies import created, done, speak, types

pytestmark = pytest.mark.anyio

# What a reply costs, and when it ends


async def test_what_comes_while_it_is_asked_for_is_not_lost() -> None:
    """A peer in the same process may answer inside `respond`; its words are all there."""

    def answer(event: ev.ClientEvent) -> list[ev.ServerEvent]:
        if not isinstance(event, ev.ResponseCreate) or event.response is None:
            return []
        metadata = event.response.metadata
        return [created("resp_1", metadata), word("all"), word(" there"), done("resp_1", metadata)]

    async with joined(answer=answer) as (session, _):
        reply = session.respond()
        assert reply.done
        assert [text async for text in reply.text()] == ["all", " there"]
        assert (await reply).id == "resp_1"


def listening(session: Session, kind: str) -> bool:
    """Tell whether a session decodes a type of event, which it does while somebody listens."""
    before = session.statistics().frames_skipped
    session._pipeline.taps.deliver(
        b'{"type":"%b","event_id":"e"}' % kind.encode()
    )  # as a transport does
    return session.statistics().frames_skipped == before


WORDS = "response.output_audio_transcript.delta"
SOUNDS = "response.output_audio.delta"


@pytest.mark.breaks_rules("*")
async def test_a_reply_that_is_dropped_stops_collecting() -> None:
    """Who asks for a response and keeps nothing of it pays for no delta; the response goes on."""
    async with joined() as (session, peer):
        assert not listening(session, WORDS)
        session.respond()
        gc.collect()
        assert not listening(session, WORDS)
        kept = session.respond(conversation="none")
        assert listening(session, WORDS)
        assert not listening(session, SOUNDS)
        del kept
        gc.collect()
        assert not listening(session, WORDS)
        session.respond()
        speak(peer)
        peer.say(done("resp_1"))
        assert types(peer) == ["response.create"] * 3  # a dropped one has its turn, too


@pytest.mark.breaks_rules("*")
async def test_a_reply_listens_while_it_speaks() -> None:
    """Words from the call on, audio from `audio` on, neither behind the end."""
    async with joined() as (session, peer):
        reply = session.respond()
        speak(peer)
        audio = reply.audio()
        assert listening(session, WORDS)
        assert listening(session, SOUNDS)
        peer.say(sound(b"\1\2"), done("resp_1"))
        assert not listening(session, WORDS)
        assert not listening(session, SOUNDS)
        assert [piece async for piece in audio] == [b"\1\2"]
        assert [piece async for piece in reply.audio()] == []


@pytest.mark.breaks_rules("*")
async def test_a_stream_left_by_break_stops_listening() -> None:
    """A loop that is left needs no further word: with the stream gone, nothing is decoded."""
    async with joined() as (session, peer):
        peer_says = word("a").type
        stream = session.stream(peer_says)
        peer.say(word("a"), word("b"))
        async for event in stream:
            assert event.delta == "a"
            break
        assert listening(session, peer_says)
        del stream, event
        gc.collect()
        assert not listening(session, peer_says)


@pytest.mark.breaks_rules("*")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("how", ["answered", "closed", "cancelled"])
async def test_thousands_may_wait(how: str) -> None:
    """Three thousand queued requests cost ten times as much as three hundred, or little more."""

    async def cost_s(requests: int) -> float:
        async with joined() as (session, peer):
            started_s = process_time()
            replies = [session.respond() for _ in range(requests)]
            if how == "answered":
                for number in range(requests):
                    speak_last(peer, f"resp_{number}")
                    peer.say(done(f"resp_{number}"))
                assert all(reply.done for reply in replies)
            elif how == "cancelled":
                for reply in replies[:0:-1]:
                    await reply.cancel()
        assert len(replies) == requests
        return process_time() - started_s

    logging.getLogger("realtime_bus").setLevel(logging.WARNING)
    few = min([await cost_s(300) for _ in range(3)])
    assert await cost_s(3000) < 40 * few  # a hundred, if it were quadratic


def speak_last(peer: Peer, response_id: str) -> None:
    """Let the server start the response that was asked for last."""
    peer.say(created(response_id, peer.sent[-1].response.metadata))


# Other ways to ask


async def test_a_request_that_is_sent_waits_its_turn() -> None:
    """`send` of a ``response.create`` goes through the arbiter as `respond` does."""
    async with joined() as (session, peer):
        first = session.respond()
        assert await session.send(ev.ResponseCreate(event_id="mine"))
        assert session.send_nowait(
            ev.ResponseCreate(response=ev.ResponseCreateParams(conversation="none"))
        )
        assert types(peer) == ["response.create"] * 2
        speak(peer)
        peer.say(done("resp_1"))
        assert first.done
        assert [event.event_id for event in peer.sent][2:] == ["mine"]


async def test_a_request_that_is_sent_may_be_refused() -> None:
    """What an interceptor ends was not taken; what it or the check refuses is raised."""
    async with joined() as (session, peer):
        wrong: Any = ev.ResponseCreateParams(max_output_tokens=0)
        with pytest.raises(InvalidEvent):
            session.send_nowait(ev.ResponseCreate(response=wrong))
        session.intercept_outgoing(ev.ResponseCreate, lambda event, session: None)
        assert not await session.send(ev.ResponseCreate())
        assert peer.sent == []
        peer.hang_up()
        await session.wait_closed()
        with pytest.raises(SessionClosed):
            session.send_nowait(ev.ResponseCreate())


@pytest.mark.parametrize("echoes", [True, False])
async def test_what_an_interceptor_makes_anew_is_still_ours(*, echoes: bool) -> None:
    """A request made in place of another keeps id and mark, so that its answer is recognised."""
    async with joined() as (session, peer):
        session.intercept_outgoing(
            ev.ResponseCreate,
            lambda event, session: ev.ResponseCreate(
                response=ev.ResponseCreateParams(instructions="be brief", metadata={"own": "1"})
            ),
        )
        reply = session.respond(instructions="be long")
        [sent] = peer.sent
        assert sent.response.instructions == "be brief"
        assert sent.response.metadata["own"] == "1"
        peer.say(created("resp_1", sent.response.metadata if echoes else UNSET), word("hi"))
        assert reply.id == "resp_1"
        refused = session.respond(conversation="none")
        peer.say(refusal(peer.sent[-1].event_id))
        with pytest.raises(RequestRejected):
            await refused
        peer.say(done("resp_1"))
        assert [text async for text in reply.text()] == ["hi"]
