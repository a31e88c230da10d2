"""Frames into events and back: lenient in, strict out.

`decode` and its relatives never raise: what is no event becomes an `InvalidFrame`, an unknown
one an `UnknownEvent`, and a field that does not fit stays raw. `encode` raises `InvalidEvent`
for what a server would refuse.
"""

from realtime_bus.events._vocabulary import TRANSLATION

from ._decode import Decoder
from ._encode import MAX_APPEND_BYTES, encode
from ._read_client import NotAnObject, read_client
from ._walk import Problem, ProblemKind, walk

__all__ = [
    "MAX_APPEND_BYTES",
    "Decoder",
    "NotAnObject",
    "Problem",
    "ProblemKind",
    "decode",
    "decode_client",
    "decode_translation",
    "decode_translation_client",
    "encode",
    "read_client",
    "walk",
]

decode = Decoder().decode
"""Decode a frame that a server sent. Use a `Decoder` of your own to count drift."""

decode_client = Decoder(side="client").decode
"""Decode a frame that a client sent, as a relay does."""

decode_translation = Decoder(TRANSLATION).decode
"""Decode a frame that a translation server sent."""

decode_translation_client = Decoder(TRANSLATION, side="client").decode
"""Decode a frame that a translation client sent."""
