"""Which wire name is which class: protocols by name, and events that are never on the wire."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from realtime_bus import UsageError, encode
from realtime_bus import events as ev
from realtime_bus.errors import InvalidEvent


class OrderPlaced(ev.AppEvent):
    """An application's event, without further words."""

    total: float = 0.0
    order_id: str


def test_a_protocol_is_found_by_its_name() -> None:
    """A name leads to the protocol, and a protocol to itself."""
    assert ev.wire_protocol("translation") is ev.TRANSLATION
    assert ev.wire_protocol(ev.REALTIME) is ev.REALTIME
    assert {name: found.name for name, found in ev.PROTOCOLS.items()} == {
        "realtime": "realtime",
        "translation": "translation",
    }


def test_a_wire_name_can_be_another_event_in_another_protocol() -> None:
    """Names that protocols share lead to a class of each, and old names are a protocol's own."""
    shared = ev.REALTIME.server.keys() & ev.TRANSLATION.server.keys()
    assert "session.created" in shared
    assert ev.REALTIME.server["session.created"] is not ev.TRANSLATION.server["session.created"]
    assert "response.audio.delta" in ev.REALTIME.old_names
    assert ev.TRANSLATION.old_names == {}


def test_an_unknown_protocol_is_a_mistake_that_names_the_known() -> None:
    """The message lists what there is."""
    name: Any = "telepathy"
    with pytest.raises(UsageError, match="'telepathy'; known are 'realtime' and"):
        ev.wire_protocol(name)


def test_an_application_event_needs_no_further_words() -> None:
    """It is frozen, keyword-only, hashable, and named after its class."""
    event = OrderPlaced(order_id="o_1")
    assert event.type == "app.order_placed"
    assert event.to_dict() == {"type": "app.order_placed", "total": 0.0, "order_id": "o_1"}
    assert OrderPlaced.from_dict(event.to_dict()) == event
    assert len({event, OrderPlaced(order_id="o_1")}) == 1
    unchecked: Any = event
    with pytest.raises(AttributeError, match="immutable"):
        unchecked.total = 1.0
    with pytest.raises(TypeError, match="positional"):
        OrderPlaced(*["o_1"])  # type: ignore[call-arg]  # the mistake


@pytest.mark.parametrize(
    ("name", "wire_name"),
    [("Tick", "app.tick"), ("HTTPFailed", "app.http_failed"), ("Agent2Ready", "app.agent2_ready")],
)
def test_a_wire_name_follows_from_a_class_name(name: str, wire_name: str) -> None:
    """The words of the class name, in lower case."""
    cls: Any = type(ev.AppEvent)(name, (ev.AppEvent,), {})
    assert cls().type == wire_name


def test_an_explicit_name_wins_and_a_subclass_has_its_own() -> None:
    """``tag`` names one class; those derived from it are named after themselves."""

    class Shop(ev.AppEvent, tag="shop.any"):
        pass

    class ShopClosed(Shop):
        pass

    assert (Shop().type, ShopClosed().type) == ("shop.any", "app.shop_closed")


@pytest.mark.parametrize("base", [ev.BusEvent, ev.AppEvent])
@pytest.mark.parametrize(
    "taken",
    ["response.done", "session.update", "session.closed", "bus.closed", "response.audio.delta"],
)
def test_a_taken_wire_name_is_refused(base: Any, taken: str) -> None:
    """No event of one's own takes a name of a protocol, of the beta, or of the bus."""
    with pytest.raises(UsageError, match=f"Mine takes the wire name '{taken}'"):

        class Mine(base, tag=taken):
            pass


def test_own_events_are_found_however_late_they_are_defined() -> None:
    """The bus's, a plugin's and an application's; not the bases that they derive from."""

    class CallHeld(ev.BusEvent, tag="telephony.held"):
        call_id: str

    gc.collect()  # namesakes that other tests have left
    assert OrderPlaced in ev.own_events()  # another test's may have the same wire name
    assert OrderPlaced.__struct_config__.tag == "app.order_placed"
    found = {cls.__struct_config__.tag: cls for cls in ev.own_events()}
    assert found["telephony.held"] is CallHeld
    assert ev.BUS_EVENTS.items() <= found.items()
    assert not {ev.BusEvent, ev.AppEvent} & set(found.values())


def test_an_own_event_is_not_kept_alive() -> None:
    """A class that nobody holds any more is collected."""

    class Brief(ev.AppEvent):
        pass

    brief = weakref.ref(Brief)
    assert Brief in ev.own_events()
    del Brief
    gc.collect()
    assert brief() is None
    assert "app.brief" not in {cls.__struct_config__.tag for cls in ev.own_events()}


def test_an_own_event_has_no_place_on_the_wire() -> None:
    """Sending one is refused."""
    with pytest.raises(InvalidEvent, match=r"app\.order_placed"):
        encode(OrderPlaced(order_id="o_1"))
