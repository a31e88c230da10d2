"""Events of which something did not fit: raw for who looks at it, narrowed for who builds on it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from realtime_bus import Bus, HandlerGroup, Plugin, Session, decode, intercept, narrow, on
from realtime_bus import events as ev

from ._peer import joined, quiet, word

pytestmark = pytest.mark.anyio

Word = ev.ResponseOutputTextDelta
ODD = b'{"type":"response.output_text.delta","response_id":["r"],"item_id":"i","delta":5}'


async def test_each_handler_gets_it_as_it_wants() -> None:
    """By default what did not fit is there raw; with ``narrowed`` all fields are of their types."""
    seen = dict[str, Any]()
    bus, group = Bus(), HandlerGroup()

    @group.on(Word)
    def grouped(event: Word) -> None:
        seen["grouped"] = event.response_id, event.delta

    bus.include(group, narrowed=True)
    async with joined(bus) as (session, peer):
        for mode in ("queue", "eager", "parallel", "latest"):

            @session.on(Word, mode=mode, narrowed=True)  # type: ignore[call-overload, untyped-decorator, unused-ignore]  # a mode in a variable
            async def later(event: Word, mode: str = mode) -> None:
                seen[mode] = event.response_id, event.delta

        session.on(Word)(lambda event: seen.update(raw=(event.response_id, event.delta)))
        session.on(Word, narrowed=True, where=lambda event: event.delta == "")(
            lambda event: seen.update(inline=(event.response_id, event.delta))
        )
        waiting = session.wait_for(Word)
        peer.say(ODD)
        await quiet()
        assert (await waiting).delta == 5  # type: ignore[comparison-overlap]  # raw data
    assert seen.pop("raw") == (["r"], 5)
    assert set(seen) == {"grouped", "queue", "eager", "parallel", "latest", "inline"}
    assert set(seen.values()) == {("", "")}


async def test_an_event_that_fits_is_one_and_the_same() -> None:
    """Where nothing is wrong, nobody gets another object."""
    seen = list[ev.Event]()
    async with joined() as (session, peer):
        session.on(Word)(seen.append)
        session.on(Word, narrowed=True)(seen.append)
        peer.say(word("a"), word("b"))
    assert seen[0] is seen[1]
    assert narrow(seen[2]) is seen[2]


class Careful(Plugin):
    """A plugin with declared methods that wants no raw data."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    @intercept(Word, narrowed=True)
    def let_pass(self, event: Word, session: Session) -> Word:
        """Look at it."""
        self.seen.append(("intercepted", event.delta))
        return event

    @on(Word, narrowed=True)
    def handle(self, event: Word) -> None:
        """Handle it."""
        self.seen.append(("handled", event.delta))


async def test_declared_methods_may_want_it_narrowed() -> None:
    """An interceptor that lets pass what it was given takes nothing away from raw handlers."""
    plugin, raw = Careful(), list[Any]()
    async with joined(plugins=[plugin]) as (session, peer):
        session.on(Word)(lambda event: raw.append(event.delta))
        peer.say(ODD)
    assert plugin.seen == [("intercepted", ""), ("handled", "")]
    assert raw == [5]


@pytest.mark.parametrize("narrowed", [False, True])
async def test_an_interceptor_that_replaces_it_replaces_both(*, narrowed: bool) -> None:
    """What comes out is what all get, narrowed for who wants that."""
    raw, typed = list[Any](), list[Any]()
    async with joined() as (session, peer):
        session.intercept(Word, lambda event, _: replace(event, item_id="new"), narrowed=narrowed)
        session.on(Word)(lambda event: raw.append((event.item_id, event.delta)))
        session.on(Word, narrowed=True)(lambda event: typed.append((event.item_id, event.delta)))
        peer.say(ODD)
    assert raw == [("new", "" if narrowed else 5)]
    assert typed == [("new", "")]


@pytest.mark.parametrize("narrowed", [False, True])
async def test_one_that_was_held_goes_on_behind_its_holder(*, narrowed: bool) -> None:
    """Held and injected, it is still raw for some and narrowed for others, as it was held."""
    held, raw, typed = list[Any](), list[Any](), list[Any]()
    async with joined() as (session, peer):
        session.intercept(Word, lambda event, _: held.append(event), narrowed=narrowed)
        session.on(Word)(lambda event: raw.append(event.delta))
        session.on(Word, narrowed=True)(lambda event: typed.append(event.delta))
        peer.say(ODD)
        assert raw == typed == []
        session.inject(held[0])
    assert raw == [held[0].delta]
    assert typed == [""]
    assert len(held) == 1


def test_what_narrowing_makes_of_values() -> None:
    """Optional fields are left out, required ones empty; what can be kept is kept."""
    response = narrow(
        decode(
            b'{"type":"response.done","response":{"id":7,"status":"melted","conversation_id":[],'
            b'"metadata":{"a":"b","c":4},"usage":{"total_tokens":"x","input_tokens":3},'
            b'"output":[7,{"type":"dance","id":"d"},{"type":"function_call","name":["f"]}]}}'
        )
    ).response  # type: ignore[attr-defined]  # it is a ResponseDone
    assert response.id is None
    assert response.status == "melted"
    assert not response.conversation_id
    assert response.metadata == {"a": "b"}
    assert response.usage == ev.Usage(input_tokens=3)
    assert [type(item) for item in response.output] == [
        ev.UnknownObject,
        ev.UnknownObject,
        ev.FunctionCallItem,
    ]
    assert [item.id for item in response.output] == [None, "d", None]
    assert (response.output[2].name, response.output[2].arguments) == ("", "")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b'{"type":"error","error":"boom"}', "boom"),
        (b'{"type":"error","error":{"message":["boom"]}}', "array"),
        (b'{"type":"error"}', ""),
    ],
)
def test_what_an_error_says_is_kept(frame: bytes, message: str) -> None:
    """In whatever shape a server complains, some text is left of it."""
    error = narrow(decode(frame)).error  # type: ignore[attr-defined]  # it is an Error
    assert isinstance(error, ev.ErrorDetails)
    assert message in error.message
