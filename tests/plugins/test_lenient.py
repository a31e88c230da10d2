"""Whatever a server sends, no part of ours fails: every event, every field, anything in it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import anyio
import msgspec
import pytest
from msgspec import inspect

from realtime_bus import Bus, Session, UsageError, decode, narrow
from realtime_bus import events as ev
from realtime_bus.audio import AcknowledgedSink
from realtime_bus.transport import PushTransport
from realtime_bus_plugins.backchannel import Backchannel
from realtime_bus_plugins.event_log import EventLog
from realtime_bus_plugins.history import History
from realtime_bus_plugins.interruption import Interruption
from realtime_bus_plugins.protocol_check import ProtocolCheck
from realtime_bus_plugins.sinks import NullSink, WavSink
from realtime_bus_plugins.tools import Tools
from realtime_bus_plugins.turn_metrics import TurnMetrics

pytestmark = [pytest.mark.anyio, pytest.mark.breaks_rules("*")]

MISSING: Any = object()
ODD: list[Any] = [
    MISSING,
    None,
    [],
    ["a"],
    {},
    {"id": 1},
    -1,
    1.5,
    True,
    "",
    "x",
    10**400,
    "i" * 3000,
]
"""What stands where something else should: also numbers that no float holds, and long ids."""


def sound(node: inspect.Type, name: str = "") -> Any:  # noqa: PLR0911  # a table of types
    """Return plain data that a type takes."""
    if isinstance(node, inspect.StructType):
        plain = {f.encode_name: sound(f.type, f.name) for f in node.fields}
        return plain | ({node.tag_field: node.tag} if node.tag_field else {})
    if isinstance(node, inspect.UnionType):
        return sound(node.types[0], name)
    if isinstance(node, inspect.ListType):
        return [sound(node.item_type, name)]
    if isinstance(node, inspect.DictType):
        return {"k": sound(node.value_type)}
    if isinstance(node, inspect.LiteralType):
        return node.values[0]
    if isinstance(node, inspect.StrType):
        return {"response_id": "resp_1", "id": "item_1", "item_id": "item_1"}.get(name, "text")
    return _SOUND.get(type(node))


_SOUND: dict[type[inspect.Type], Any] = {
    inspect.IntType: 10,
    inspect.FloatType: 0.5,
    inspect.BoolType: True,
    inspect.RawType: "AAAA",
}


def places(plain: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container within plain data with each of its keys."""
    keys = (
        plain if isinstance(plain, dict) else range(len(plain)) if isinstance(plain, list) else ()
    )
    for key in list(keys):
        yield plain, key
        yield from places(plain[key])


def odd_frames(cls: type[ev.Event]) -> Iterator[bytes]:
    """Yield frames of an event with one odd value each, wherever one can be; and bare ones."""
    plain = sound(inspect.type_info(cls))
    yield json.dumps({"type": plain["type"]}).encode()
    yield json.dumps(dict.fromkeys(plain) | {"type": plain["type"]}).encode()
    for holder, key in places(plain):
        if holder is plain and key == "type":
            continue
        good = holder[key]
        for odd in ODD:
            if odd is MISSING:
                del holder[key]
            else:
                holder[key] = odd
            yield json.dumps(plain).encode()
            if isinstance(holder, list):
                holder[key:] = [good]
            else:
                holder[key] = good


def every_plugin() -> list[Any]:
    """Return all plugins that take part in a session by themselves."""
    tools = Tools()

    @tools.tool
    def text(k: str = "") -> str:
        """Take anything."""
        return k

    sinks = [NullSink(), WavSink(), AcknowledgedSink(send=len_of, clear=list)]
    return [
        ProtocolCheck(),
        Backchannel(sinks[0]),
        EventLog(file=io.StringIO(), level="debug", texts=True),
        *sinks,
        *map(Interruption, sinks),
        TurnMetrics(),
        tools,
        History(),
    ]


def len_of(piece: Any) -> None:
    """Take a piece of audio."""
    assert piece.audio


CONTEXT = (
    {"type": "session.created", "session": {"type": "realtime", "id": "sess_1"}},
    {"type": "response.created", "response": {"id": "resp_1", "conversation_id": "conv_1"}},
)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ev.PROTOCOLS)
async def test_no_part_of_ours_fails_at_what_was_read_leniently(
    protocol: Any, anyio_backend_name: str
) -> None:
    """Any value in any field of any event costs that field; everything of ours takes it."""
    every = 1 if anyio_backend_name == "asyncio" else 7  # values mean the same on both backends
    failed = set[str]()
    transport = PushTransport(send=len)
    bus = Bus(log_errors=False)
    bus.on(ev.HandlerFailed)(
        lambda event: (
            isinstance(event.error, UsageError)  # Backchannel tells of useless settings
            or failed.add(f"{event.event_type}: {event.handler}: {event.error!r:.100}")
        )
    )
    fields = {"protocol": protocol, "plugins": every_plugin()}
    async with bus.session(transport, wait_created=False, **fields) as session:
        await anyio.wait_all_tasks_blocked()
        for plain in CONTEXT:
            transport.feed(json.dumps(plain).encode())
        for cls in ev.PROTOCOLS[protocol].server.values():
            for frame in islice(odd_frames(cls), 0, None, every):
                transport.feed(frame)
                look_at(session)
        assert session.close_info is None
    assert not failed


def look_at(session: Session) -> None:
    """Read what a session says of itself; all of it must be of its type."""
    settings, conversation = session.settings, session.conversation
    assert isinstance(settings.model, str | None)
    assert isinstance(settings.output_format, ev.AudioFormat)
    assert isinstance(settings.input_format, ev.AudioFormat)
    assert isinstance(settings.server_interrupts, bool)
    assert isinstance(session.id, str | None)
    assert isinstance(conversation.active_response_id, str | None)
    assert isinstance(conversation.user_speaking, bool)


@pytest.mark.parametrize("name", ev.REALTIME.server)
def test_what_is_narrowed_is_of_its_type(name: str) -> None:
    """A narrowed event can be read again strictly, but for unknown words and odd numbers."""
    cls = ev.REALTIME.server[name]
    for frame in odd_frames(cls):
        event = decode(frame)
        assert type(event) is cls
        narrowed = narrow(event)
        assert narrow(narrowed) is narrowed
        if "UnknownObject" in repr(narrowed):
            continue
        with suppress(msgspec.ValidationError):
            assert msgspec.json.decode(narrowed.to_json(), type=cls) == narrowed
            continue
        with pytest.raises(msgspec.ValidationError, match=r"Invalid enum value|[<>]="):
            msgspec.json.decode(narrowed.to_json(), type=cls)
