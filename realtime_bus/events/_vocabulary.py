"""Which wire name is which class, protocol by protocol."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

# whole modules, to read the lists of their public names
from . import _bus, _client, _server, translation  # pyright: ignore[reportPrivateUsage]  # rooms of this package
from ._base import BusEvent, ClientEvent, Event, ServerEvent

__all__ = ["BETA_NAMES", "BUS_EVENTS", "REALTIME", "TRANSLATION", "Vocabulary"]

_E = TypeVar("_E", bound=Event)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A protocol's events by wire name.

    Attributes:
        name: What the protocol is called.
        server: What a server sends.
        client: What a client sends.
    """

    name: str
    server: dict[str, type[ServerEvent]]
    client: dict[str, type[ClientEvent]]


def _by_wire_name(public: Iterable[object], base: type[_E]) -> dict[str, type[_E]]:
    """Return the classes among a module's public names that derive from `base`."""
    classes = (found for found in public if isinstance(found, type) and issubclass(found, base))
    return {str(cls.__struct_config__.tag): cls for cls in classes}


def _public(module: object, names: Iterable[str]) -> list[object]:
    return [getattr(module, name) for name in names]


REALTIME = Vocabulary(
    "realtime",
    server=_by_wire_name(_public(_server, _server.__all__), ServerEvent),
    client=_by_wire_name(_public(_client, _client.__all__), ClientEvent),
)
"""The GA realtime protocol: 46 events one way, 11 the other."""

TRANSLATION = Vocabulary(
    "translation",
    server=_by_wire_name(_public(translation, translation.__all__), ServerEvent),
    client=_by_wire_name(_public(translation, translation.__all__), ClientEvent),
)
"""The translation protocol: 7 events one way, 3 the other."""

BUS_EVENTS: dict[str, type[BusEvent]] = _by_wire_name(_public(_bus, _bus.__all__), BusEvent)
"""The bus's own happenings; their names are never on the wire."""

BETA_NAMES: dict[str, str] = {
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
