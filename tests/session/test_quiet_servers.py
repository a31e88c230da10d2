"""Responses on servers that say less than OpenAI's: no metadata, no ids, no word of an end."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest

from realtime_bus import RequestRejected
from realtime_bus import events as ev
from realtime_bus.session import _arbiter

from ..bus._peer import joined, quiet, refusal, sound, word  # noqa: TID252  # tests are no package with a name of its own
from ._replies import RACE, created, done, metadata_of, speak, types

pytestmark = pytest.mark.anyio

STARTED = ev.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="item_u")
STOPPED = ev.InputAudioBufferSpeechStopped(audio_end_ms=900, item_id="item_u")


def absent(event: Any) -> Any:
    """Leave metadata out."""
    response = msgspec.structs.replace(event.response, metadata=msgspec.UNSET)
    return msgspec.structs.replace(event, response=response)


async def test_a_server_that_says_null_for_ever_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first reply is known when its response is over, with what came of it; others at once."""
    monkeypatch.setattr(_arbiter, "ROUND_TRIP_S", 0.01)
    async with joined() as (session, peer):
        first = session.respond()
        words = first.text()
        peer.say(created("resp_1"), word("hel"), word("lo"), done("resp_1"))
        with anyio.fail_after(2):
            assert (await first).id == "resp_1"
        assert [text async for text in words] == ["hel", "lo"]
        second = session.respond()
        peer.say(created("resp_2"))
        assert second.id == "resp_2"
        peer.say(done("resp_2"))
        assert (await second).id == "resp_2"


async def test_null_metadata_of_a_server_that_echoes_misleads_nobody() -> None:
    """The server's own short response within the round trip is not taken for the answer."""
    async with joined() as (session, peer):
        reply = session.respond()
        peer.say(created("resp_own"), done("resp_own"))
        await quiet()
        assert not reply.done
        speak(peer)
        peer.say(done("resp_1", metadata_of(peer, 0)))
        assert (await reply).id == "resp_1"


@pytest.mark.parametrize(
    "error",
    [
        refusal(None, code="rate_limit_exceeded"),
        refusal(None, code=None),
        refusal(None, code="invalid_value", param="response.instructions"),
    ],
)
async def test_a_nameless_refusal_shifts_no_later_reply(error: ev.Error) -> None:
    """It means the request that is under way; the next one gets its own response."""
    async with joined() as (session, peer):
        first, second = session.respond(), session.respond()
        peer.say(error)
        with pytest.raises(RequestRejected):
            await first
        peer.say(absent(created("resp_2")), absent(done("resp_2")))
        assert (await second).id == "resp_2"


async def test_a_nameless_complaint_about_something_else_is_not_a_requests() -> None:
    """What an error's code or param tells, or what else awaits an answer, is not overlooked."""
    async with joined() as (session, peer):
        reply = session.respond()
        peer.say(refusal(None, code=None, param="audio"))
        peer.say(refusal(None, code="item_delete_invalid_item_id"))
        session.start_soon(session.clear_input)
        await quiet()
        peer.say(refusal(None, code=None))
        assert not reply.done
        peer.say(ev.InputAudioBufferCleared())


@pytest.mark.breaks_rules("event-id-once")  # asked again, after a refusal that named nobody
async def test_the_servers_own_response_within_the_round_trip() -> None:
    """It answers what somebody said; our request is refused without a name, and asked again."""
    async with joined() as (session, peer):
        learned = session.respond()
        peer.say(absent(created("resp_0")), absent(done("resp_0")))
        assert (await learned).id == "resp_0"
        reply = session.respond(while_speaking=True)
        peer.say(STARTED, STOPPED, absent(created("resp_own")))
        assert reply.id is None
        peer.say(refusal(None, code=RACE), absent(done("resp_own")))
        assert not reply.done
        peer.say(absent(created("resp_1")), absent(done("resp_1")))
        assert (await reply).id == "resp_1"


@pytest.mark.breaks_rules("event-id-once")
async def test_a_lost_race_without_a_name_takes_back_what_was_given_by_order() -> None:
    """A response that nobody could tell from ours was another's: the refusal says so."""
    async with joined() as (session, peer):
        reply = session.respond()
        peer.say(absent(created("resp_own")))
        assert reply.id == "resp_own"
        peer.say(refusal(None, code=RACE))
        assert reply.id is None
        peer.say(absent(done("resp_own")), absent(created("resp_1")), absent(done("resp_1")))
        assert (await reply).id == "resp_1"


async def test_a_request_that_ran_out_of_time_takes_no_later_response() -> None:
    """Of two out of band, the first was never answered: the second gets what comes."""
    async with joined() as (session, peer):
        lost = session.respond(conversation="none", timeout_s=0.001)
        with pytest.raises(TimeoutError):
            await lost
        reply = session.respond(conversation="none")
        aside = ev.Response(id="resp_2", metadata=msgspec.UNSET)
        peer.say(ev.ResponseCreated(response=aside), ev.ResponseDone(response=aside))
        assert (await reply).id == "resp_2"
        assert lost.id is None


# --- signs of life ---------------------------------------------------------------------------


@pytest.mark.breaks_rules("*")
async def test_frames_are_signs_of_life_while_somebody_waits() -> None:
    """Each frame of a response is looked at while a request is queued, and skipped otherwise."""
    async with joined() as (session, peer):
        session.respond()
        speak(peer)
        peer.say(sound(b"\0\0"))
        assert session.statistics().frames_skipped == 1
        queued = session.respond()
        peer.say(sound(b"\0\0"))
        assert session.statistics().frames_skipped == 1
        await queued.cancel()
        peer.say(sound(b"\0\0"))
        assert session.statistics().frames_skipped == 2


async def test_nothing_to_cancel_frees_the_next() -> None:
    """``response_cancel_not_active`` proves that a response is over, whose end nobody saw."""
    async with joined() as (session, peer):
        session.respond()
        speak(peer)
        reply = session.respond()
        await quiet()
        peer.answer = lambda event: (
            [refusal(event.event_id, code="response_cancel_not_active")]
            if isinstance(event, ev.ResponseCancel)
            else ()
        )
        await session.cancel_response()
        assert types(peer) == ["response.create", "response.cancel", "response.create"]
        speak(peer, 1, "resp_2")
        peer.say(done("resp_2"))
        assert (await reply).id == "resp_2"


async def test_nothing_to_cancel_ends_what_its_owner_cancelled() -> None:
    """A reply whose ``response.done`` was lost ends as cancelled, and `cancel` returns."""
    async with joined() as (session, peer):
        reply = session.respond()
        speak(peer)
        peer.answer = lambda _: [refusal(None, code="response_cancel_not_active")]
        await reply.cancel()
        assert (await reply).status == "cancelled"
        assert session.active_response_id is None


@pytest.mark.breaks_rules("cancel-something")
async def test_a_cancel_that_came_too_late_frees_no_other() -> None:
    """The refusal is about the response that the cancel named."""
    async with joined() as (session, peer):
        peer.say(created("resp_1"))
        await session.send(ev.ResponseCancel(event_id="c", response_id="resp_1"))
        peer.say(done("resp_1"), created("resp_2"))
        peer.say(refusal("c", code="response_cancel_not_active"))
        assert session.active_response_id == "resp_2"


# --- who speaks ------------------------------------------------------------------------------


async def test_a_request_waits_for_the_end_of_speech_and_the_servers_answer() -> None:
    """Barge-in ends the active response; what is queued follows the answer to what was said."""
    async with joined() as (session, peer):
        session.respond()
        speak(peer)
        reply = session.respond()
        peer.say(STARTED, done("resp_1", status="cancelled"))
        assert types(peer) == ["response.create"]
        peer.say(STOPPED, ev.InputAudioBufferCommitted(item_id="item_u"))
        assert types(peer) == ["response.create"]
        peer.say(created("resp_vad"), done("resp_vad"))
        assert types(peer) == ["response.create"] * 2
        speak(peer, 1, "resp_2")
        peer.say(done("resp_2"))
        assert (await reply).id == "resp_2"


async def test_who_does_not_want_to_wait_for_the_person() -> None:
    """``while_speaking`` goes at once, ahead of those who wait; out of band never waits."""
    async with joined() as (session, peer):
        peer.say(STARTED)
        session.respond(instructions="polite")
        session.respond(instructions="urgent", while_speaking=True)
        session.respond(instructions="aside", conversation="none")
        said = [event.response.instructions for event in peer.sent]
        assert said == ["urgent", "aside"]


@pytest.mark.parametrize(
    "turn_detection",
    [None, ev.ServerVad(create_response=False)],
    ids=["manual", "no response"],
)
async def test_where_the_server_answers_nothing_by_itself(turn_detection: Any) -> None:
    """The end of speech is enough; without turn detection nobody is known to speak."""
    source = ev.AudioInputConfig(turn_detection=turn_detection)
    settings = ev.RealtimeSession(id="sess_1", audio=ev.AudioConfig(input=source))
    async with joined() as (session, peer):
        peer.say(STARTED)
        session.respond()
        assert types(peer) == []
        peer.say(ev.SessionUpdated(session=settings))
        if turn_detection is not None:
            assert types(peer) == []
            peer.say(STOPPED)
        assert types(peer) == ["response.create"]


async def test_replacing_the_answer_that_the_server_owes() -> None:
    """It cannot be prevented: it is cancelled as soon as it begins."""
    async with joined() as (session, peer):
        peer.say(STARTED, STOPPED)
        session.respond(replace=True)
        peer.say(created("resp_vad"))
        assert [event.response_id for event in peer.sent] == ["resp_vad"]
        peer.say(done("resp_vad", status="cancelled"))
        assert types(peer) == ["response.cancel", "response.create"]


@pytest.mark.parametrize(
    ("said", "limit"), [([STARTED], "SPEECH_S"), ([STARTED, STOPPED], "ANSWER_S")]
)
async def test_what_never_comes_holds_up_nobody(
    said: list[Any], limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A muted microphone ends no speech, and not every turn is answered."""
    monkeypatch.setattr(_arbiter, limit, 0.01)
    async with joined() as (session, peer):
        asked = anyio.Event()
        peer.answer = lambda _: asked.set()
        peer.say(*said)
        session.respond()
        assert types(peer) == []
        with anyio.fail_after(2):
            await asked.wait()


@pytest.mark.breaks_rules("one-active-response")  # for the checker, nothing has begun
async def test_a_response_without_an_id_holds_up_nobody() -> None:
    """Nobody knows when it is over, so the next request goes at once; no part of ours fails."""
    failed = list[ev.HandlerFailed]()
    async with joined() as (session, peer):
        session.on(ev.HandlerFailed)(failed.append)
        first = session.respond(while_speaking=True)
        second = session.respond(while_speaking=True)
        assert len(peer.sent) == 1
        mark = peer.sent[0].response.metadata
        peer.say(ev.ResponseCreated(response=ev.Response(metadata=mark)))
        assert len(peer.sent) == 2
        peer.say(ev.ResponseDone(response=ev.Response(metadata=mark)))
        assert first.done
        assert not second.done
    assert failed == []
