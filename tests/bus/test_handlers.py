"""What a handler may look like, and what is refused where it is registered."""

# ruff: noqa: D102, D103  # the samples say by their names what they are

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol, TypeVar

import msgspec
import pytest

from realtime_bus import Bus, Session, UsageError
from realtime_bus import events as ev

from ._peer import joined, speech

pytestmark = pytest.mark.anyio

Started = ev.InputAudioBufferSpeechStarted
heard: list[Any] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    heard.clear()


class Listener:
    """Methods and calls of an object, in every shape."""

    def plain(self, event: Started) -> None:
        heard.append(("plain", event.audio_start_ms))

    async def slow(self, event: Started, session: Session) -> None:
        heard.append(("slow", session.id))

    @staticmethod
    def static(event: Started) -> None:
        heard.append(("static", event.audio_start_ms))

    @classmethod
    async def of_class(cls, event: Started) -> None:
        heard.append((cls.__name__, event.audio_start_ms))


class Callable:
    """A callable object."""

    def __call__(self, event: Started, session: Session) -> None:
        heard.append(("called", session.id))


class AsyncCallable:
    """A callable object that must be awaited."""

    async def __call__(self, event: Started) -> None:
        heard.append(("awaited", event.audio_start_ms))


def labelled(label: str, event: Started) -> None:
    heard.append((label, event.audio_start_ms))


async def labelled_async(event: Started, session: Session, *, label: str) -> None:
    heard.append((label, session.id))


SHAPES: list[tuple[Any, tuple[str, Any]]] = [
    (Listener().plain, ("plain", 7)),
    (Listener().slow, ("slow", "sess_1")),
    (Listener.static, ("static", 7)),
    (Listener.of_class, ("Listener", 7)),
    (Callable(), ("called", "sess_1")),
    (AsyncCallable(), ("awaited", 7)),
    (functools.partial(labelled, "partial"), ("partial", 7)),
    (functools.partial(labelled_async, label="async"), ("async", "sess_1")),
    (functools.partial(functools.partial(AsyncCallable())), ("awaited", 7)),
    (lambda event: heard.append(("lambda", event.audio_start_ms)), ("lambda", 7)),
    (lambda event, session: heard.append(("both", session.id)), ("both", "sess_1")),
    (lambda event, session=None: heard.append(("named", session.id)), ("named", "sess_1")),
    (lambda event, n=3: heard.append(("own default", n)), ("own default", 3)),
    (lambda *both: heard.append(("stars", both[1].id)), ("stars", "sess_1")),
    (lambda event, *rest: heard.append(("rest", len(rest))), ("rest", 1)),
]


@pytest.mark.parametrize(("handler", "expected"), SHAPES)
async def test_every_shape_of_handler_is_called(handler: Any, expected: tuple[str, Any]) -> None:
    """Functions, methods, callable objects, partials and lambdas work, plain or async."""
    bus = Bus()
    assert bus.on(Started)(handler) is handler
    async with joined(bus) as (_, peer):
        peer.say(speech(7))
    assert heard == [expected]


class HasStart(Protocol):
    """What a handler may ask for in place of a class."""

    audio_start_ms: int


E = TypeVar("E", bound=ev.Event)


def wider(event: ev.ServerEvent) -> None: ...
def widest(event: object) -> None: ...
def struct(event: msgspec.Struct) -> None: ...
def protocol(event: HasStart) -> None: ...
def generic(event: E) -> E:
    return event


def unresolvable(event: "Missing") -> None: ...  # type: ignore[name-defined] # noqa: F821, UP037  # as under TYPE_CHECKING


@pytest.mark.parametrize("handler", [wider, widest, struct, protocol, generic, unresolvable])
def test_an_annotation_that_admits_the_event_is_accepted(handler: Any) -> None:
    """Wider classes, protocols, type variables and names that cannot be resolved pass."""
    assert Bus().on(Started)(handler) is handler


def other(event: ev.ResponseDone) -> None: ...
def half(event: ev.InputAudioBufferSpeechStarted) -> None: ...
def number(event: int) -> None: ...
def three(event: Any, session: Any, more: Any) -> None: ...
def nothing() -> None: ...
def by_keyword(event: Any, *, session: Any) -> None: ...
def yields(event: Any) -> Iterator[int]:
    yield 1


async def yields_later(event: Any) -> AsyncIterator[int]:
    yield 1


class Silent:
    """A callable that does not say what it takes, like some written in C."""

    __signature__ = "unknown"

    def __call__(self, event: Any) -> None: ...


REFUSED: list[tuple[Any, str]] = [
    (other, "other is registered for InputAudioBufferSpeechStarted, InputAudioBufferSpeech"),
    (half, "annotated with InputAudioBufferSpeechStarted; make the two agree"),
    (number, "number: its parameter 'event' is annotated with int is not an event"),
    (three, "cannot be called with (event) or (event, session)"),
    (nothing, "cannot be called with (event) or (event, session)"),
    (by_keyword, "cannot be called with (event) or (event, session)"),
    (Callable, "Callable is a class; register an instance or a function"),
    ("text", "'text' is not callable; a handler takes (event) or (event, session)"),
    (yields, "yields is a generator, which nobody would iterate"),
    (yields_later, "yields_later is a generator"),
    (Silent(), "has no signature that can be read; wrap it"),
]


@pytest.mark.parametrize(("handler", "message"), REFUSED)
def test_a_handler_that_cannot_work_is_refused(handler: Any, message: str) -> None:
    """A wrong annotation or signature fails at registration and says how it should look."""
    with pytest.raises(UsageError) as caught:
        Bus().on("input_audio_buffer.speech_*")(handler)
    assert message in str(caught.value)


def test_a_predicate_must_be_callable() -> None:
    """A ``where`` that is no function is refused."""
    with pytest.raises(UsageError, match="where=True must be a function of the event"):
        Bus().on(Started, where=True)(wider)  # type: ignore[call-overload]  # the mistake


async def awaited(event: Any) -> None: ...


WRONG_OPTIONS: list[tuple[Any, dict[str, Any], str]] = [
    (wider, {"mode": "later"}, "mode='later' is not known; choose one of inline, queue, eager"),
    (wider, {"overflow": "grow", "mode": "queue"}, "overflow='grow' is not known"),
    (wider, {"colour": 1}, "there is no option 'colour'"),
    (
        wider,
        {"timeout_s": 1},
        "an inline function has no mailbox: only mode, name and narrowed apply",
    ),
    (
        awaited,
        {"mode": "inline"},
        "an async function cannot run inline; mode='eager' comes closest",
    ),
    (wider, {"mode": "eager"}, "mode='eager' is for async functions"),
    (awaited, {"mode": "eager", "limit": 2}, "limit applies to mode='parallel' only"),
    (awaited, {"limit": 2}, "limit applies to mode='parallel' only"),
    (awaited, {"mode": "parallel", "limit": 0}, "limit=0 must be a positive integer"),
    (awaited, {"mode": "parallel", "limit": 1.5}, "limit=1.5 must be a positive integer"),
    (awaited, {"max_pending": -1}, "max_pending=-1 must be a positive integer"),
    (awaited, {"timeout_s": True}, "timeout_s=True must be a positive number"),
    (awaited, {"mode": "latest", "max_pending": 3}, "mode='latest' keeps one event"),
]


@pytest.mark.parametrize(("handler", "options", "message"), WRONG_OPTIONS)
def test_a_wrong_option_is_refused(handler: Any, options: dict[str, Any], message: str) -> None:
    """An option that cannot work fails at registration, with the handler's name."""
    with pytest.raises(UsageError) as caught:
        Bus().on(Started, **options)(handler)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{__name__}.{handler.__qualname__}")
