"""What `respond` returns: awaited, and read while it comes."""

from __future__ import annotations

import gc
from weakref import ref

import anyio
import anyio.lowlevel
import pytest

from realtime_bus import (
    InvalidEvent,
    RequestRejected,
    SessionClosed,
)
from realtime_bus import events as ev
from realtime_bus.session import _arbiter

from ..bus._peer import joined, refusal, sound, word  # noqa: TID252  # tests are no package with a name of its own
from ._replies import RACE, created, done, metadata_of, speak, types

pytestmark = pytest.mark.anyio


async def test_awaiting_gives_the_finished_response() -> None:
    """`await session.respond()` returns the response of ``response.done``."""
    async with joined() as (session, peer):
        reply = session.respond(instructions="greet")
        assert (reply.id, reply.done) == (None, False)
        assert repr(reply).endswith("waiting>")
        speak(peer)
        assert (reply.id, session.active_response_id) == ("resp_1", "resp_1")
        assert repr(reply) == "<Reply resp_1 active>"
        peer.say(done("resp_1"))
        assert (await reply).status == "completed"
        assert (await reply).id == "resp_1"
        assert repr(reply) == "<Reply resp_1 done>"
        assert session.active_response_id is None
    assert peer.sent[0].response.instructions == "greet"


async def test_a_second_one_waits_for_the_first() -> None:
    """While a response is active, the next request stays here until its end."""
    async with joined() as (session, peer):
        first, second = session.respond(), session.respond()
        speak(peer)
        assert types(peer) == ["response.create"]
        peer.say(done("resp_1"))
        assert types(peer) == ["response.create"] * 2
        assert first.done
        speak(peer, 1, "resp_2")
        peer.say(done("resp_2", status="incomplete"))
        assert (await second).status == "incomplete"


async def test_a_lost_race_is_nobodys_trouble() -> None:
    """A request that loses to the server's own response is sent again after its end."""
    async with joined() as (session, peer):
        reply = session.respond()
        peer.say(created("resp_own"), refusal(peer.sent[0].event_id, code=RACE))
        assert not reply.done
        peer.say(done("resp_own"))
        speak(peer, 1)
        peer.say(done("resp_1"))
        assert (await reply).id == "resp_1"


@pytest.mark.breaks_rules("one-active-response")
async def test_a_lost_race_whose_winner_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that was put back is sent in the end, though no ``done`` ever comes."""
    monkeypatch.setattr(_arbiter, "STALE_S", 0.01)
    async with joined() as (session, peer):
        again = anyio.Event()
        reply = session.respond()
        message = ev.MessageItem(id="item_a", role="assistant", content=[])
        peer.say(created("resp_own"))
        peer.answer = lambda event: again.set()
        peer.say(refusal(peer.sent[0].event_id, code=RACE))
        await again.wait()
        speak(peer, 1)
        peer.say(ev.ResponseOutputItemAdded(response_id="resp_1", output_index=0, item=message))
        peer.say(done("resp_1"))
        assert (await reply).id == "resp_1"


async def test_a_refusal_is_raised_where_it_is_awaited() -> None:
    """The server's error comes out of the await."""
    async with joined(answer=lambda event: [refusal(event.event_id)]) as (session, _):
        reply = session.respond()
        with pytest.raises(RequestRejected, match=r"the server refused response\.create"):
            await reply


async def test_the_session_ends_first() -> None:
    """A reply that is awaited when the session ends raises with the close's reason."""
    async with joined() as (session, peer):
        reply = session.respond()
        peer.hang_up(1001, "60 minutes")
        with pytest.raises(SessionClosed, match=r"closed with 1001 \(60 minutes\) before the resp"):
            await reply


async def test_a_mistake_is_raised_by_the_call() -> None:
    """What the server would refuse fails at once, even if it would have had to wait."""
    async with joined() as (session, peer):
        session.respond()
        with pytest.raises(InvalidEvent):
            session.respond(max_output_tokens=0)
        assert types(peer) == ["response.create"]


async def test_text_comes_as_it_is_made() -> None:
    """`text` gives words and transcript of this response only, those from before included."""
    async with joined() as (session, peer):
        reply = session.respond()
        speak(peer)
        spoken = ev.ResponseOutputAudioTranscriptDelta(
            response_id="resp_1", item_id="i", output_index=0, content_index=0, delta="lo"
        )
        peer.say(word("hel"), word("other", "resp_2"), spoken)
        words = reply.text()
        assert await anext(words) == "hel"
        peer.say(word("!"), done("resp_1"))
        assert [text async for text in words] == ["lo", "!"]
        assert [text async for text in reply.text()] == []


async def test_audio_is_kept_from_the_call_on() -> None:
    """`audio` gives what comes after its call, whether or not iteration has begun."""
    async with joined() as (session, peer):
        reply = session.respond()
        speak(peer)
        peer.say(sound(b"before"))
        audio = reply.audio()
        peer.say(sound(b"one"), sound(b"other", "resp_2"), sound(b"two"), done("resp_1"))
        assert [piece async for piece in audio] == [b"one", b"two"]
        assert [piece async for piece in reply.audio()] == []


@pytest.mark.parametrize("kind", ["text", "audio"])
async def test_a_reply_may_be_read_without_being_held(kind: str) -> None:
    """`async for word in session.respond().text()` reads to the end."""
    async with joined() as (session, peer):
        reading = getattr(session.respond(), kind)()
        gc.collect()
        speak(peer)
        peer.say(word("one"), sound(b"one"), done("resp_1"))
        assert [piece async for piece in reading] == ["one" if kind == "text" else b"one"]


@pytest.mark.parametrize("kind", ["text", "audio"])
@pytest.mark.parametrize("code", [1006, 1011])
async def test_an_answer_that_is_cut_off_says_so(kind: str, code: int) -> None:
    """A connection that breaks in mid-answer gives a reader what has come, and then raises."""
    async with joined() as (session, peer):
        reply = session.respond()
        reading = getattr(reply, kind)()
        speak(peer)
        peer.say(word("one"), sound(b"one"))
        peer.hang_up(code)
        assert await anext(reading) == ("one" if kind == "text" else b"one")
        with pytest.raises(SessionClosed, match=f"closed with {code} .* before the response was"):
            await anext(reading)
        with pytest.raises(SessionClosed):  # whoever begins to read only now
            await anext(getattr(reply, kind)())


@pytest.mark.parametrize("ends", ["in mid-answer", "behind the answer"])
async def test_reading_ends_where_the_session_ends_in_order(ends: str) -> None:
    """A clean close ends a reader quietly, and so does any end behind ``response.done``."""
    async with joined() as (session, peer):
        words = session.respond().text()
        speak(peer)
        peer.say(word("one"))
        if ends == "in mid-answer":
            peer.hang_up(1001, "60 minutes")
        else:
            peer.say(done("resp_1"))
            peer.hang_up(1006)
        assert [piece async for piece in words] == ["one"]


@pytest.mark.breaks_rules("*")
async def test_reading_can_be_left() -> None:
    """A reader may stop in the middle; nothing listens after the response's end."""
    async with joined() as (session, peer):
        reply = session.respond()
        speak(peer)
        peer.say(word("a"), sound(b"a"))
        async for _ in reply.text():
            break
        reply.audio()
        peer.say(done("resp_1"))
        before = session.statistics().frames_skipped
        peer.say(word("late"), sound(b"late"))
        assert session.statistics().frames_skipped == before + 2


async def test_an_injected_response_is_still_recognised() -> None:
    """A plugin that delays ``response.done`` delays the next request, and wedges nothing."""
    async with joined() as (session, peer):
        kept = list[ev.Event]()
        session.intercept("response.done", lambda event, session: kept.append(event))
        reply = session.respond()
        speak(peer)
        peer.say(done("resp_1", metadata_of(peer, 0)))
        assert not reply.done
        session.inject(kept[0])
        assert reply.done


async def test_a_reply_that_failed_keeps_nothing_alive() -> None:
    """Its error's traceback holds the reply; that must not hold the session for ever."""
    kept: list[ref[object]] = []

    async def ask() -> None:
        async with joined() as (session, peer):
            kept.append(ref(session))
            reply = session.respond()
            peer.say(refusal(peer.sent[0].event_id))
            with pytest.raises(RequestRejected):
                await reply

    await ask()
    await anyio.lowlevel.checkpoint()
    gc.collect()
    assert kept[0]() is None
