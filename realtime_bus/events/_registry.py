"""Which wire name is which class: by protocol, and for the events that are never on the wire.

A wire name belongs to one protocol: another may use it for an event of another shape. So there
is no table of all protocols together, and whoever has a frame must know which one it speaks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Literal, TypeVar

from realtime_bus.errors import UsageError

from . import _bus, _client, _server, translation  # pyright: ignore[reportPrivateUsage]  # rooms of this package

# whole modules, to find the classes in them
from ._base import ClientEvent, Event, ServerEvent
from ._bus import TAKEN_NAMES, AppEvent, BusEvent

_E = TypeVar("_E", bound=Event)

ProtocolName = Literal["realtime", "translation"]
"""What the protocols are called."""


@dataclass(frozen=True, slots=True, eq=False)
class WireProtocol:
    """A protocol's events by wire name.

    Attributes:
        name: What the protocol is called.
        server: What a server sends.
        client: What a client sends.
        old_names: Names that a server's events had in earlier versions, and their names now.
    """

    name: ProtocolName
    server: Mapping[str, type[ServerEvent]]
    client: Mapping[str, type[ClientEvent]]
    old_names: Mapping[str, str] = field(default_factory=dict[str, str])


def _by_wire_name(module: ModuleType, base: type[_E]) -> dict[str, type[_E]]:
    """Return a module's public classes that derive from `base`."""
    public = (found for name, found in vars(module).items() if not name.startswith("_"))
    classes = (found for found in public if isinstance(found, type) and issubclass(found, base))
    return {str(cls.__struct_config__.tag): cls for cls in classes if cls is not base}


_BETA_NAMES: Mapping[str, str] = {
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
}
"""Server events of the beta protocol that GA has only renamed, with their GA names.

``conversation.item.created`` is not here: GA's schema kept it, so it has a class of its own.
Neither is ``transcription_session.*``, whose session is flat.
"""

REALTIME = WireProtocol(
    "realtime",
    server=_by_wire_name(_server, ServerEvent),
    client=_by_wire_name(_client, ClientEvent),
    old_names=_BETA_NAMES,
)
"""The GA realtime protocol: 46 events one way, 11 the other."""

TRANSLATION = WireProtocol(
    "translation",
    server=_by_wire_name(translation, ServerEvent),
    client=_by_wire_name(translation, ClientEvent),
)
"""The translation protocol: 7 events one way, 3 the other."""

PROTOCOLS: Mapping[ProtocolName, WireProtocol] = {
    protocol.name: protocol for protocol in (REALTIME, TRANSLATION)
}
"""The protocols by name."""


def wire_protocol(protocol: WireProtocol | ProtocolName) -> WireProtocol:
    """Return a protocol by its name; a `WireProtocol` is returned as it is.

    Raises:
        UsageError: No protocol has this name.
    """
    if isinstance(protocol, WireProtocol):
        return protocol
    if protocol not in PROTOCOLS:
        known = " and ".join(map(repr, PROTOCOLS))
        raise UsageError(f"there is no protocol {protocol!r}; known are {known}")
    return PROTOCOLS[protocol]


BUS_EVENTS: Mapping[str, type[BusEvent]] = {
    name: cls for name, cls in _by_wire_name(_bus, BusEvent).items() if cls is not AppEvent
}
"""The bus's own events; their names are never on the wire."""

TAKEN_NAMES.update(BUS_EVENTS)
for _protocol in PROTOCOLS.values():
    TAKEN_NAMES.update(_protocol.server, _protocol.client, _protocol.old_names)


def own_events() -> Iterator[type[BusEvent]]:
    """Yield every class of events that are never on the wire: the bus's, plugins', applications'.

    They are looked up anew each time, so that classes of modules imported since are found, and
    none is kept alive. Two of them may share a wire name.
    """
    for cls in _subclasses(BusEvent):
        if cls is not AppEvent:
            yield cls


def _subclasses(cls: type[_E]) -> Iterator[type[_E]]:
    for each in cls.__subclasses__():
        yield each
        yield from _subclasses(each)
