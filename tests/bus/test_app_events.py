"""Events of an application's own: selected, emitted, logged and counted like all others."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from realtime_bus import Bus, Session, UsageError
from realtime_bus import events as ev
from realtime_bus_plugins.event_log import EventLog

from ._peer import joined, quiet, speech

pytestmark = pytest.mark.anyio

Started = ev.InputAudioBufferSpeechStarted


class OrderEvent(ev.AppEvent):
    """What all events about orders have."""

    order_id: str


class OrderPlaced(OrderEvent):
    """Somebody has ordered something."""

    dishes: int = 1


class OrderPaid(OrderEvent, tag="till.paid"):
    """An order is paid for."""


def test_what_an_event_of_ones_own_is() -> None:
    """The wire name follows from the class or is given; it is frozen and keyword-only."""
    placed: Any = OrderPlaced(order_id="o1")
    assert (placed.type, OrderPaid(order_id="o1").type) == ("app.order_placed", "till.paid")
    assert placed.to_dict() == {"type": "app.order_placed", "order_id": "o1", "dishes": 1}
    with pytest.raises(AttributeError, match="immutable"):
        placed.dishes = 2
    with pytest.raises(TypeError):
        OrderPlaced("o1")  # type: ignore[misc]  # the mistake


def test_a_name_that_is_taken_is_refused() -> None:
    """A class cannot pass for an event of the wire or of the bus."""
    for name in ("response.done", "bus.closed", "response.audio.delta"):
        with pytest.raises(UsageError, match=f"takes the wire name '{name}'"):
            type(ev.AppEvent)("Impostor", (ev.AppEvent,), {}, tag=name)


SELECTORS: list[tuple[Any, list[str]]] = [
    (OrderPlaced, ["app.order_placed"]),
    (OrderEvent, ["app.order_placed", "till.paid"]),
    (OrderPlaced | OrderPaid, ["app.order_placed", "till.paid"]),
    (ev.AppEvent, ["app.order_placed", "till.paid"]),
    (ev.BusEvent, ["app.order_placed", "till.paid", "bus.closed"]),
    (ev.Event, ["app.order_placed", "till.paid", Started.__struct_config__.tag, "bus.closed"]),
    ("*", ["app.order_placed", "till.paid", Started.__struct_config__.tag, "bus.closed"]),
    ("app.order_placed", ["app.order_placed"]),
    ("till.paid", ["till.paid"]),
    ("app.*", ["app.order_placed"]),
    ("*.paid", ["till.paid"]),
    ((OrderPaid, "bus.closed"), ["till.paid", "bus.closed"]),
    (ev.ServerEvent, [Started.__struct_config__.tag]),
]


@pytest.mark.parametrize(("selector", "expected"), SELECTORS, ids=lambda value: str(value)[:40])
async def test_how_they_are_selected(selector: Any, expected: list[str]) -> None:
    """By class, base class, union, own name, pattern and ``"*"``, beside those of the wire."""
    heard = list[str]()
    async with joined() as (session, peer):
        session.on(selector)(lambda event: heard.append(event.type))
        session.emit(OrderPlaced(order_id="o1"))
        session.emit(OrderPaid(order_id="o1"))
        peer.say(speech())
    assert heard == expected


@pytest.mark.parametrize(
    "selector", ["*", "app.*", "app.late_*", ev.AppEvent, ev.Event, OrderEvent]
)
async def test_a_class_that_is_defined_after_the_handler(selector: Any) -> None:
    """What is defined later is selected all the same, in sessions that are open, too."""
    heard = list[str]()
    if selector == "app.late_*":  # a pattern that fits nothing would be a mistake

        class LateBloomer(ev.AppEvent): ...

        assert LateBloomer().type == "app.late_bloomer"
    async with joined() as (session, _):
        session.on(selector)(lambda event: heard.append(event.type))
        session.emit(OrderPlaced(order_id="o1"))

        class LateOrder(OrderEvent): ...

        session.emit(LateOrder(order_id="o2"))
    assert "app.late_order" in heard


async def test_a_mistyped_name_is_told() -> None:
    """A name that nothing has is refused, with what was probably meant."""
    with pytest.raises(UsageError, match=r"did you mean 'app\.order_placed'"):
        Bus().on("app.order_place")


async def test_two_classes_of_one_name() -> None:
    """By name both are meant, by class only the one; ``reload`` of a module makes such a pair."""

    def define() -> Any:
        class Reloaded(ev.AppEvent): ...

        return Reloaded

    first, second = define(), define()
    by_name, by_class = list[type](), list[type]()
    async with joined() as (session, _):
        session.on("app.reloaded")(lambda event: by_name.append(type(event)))
        session.on(first)(lambda event: by_class.append(type(event)))
        session.emit(first())
        session.emit(second())
    assert by_name == [first, second]
    assert by_class == [first]


async def test_a_name_means_the_events_of_that_name_alone() -> None:
    """A class derived from one that is registered by its wire name has a name of its own."""

    class Order(ev.AppEvent, tag="shop.order"): ...

    class Rush(Order, tag="shop.rush_order"): ...

    by_name, by_class, by_pattern = list[str](), list[str](), list[str]()
    async with joined() as (session, _):
        session.on("shop.order")(lambda event: by_name.append(event.type))
        session.on(Order)(lambda event: by_class.append(event.type))
        session.on("shop.*")(lambda event: by_pattern.append(event.type))
        session.emit(Order())
        session.emit(Rush())
    assert by_name == ["shop.order"]
    assert by_class == by_pattern == ["shop.order", "shop.rush_order"]


async def test_handlers_emit_what_other_handlers_get() -> None:
    """An event that is emitted in a handler is delivered there and then, in every mode."""
    trace = list[str]()
    async with joined() as (session, peer):

        @session.on(Started)
        def begin(event: Started, session: Session) -> None:
            session.emit(OrderPlaced(order_id="o1"))
            trace.append("begun")

        @session.on(OrderPlaced)
        def place(event: OrderPlaced) -> None:
            trace.append("placed")

        @session.on(OrderPlaced)
        async def cook(event: OrderPlaced, session: Session) -> None:
            trace.append("cooked")
            session.emit(OrderPaid(order_id=event.order_id))

        session.on(OrderPaid)(lambda event: trace.append("paid"))
        peer.say(speech())
        assert trace == ["placed", "begun"]
        await quiet()
    assert trace == ["placed", "begun", "cooked", "paid"]


async def test_they_can_be_awaited_streamed_and_intercepted() -> None:
    """What works for a server's events works for an application's."""
    async with joined() as (session, _):
        stream, paid = session.stream(OrderEvent), session.wait_for("till.paid")
        session.intercept(OrderPlaced, lambda event, session: None)
        session.emit(OrderPlaced(order_id="o1"))
        session.emit(OrderPaid(order_id="o2"))
        assert (await paid).order_id == "o2"
        async for event in stream:
            assert event.order_id == "o2"
            break


async def test_they_are_logged_and_counted() -> None:
    """The event log has a line of each, statistics count what their handlers did."""
    lines, bus = io.StringIO(), Bus()

    @bus.on(OrderEvent, name="kitchen")
    async def cook(event: OrderEvent) -> None:
        if isinstance(event, OrderPaid):
            raise LookupError("too late")  # noqa: TRY004  # any error does

    log = EventLog(render="json", file=lines)
    async with joined(bus, plugins=[log]) as (session, _):
        session.emit(OrderPlaced(order_id="o1", dishes=3))
        session.emit(OrderPaid(order_id="o1"))
        await quiet()
        [figures] = session.statistics().handlers[:1]
        assert (figures.handler, figures.delivered, figures.failed) == ("kitchen", 2, 1)
    assert bus.statistics().handlers[0].delivered == 2
    logged = {line["event"]: line for line in map(json.loads, lines.getvalue().splitlines())}
    assert logged["app.order_placed"]["dishes"] == 3
    assert logged["app.order_placed"]["way"] == "app"
    assert "till.paid" in logged
