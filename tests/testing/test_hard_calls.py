"""Calls that go wrong in ways that nobody ordered: what the kit must outlive, and say."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from realtime_bus import Bus, Session, UpgradeRefused, UsageError
from realtime_bus import events as ev
from realtime_bus.server import Speech, faults
from realtime_bus_plugins.devices import Microphone, Speaker

LONG = "First, warm one litre of stock in a small pot, and keep it hot while you cook."


async def test_a_server_that_lets_nobody_in(place_call: Any) -> None:
    """What `connect` raises comes out, in no group."""
    with pytest.raises(UpgradeRefused):
        async with place_call(Bus(), faults=[faults.Refuse(status=503)]):
            pass


async def test_a_plugin_that_cannot_be_attached(place_call: Any) -> None:
    """The same."""

    class Clumsy:
        def attach(self, _session: Session) -> None:
            raise LookupError("oh")

    with pytest.raises(LookupError):
        async with place_call(Bus(plugins=[Clumsy()])):
            pass


async def test_a_bus_that_raises_what_its_handlers_raise(place_call: Any) -> None:
    """Their error comes out, and not what the person could not do because of it."""
    bus = Bus(raise_handler_errors=True)

    @bus.on(ev.InputAudioBufferSpeechStarted)
    async def clumsy(_event: ev.InputAudioBufferSpeechStarted) -> None:
        raise LookupError("oh")

    with pytest.raises(LookupError):  # noqa: PT012  # at the end of it
        async with place_call(bus, ["Yes?"]) as call:
            await call.person.says("Hello.")
            await call.person.hears()


async def test_an_agent_that_hangs_up(place_call: Any) -> None:
    """The person is told, whatever they do at the time."""
    bus = Bus()

    @bus.on(ev.InputAudioBufferSpeechStarted)
    async def hang_up(_event: ev.InputAudioBufferSpeechStarted, session: Session) -> None:
        await anyio.sleep(0.5)
        session.start_soon(session.aclose)

    async with place_call(bus) as call:
        with pytest.raises(AssertionError, match="cannot end saying 'Hello, is there"):
            await call.person.says("Hello, is there anybody?")
        await call.settles()
        with pytest.raises(AssertionError, match="cannot say 'Hello"):
            await call.person.says("Hello?")
    call.assert_order("person “Hello", "hears speech", "closed (1000)")


async def test_a_person_who_speaks_while_there_is_no_connection(place_call: Any) -> None:
    """The call goes on, whatever becomes of the words."""
    plan = [faults.Refuse(connection=number) for number in (2, 3)]
    async with place_call(Bus(), ["Yes?", "Nine."], faults=plan, tolerate={"unscripted"}) as call:
        await call.person.says("Hello.")
        await call.person.hears()
        call.server.drop()
        await call.person.says("Are you there?")
        with anyio.move_on_after(30):
            await call.session.wait_for(ev.Reconnected)
        await call.person.says("How long?")
        assert await call.person.hears() == "Nine."


async def test_no_server(place_call: Any) -> None:
    """Who wants to tamper with it while there is none is told so."""
    async with place_call(Bus(), reconnect=False) as call:
        call.server.drop()
        await call.session.wait_closed()
        await anyio.sleep(1)
        with pytest.raises(UsageError, match="no connection at the moment"):
            call.server.drop()


async def test_a_call_is_placed_once(place_call: Any) -> None:
    """A second one is another call."""
    placed = place_call(Bus(), ["Yes?"])
    async with placed:
        pass
    with pytest.raises(UsageError, match="place another one"):
        async with placed:
            pass


async def test_two_calls_of_one_agent_after_one_another(place_call: Any) -> None:
    """Nothing of the first is left in the second."""
    bus = Bus()
    for words in ("One.", "Two."):
        async with place_call(bus, [words]) as call:
            await call.person.says("Hello.")
            assert await call.person.hears() == words
            assert call.heard == [words]
        assert bus.sessions == ()


async def test_people_who_speak_both_at_once(place_call: Any) -> None:
    """One mouth says one thing after the other."""
    async with place_call(Bus(), ["Yes?"], tolerate={"unscripted"}) as call:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call.person.says, "One, two, three.")
            tasks.start_soon(call.person.says, "Four, five, six.")
        one, two = call.person.said
        assert one.ended_s is not None
        assert two.began_s >= one.ended_s


@pytest.mark.virtual_time(backends=["asyncio"])
@pytest.mark.parametrize(
    "words", ["", " ", "🙂", "…", "a" * 100, "two\n\nlines\tand a tab", "İ 中文"]
)
async def test_words_of_any_kind(words: str, place_call: Any) -> None:
    """Whatever a person or a model says, is said, and is heard as it was said."""
    async with place_call(Bus(), [words, "Yes?"], tolerate={"unscripted"}) as call:
        await call.person.says(words)
        if words.strip():
            assert await call.person.hears() == words.strip()
        await call.settles()


async def test_a_model_that_says_and_does_nothing(place_call: Any) -> None:
    """An empty answer is an answer."""
    async with place_call(Bus(), [[], "Yes?"]) as call:
        await call.person.says("Hello.")
        await call.settles()
        await call.person.says("Hello?")
        assert await call.person.hears() == "Yes?"


async def test_a_model_that_fails(place_call: Any) -> None:
    """A function of the test's that raises fails the response, and the call is blamed for it."""

    def fails(_request: Any) -> str:
        raise LookupError("oh")

    async with place_call(Bus(), [fails, "Yes?"]) as call:
        await call.person.says("Hello.")
        await call.settles()
    assert "server     response failed" in call.story


async def test_an_item_that_is_spoken_in_two_parts_by_another_responder(place_call: Any) -> None:
    """What cannot be known to the word is told in proportion."""

    class Hums:
        async def respond(self, _request: Any) -> Any:
            yield Speech(bytes(96_000), "One two three four")

    async with place_call(Bus(), Hums()) as call:
        await call.person.says("Hello.")
        await call.person.interrupts("Stop.", after_s=1.0)
        assert await call.person.hears() == "One two"


async def test_a_long_silence(place_call: Any) -> None:
    """Silence costs next to nothing."""
    async with place_call(Bus(), ["Yes?"], limit_s=200) as call:
        await call.person.keeps_silent(120)
        await call.person.says("Hello.")
        assert await call.person.hears() == "Yes?"
        assert call.now_s > 120


@pytest.mark.parametrize("device", [Microphone, Speaker])
def test_an_agent_with_devices(device: Any, place_call: Any) -> None:
    """Nothing is opened; it is told what to do."""
    with pytest.raises(UsageError, match=f"{device.__name__} is a device, .* make the bus"):
        place_call(Bus(plugins=[device()]))
