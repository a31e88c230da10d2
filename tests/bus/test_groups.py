"""Handlers that are declared apart from a bus: in groups of a module, and as methods of plugins."""

# ruff: noqa: D102  # the samples say by their names what they are

from __future__ import annotations

import logging
from typing import Any

import pytest
from anyio import sleep_forever

import realtime_bus
from realtime_bus import Bus, HandlerGroup, Plugin, Session, UsageError
from realtime_bus import events as ev

from ._peer import Peer, joined, quiet, speech, word

pytestmark = pytest.mark.anyio

Started = ev.InputAudioBufferSpeechStarted
WORD = "response.output_text.delta"

# Groups

handlers = HandlerGroup()
heard = list[Any]()


@pytest.fixture(autouse=True)
def nothing_heard() -> None:
    """Begin anew."""
    heard.clear()


@handlers.on(Started)
async def queued(event: Started, session: Session) -> None:
    """Take an event from a mailbox."""
    heard.append(("queued", session.id))


@handlers.on(Started, where=lambda event: event.audio_start_ms > 0)
def inline(event: Started) -> None:
    """Take an event in the reader."""
    heard.append(("inline", event.audio_start_ms))


@handlers.once(WORD)
def first_word(event: ev.ResponseOutputTextDelta) -> None:
    """Take the first word alone."""
    heard.append(("word", event.delta))


async def test_a_group_is_included_with_all_of_its_handlers() -> None:
    """`Bus.include` registers handlers as they were declared; the functions stay as they were."""
    bus = Bus()
    bus.include(handlers)
    async with joined(bus) as (_, peer):
        peer.say(speech(0), speech(1), word("a"), word("b"))
        await quiet()
    assert sorted(heard, key=str) == [
        ("inline", 1),
        ("queued", "sess_1"),
        ("queued", "sess_1"),
        ("word", "a"),
    ]
    inline(speech(7))
    assert heard[-1] == ("inline", 7)


async def test_names_in_statistics_carry_the_module() -> None:
    """Two modules' handlers of one name can be told from each other; a name of its own stays."""
    bus, group = Bus(), HandlerGroup()
    group.on(Started, name="mine")(lambda event: None)
    bus.include(handlers)
    bus.include(group)
    async with joined(bus) as (session, _):
        names = [figures.handler for figures in session.statistics().handlers]
    assert names == [f"{__name__}.{n}" for n in ("queued", "inline", "first_word")] + ["mine"]
    assert [figures.handler for figures in bus.statistics().handlers] == names


async def test_names_in_the_log_carry_the_module(caplog: pytest.LogCaptureFixture) -> None:
    """A failure is reported under the handler's module and name."""

    def fail(event: Started) -> None:
        raise ValueError

    async with joined() as (session, peer):
        failed = session.wait_for(ev.HandlerFailed)
        session.on(Started)(fail)
        with caplog.at_level(logging.ERROR):
            peer.say(speech())
        assert (await failed).handler == f"{__name__}.{fail.__qualname__}"
    assert f"{__name__}.{fail.__qualname__}" in caplog.text


async def test_a_group_belongs_to_as_many_buses_as_include_it() -> None:
    """Each bus has registrations of its own, `once` among them; two on one bus run twice."""
    left, right = Bus(), Bus()
    for bus in (left, right, right):
        bus.include(handlers)
    async with joined(left) as (_, one), joined(right) as (_, two):
        one.say(word("left"), word("late"))
        two.say(word("right"), word("late"))
    assert heard == [("word", "left"), ("word", "right"), ("word", "right")]


async def test_a_group_is_included_as_it_is_now() -> None:
    """What is added to a group afterwards has no part in a bus that has included it."""
    group, bus = HandlerGroup(), Bus()
    bus.include(group)
    group.on(Started)(inline)
    async with joined(bus) as (_, peer):
        peer.say(speech(1))
        bus.include(group)
        peer.say(speech(2))
    assert heard == [("inline", 2)]


async def test_handlers_of_a_group_can_be_taken_out() -> None:
    """`off` knows the functions, whichever way they were registered."""
    bus = Bus()
    bus.include(handlers)
    async with joined(bus) as (session, peer):
        session.off(inline)
        peer.say(speech(1))
        await quiet()
        bus.off(queued)
        peer.say(speech(2))
        await quiet()
    assert heard == [("queued", "sess_1")]


async def test_options_of_a_group_are_for_handlers_that_have_none() -> None:
    """A handler's own options come first; mailboxes' leave plain functions alone."""
    bus, group = Bus(), HandlerGroup()

    @group.on(Started)
    async def slow(event: Started) -> None:
        heard.append("slow")
        await sleep_forever()

    @group.on(Started, timeout_s=60)
    async def patient(event: Started) -> None:
        heard.append("patient")

    group.on(Started)(lambda event: heard.append("plain"))
    group.on(Started, mode="queue")(lambda event: heard.append("thread"))
    bus.include(group, timeout_s=0.5, max_pending=5)
    async with joined(bus) as (session, peer):
        failed = session.wait_for(ev.HandlerFailed)
        peer.say(speech())
        assert "slow took longer than its timeout_s=0.5" in str((await failed).error)
    assert sorted(heard) == ["patient", "plain", "slow", "thread"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "all"}, "name=... belongs to a handler"),
        ({"mode": "sideways"}, "mode='sideways' is not known"),
        ({"mode": "eager"}, "mode='eager' is for async functions"),
        ({"limit": 3}, "limit applies to mode='parallel' only"),
        ({"retries": 3}, "there is no option 'retries'"),
    ],
)
def test_options_that_cannot_work_are_refused(options: Any, message: str) -> None:
    """`include` complains as `on` does, and has registered nothing then."""
    bus = Bus()
    with pytest.raises(UsageError, match=message):
        bus.include(handlers, **options)
    assert bus.statistics().handlers == []


@pytest.mark.parametrize(
    "options", [{"colour": 1}, {"mode": "fast"}, {"limit": 0}, {"name": "n"}], ids=str
)
def test_options_of_an_empty_group_are_checked(options: Any) -> None:
    """A mistyped option is told, also while the group has no handlers."""
    with pytest.raises(UsageError):
        Bus().include(HandlerGroup(), **options)


def test_a_mistake_is_told_where_it_is_written() -> None:
    """A group complains when a handler is declared, not when it is included."""
    group = HandlerGroup()
    with pytest.raises(UsageError, match=r"no event 'response\.dome'"):
        group.on("response.dome")  # type: ignore[call-overload]  # the mistake
    with pytest.raises(UsageError, match="annotated with ResponseDone"):

        @group.on(Started)  # type: ignore[arg-type]  # the mistake
        def wrong(event: ev.ResponseDone) -> None: ...


# Methods of plugins


class Greeter(Plugin):
    """Declares what it wants where it stands."""

    def __init__(self) -> None:
        self.trace: list[Any] = []

    @realtime_bus.on(Started)
    async def queued(self, event: Started, session: Session) -> None:
        self.trace.append(("queued", session.id))

    @realtime_bus.on(WORD)
    @realtime_bus.on(Started, where=lambda event: event.audio_start_ms > 1)
    def both(self, event: Any) -> None:
        self.trace.append(("both", event.type))

    @realtime_bus.once(Started)
    def first(self, event: Started) -> None:
        self.trace.append(("first", event.audio_start_ms))

    @realtime_bus.intercept(WORD)
    def shout(self, event: ev.ResponseOutputTextDelta, session: Session) -> ev.Event | None:
        self.trace.append(("shout", event.delta))
        return event if event.delta else None

    @realtime_bus.intercept_outgoing("input_audio_buffer.clear", ev.ResponseCancel)
    def keep(self, event: ev.ClientEvent, session: Session) -> ev.ClientEvent | None:
        self.trace.append(("keep", event.type))
        return None


def say_all(peer: Peer) -> None:
    """Let the server say something of each."""
    peer.say(speech(1), speech(2), word(""), word("a"))


async def test_declared_methods_are_registered_with_each_session() -> None:
    """Handlers, `once`, interceptors both ways, several for a method; no `attach` is needed."""
    greeter = Greeter()
    bus = Bus(plugins=[greeter])
    for _ in range(2):
        greeter.trace.clear()
        async with joined(bus) as (session, peer):
            say_all(peer)
            assert not session.send_nowait(ev.InputAudioBufferClear())
            assert not session.send_nowait(ev.ResponseCancel())
            await quiet()
        assert peer.sent == []
        assert [each for each in greeter.trace if each[0] != "queued"] == [
            ("first", 1),
            ("both", Started.__struct_config__.tag),
            ("shout", ""),
            ("shout", "a"),
            ("both", WORD),
            ("keep", "input_audio_buffer.clear"),
            ("keep", "response.cancel"),
        ]
        assert greeter.trace.count(("queued", "sess_1")) == 2


async def test_two_objects_of_a_class_have_their_own_events() -> None:
    """The methods of one object get the events of its session."""
    left, right = Greeter(), Greeter()
    async with joined(plugins=[left]) as (_, one), joined(plugins=[right]) as (_, two):
        one.say(speech(1))
        two.say(speech(5))
    assert ("first", 1) in left.trace
    assert ("first", 5) in right.trace


class Loud(Greeter):
    """Inherits declarations, overrides some, adds one."""

    def both(self, event: Any) -> None:  # without a declaration: it wants nothing any more
        self.trace.append("never")

    @realtime_bus.on(ev.ResponseDone)
    def first(self, event: Any) -> None:
        self.trace.append(("first of Loud", event.type))

    @realtime_bus.on(Started)
    def more(self, event: Started) -> None:
        self.trace.append(("more", event.audio_start_ms))

    def attach(self, session: Session) -> None:
        """Take part beside what is declared."""
        session.on(Started)(lambda event: self.trace.append(("attached", event.audio_start_ms)))


async def test_declarations_are_inherited_and_overridden() -> None:
    """A method that overrides is what its own declaration says: another event, or none."""
    loud = Loud()
    async with joined(plugins=[loud]) as (_, peer):
        peer.say(speech(2), word("a"), ev.ResponseDone(response=ev.Response(id="r")))
    assert [each for each in loud.trace if each[0] != "queued"] == [
        ("more", 2),
        ("attached", 2),
        ("shout", "a"),
        ("first of Loud", "response.done"),
    ]


async def test_declared_methods_can_be_taken_out() -> None:
    """`Session.off` knows bound methods: handlers and interceptors of both ways."""
    greeter = Greeter()
    async with joined(plugins=[greeter]) as (session, peer):
        for method in (greeter.queued, greeter.both, greeter.first, greeter.shout, greeter.keep):
            session.off(method)
        say_all(peer)
        assert session.send_nowait(ev.InputAudioBufferClear())
        with pytest.raises(UsageError, match=r"Greeter\.keep is not registered here"):
            session.off(greeter.keep)
    assert greeter.trace == []


async def test_methods_that_are_called_by_hand_work_as_before() -> None:
    """The decorators leave a method what it was."""
    greeter = Greeter()
    greeter.both(speech(9))
    assert greeter.trace == [("both", Started.__struct_config__.tag)]


def test_declarations_without_plugin_as_a_base() -> None:
    """A class with declared methods that is no plugin is refused, with what to do."""

    class Forgetful:
        @realtime_bus.on(Started)
        def listen(self, event: Started) -> None: ...

    forgetful: Any = Forgetful()
    with pytest.raises(UsageError, match="derive its class from Plugin"):
        Bus(plugins=[forgetful])


def test_a_method_without_its_object() -> None:
    """`@bus.on` in a class body would get the event for `self`: refused, with what to write."""
    bus, group = Bus(), HandlerGroup()
    for on in (bus.on, bus.once, group.on):
        with pytest.raises(UsageError, match=r"is a method without its object; decorate it with"):

            class Mistaken:
                @on(Started)  # type: ignore[arg-type]  # the mistake  # used in this turn
                def listen(self, event: Started) -> None: ...


def test_a_mistake_in_a_declaration_is_told_in_the_class() -> None:
    """Selectors of declared methods are looked at where they are written."""
    with pytest.raises(UsageError, match=r"no event 'response\.dome'"):
        realtime_bus.on("response.dome")  # type: ignore[call-overload]  # the mistake
    with pytest.raises(UsageError, match="is an event that we receive"):
        realtime_bus.intercept_outgoing(ev.ResponseDone)
    with pytest.raises(UsageError, match="is an event that we send"):
        realtime_bus.intercept(ev.ResponseCreate)
