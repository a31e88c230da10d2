"""Requests for a response that are cancelled, replaced or given up."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from realtime_bus import Reply, RequestTimeout, Session
from realtime_bus import events as ev
from realtime_bus.session import _responses

from ..bus._peer import joined, quiet, refusal  # noqa: TID252  # tests are no package with a name of its own
from ._replies import RACE, created, done, metadata_of, speak, types

pytestmark = pytest.mark.anyio


async def test_cancelling_one_that_waits() -> None:
    """A request in the queue is taken out, and its reply ends as cancelled."""
    async with joined() as (session, peer):
        session.respond()
        reply = session.respond()
        await reply.cancel()
        response = await reply
        assert response.status == "cancelled"
        assert types(peer) == ["response.create"]


async def test_cancelling_one_that_is_sent() -> None:
    """A request on its way is cancelled as soon as it has an id."""
    async with joined() as (session, peer):
        reply = session.respond()
        session.start_soon(reply.cancel)
        await quiet()
        assert types(peer) == ["response.create"]
        speak(peer)
        assert peer.sent[1].response_id == "resp_1"
        peer.say(done("resp_1", status="cancelled"))
        assert (await reply).status == "cancelled"


async def test_cancelling_one_that_loses_a_race() -> None:
    """A request on its way that nobody wants any more is not sent again."""
    async with joined() as (session, peer):
        reply = session.respond()
        session.start_soon(reply.cancel)
        await quiet()
        peer.say(created("resp_own"), refusal(peer.sent[0].event_id, code=RACE), done("resp_own"))
        assert (await reply).status == "cancelled"
        assert types(peer) == ["response.create"]


async def test_cancelling_one_that_speaks() -> None:
    """An active response is cancelled by its id, and the call waits for its end."""
    async with joined() as (session, peer):
        reply = session.respond()
        speak(peer)
        peer.answer = lambda event: [done("resp_1", status="cancelled")]
        await reply.cancel()
        assert reply.done
        assert peer.sent[1].response_id == "resp_1"
        await reply.cancel()
        assert len(peer.sent) == 2


async def test_cancelling_what_nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never creates the response makes `cancel` run out of time."""
    monkeypatch.setattr(_responses, "_CANCEL_TIMEOUT_S", 0.01)
    async with joined() as (session, _):
        with pytest.raises(RequestTimeout, match=r"not done within 0\.01 s"):
            await session.respond().cancel()


async def test_replacing_what_speaks() -> None:
    """``replace=True`` cancels the active response, and starts after its ``done``."""
    async with joined() as (session, peer):
        session.respond()
        speak(peer)
        reply = session.respond(replace=True)
        assert types(peer) == ["response.create", "response.cancel"]
        assert peer.sent[1].response_id == "resp_1"
        peer.say(done("resp_1", status="cancelled"))
        assert types(peer)[2:] == ["response.create"]
        speak(peer, 1, "resp_2")
        peer.say(done("resp_2"))
        assert (await reply).id == "resp_2"


async def test_replacing_what_is_only_asked_for() -> None:
    """A request that has no response yet is replaced as soon as it has one."""
    async with joined() as (session, peer):
        session.respond()
        session.respond(replace=True)
        speak(peer)
        assert types(peer) == ["response.create", "response.cancel"]


async def test_out_of_band_goes_its_own_way() -> None:
    """A response with ``conversation="none"`` neither waits nor replaces."""
    async with joined() as (session, peer):
        session.respond()
        speak(peer)
        reply = session.respond(conversation="none", replace=True)
        assert types(peer) == ["response.create"] * 2
        aside = ev.Response(id="resp_2", metadata=metadata_of(peer, 1))
        peer.say(ev.ResponseCreated(response=aside), ev.ResponseDone(response=aside))
        assert (await reply).id == "resp_2"
        assert session.active_response_id == "resp_1"


async def give_up_by_time(session: Session) -> Reply:
    """Await a reply until its own time is up."""
    reply = session.respond(timeout_s=0.01)
    with pytest.raises(RequestTimeout, match=r"give respond\(\) a longer timeout_s") as caught:
        await reply
    assert caught.value.event_type == "response.create"
    return reply


async def give_up_by_cancellation(session: Session) -> Reply:
    """Await a reply and be cancelled."""
    reply = session.respond()
    with anyio.move_on_after(0.01):
        await reply
    return reply


@pytest.mark.parametrize("give_up", [give_up_by_time, give_up_by_cancellation])
async def test_who_gives_up_takes_the_request_back(give_up: Any) -> None:
    """A request that still waits when its caller goes is never sent; one that is sent goes on."""
    async with joined() as (session, peer):
        first = await give_up(session)
        second = await give_up(session)
        assert second.done
        speak(peer)
        peer.say(done("resp_1"))
        assert types(peer) == ["response.create"]
        assert (await first).id == "resp_1"
