"""Frames into events and back: lenient in, strict out.

`decode` and its relatives never raise: what is no event becomes an `InvalidFrame`, an unknown
one an `UnknownEvent`, and a field that does not fit stays raw. `encode` raises `InvalidEvent`
for what a server would refuse. `narrow` makes the fields of an event fit that does not.
"""

from ._decode import Decoder, decode, decode_client
from ._encode import MAX_APPEND_BYTES, encode
from ._narrow import narrow
from ._scalars import Problem, ProblemKind

__all__ = [
    "MAX_APPEND_BYTES",
    "Decoder",
    "Problem",
    "ProblemKind",
    "decode",
    "decode_client",
    "encode",
    "narrow",
]
