"""What a handler may be registered for."""

from __future__ import annotations

from typing import Any

import pytest

from realtime_bus import Bus, UsageError, pattern
from realtime_bus import events as ev

from ._peer import joined, speech, word

pytestmark = pytest.mark.anyio

DELTA = "response.output_text.delta"


async def heard_by(*selectors: Any) -> list[str]:
    """Return which of a few events reach a handler that is registered so."""
    bus, heard = Bus(), list[str]()
    bus.on(*selectors)(lambda event: heard.append(event.type))
    async with joined(bus) as (_, peer):
        peer.say(speech(), word("a"))
        peer.say(ev.ResponseOutputTextDone(response_id="r", item_id="i", text="a"))
    return heard


async def test_by_class() -> None:
    """A handler registered for a class gets events of that class only."""
    assert await heard_by(ev.ResponseOutputTextDelta) == [DELTA]


async def test_by_wire_name() -> None:
    """A wire name does the same as the class."""
    assert await heard_by(DELTA) == [DELTA]


async def test_by_pattern() -> None:
    """In a pattern, a star stands for any characters, dots included."""
    assert await heard_by("response.*") == [DELTA, "response.output_text.done"]
    assert await heard_by(pattern("*t.delta")) == [DELTA]


async def test_by_union() -> None:
    """A union of classes stands for its members."""
    union = ev.ResponseOutputTextDelta | ev.InputAudioBufferSpeechStarted
    assert await heard_by(union) == ["input_audio_buffer.speech_started", DELTA]


async def test_by_several_selectors() -> None:
    """Several selectors may be mixed, and an event that fits two of them comes once."""
    heard = await heard_by(ev.ResponseOutputTextDelta, "response.output_text.*")
    assert heard == [DELTA, "response.output_text.done"]


async def test_a_tuple_counts_as_several() -> None:
    """A tuple of selectors does as well as several arguments."""
    assert await heard_by((DELTA, ev.InputAudioBufferSpeechStarted)) == [
        "input_audio_buffer.speech_started",
        DELTA,
    ]


async def test_by_base_class() -> None:
    """`ServerEvent` stands for everything a server sends, `BusEvent` for what the bus says."""
    server = ["session.created", "input_audio_buffer.speech_started", DELTA]
    assert (await heard_by(ev.ServerEvent))[:3] == server
    assert await heard_by(ev.BusEvent) == ["bus.connected", "bus.closed"]


async def test_a_star_and_the_root_stand_for_everything() -> None:
    """``"*"`` and `Event` both mean every event."""
    everything = await heard_by("*")
    assert everything == await heard_by(ev.Event)
    assert {"session.created", DELTA, "bus.connected", "bus.closed"} <= set(everything)


async def test_a_predicate_decides() -> None:
    """With ``where``, a handler gets the events for which the predicate is true."""
    bus, heard = Bus(), list[int]()

    @bus.on(ev.InputAudioBufferSpeechStarted, where=lambda event: event.audio_start_ms > 10)
    def late(event: ev.InputAudioBufferSpeechStarted) -> None:
        heard.append(event.audio_start_ms)

    async with joined(bus) as (_, peer):
        peer.say(speech(5), speech(15), speech(25))
    assert heard == [15, 25]


MISTAKES: list[tuple[tuple[Any, ...], str]] = [
    (("response.dne",), "there is no event 'response.dne'; did you mean 'response.done'"),
    (("speech_startd",), "there is no event 'speech_startd'"),
    (("response.*.nothing",), "the pattern 'response.*.nothing' matches no event"),
    ((), "give at least one event: a class such as events.ResponseDone"),
    ((ev.SessionUpdate,), "SessionUpdate is an event that we send, so no handler ever gets it"),
    ((ev.ClientEvent,), "ClientEvent is an event that we send"),
    ((int,), "int is not an event; the events are in realtime_bus.events"),
    ((ev.Response,), "Response is not an event"),
    ((5,), "5 is neither an event class nor a wire name"),
    ((print,), "with the event in parentheses"),
]


@pytest.mark.parametrize(("selectors", "message"), MISTAKES)
def test_a_wrong_selector_is_refused(selectors: tuple[Any, ...], message: str) -> None:
    """A selector that stands for nothing fails at registration and says what was meant."""
    with pytest.raises(UsageError) as caught:
        Bus().on(*selectors)(lambda event: None)
    assert message in str(caught.value)


def test_the_parentheses_were_forgotten() -> None:
    """Using ``@bus.on`` without an event is explained, not misunderstood."""
    with pytest.raises(UsageError, match=r"write @bus\.on\(EventClass\) above the handler"):

        @Bus().on  # type: ignore[call-overload]  # the mistake that this is about
        def handler(event: ev.Event) -> None: ...
