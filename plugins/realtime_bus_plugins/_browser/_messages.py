"""What a page and the server say to each other over their WebSocket.

Binary messages are audio, PCM16 little-endian mono at 24 kHz: upwards what the microphone hears,
as it is; downwards four bytes (uint32, little-endian) that say where in the stream the audio
begins, and the audio. The stream is one count of samples from the first one sent to the page;
every position below is on it. It never goes back, so a position also tells the generation: a
flush makes everything before its ``before`` void.

Text messages are JSON objects. Those from the server are states: the latest of a kind (of a
caption: of its id) replaces the one before it, so none has to arrive twice, and a page that comes
back is simply told them all again.

A page that closes with 1000 has ended the conversation; with any other code it may come back.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

MAX_TEXT_BYTES = 2048
"""No message of a page is near as long."""

_Position = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]


class BadMessage(Exception):  # noqa: N818 - ends a connection, and is never seen outside
    """A page said something that no page of ours says."""


# --- from the page -----------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """The first message of a connection.

    Attributes:
        call: The call that was lost and is to go on; None for a new one.
        received: Up to where its audio has arrived.
    """

    call: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    received: _Position = 0


class Played(msgspec.Struct, frozen=True, tag="played"):
    """What comes before this position has left the loudspeaker, or was void."""

    position: _Position


class Flushed(msgspec.Struct, frozen=True, tag="flushed"):
    """The answer to a flush: the page is silent.

    Attributes:
        before: Of which flush.
        position: Where it fell silent: nothing from here to ``before`` will be heard.
    """

    before: _Position
    position: _Position


class PressedInterrupt(msgspec.Struct, frozen=True, tag="interrupt"):
    """The person wants the assistant to be quiet."""


FromPage = Hello | Played | Flushed | PressedInterrupt

_decoder = msgspec.json.Decoder(FromPage)


def read(text: str) -> FromPage:
    """Read a message of a page.

    Raises:
        BadMessage: It is none.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise BadMessage("a message is too long")
    try:
        message: FromPage = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise BadMessage(f"no message of a page: {error}") from None
    return message


# --- to the page -------------------------------------------------------------------------------


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    """The first message of a connection.

    Attributes:
        call: By this name the call can be resumed. Whoever knows it can: it is a secret.
        resumed: Whether it is the one that was asked for.
        ready: Whether somebody listens yet.
    """

    call: str
    resumed: bool = False
    ready: bool = False


class Flush(msgspec.Struct, frozen=True, kw_only=True, tag="flush"):
    """Fall silent: what comes before this position is void. To be answered with `Flushed`."""

    before: int


class Turn(msgspec.Struct, frozen=True, kw_only=True, tag="turn"):
    """Whose turn it is.

    Attributes:
        person: Whether the person speaks, as the detector hears it.
        thinking: Whether an answer is being made.
    """

    person: bool = False
    thinking: bool = False


class Caption(msgspec.Struct, frozen=True, kw_only=True, tag="caption"):
    """What somebody says, all of it so far.

    Attributes:
        id: Of the item's part; a later message replaces an earlier one.
        who: Who says it.
        text: The words; empty if they are not known (yet).
        start: Where in the stream its audio begins; None before there is any.
        samples: How much audio of it has come from the model.
        done: Whether nothing more comes.
        heard_ms: Set when it was interrupted: how much of it the model believes was heard.
    """

    id: str
    who: Literal["person", "assistant"]
    text: str = ""
    start: int | None = None
    samples: int = 0
    done: bool = False
    heard_ms: int | None = None


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """The conversation is over.

    Attributes:
        reason: For the person, in words; empty if they ended it.
        failed: Whether that is a failure.
    """

    reason: str = ""
    failed: bool = False


ToPage = Started | Flush | Turn | Caption | Ended

_encoder = msgspec.json.Encoder()


def write(message: ToPage) -> str:
    """Return a message as text."""
    return _encoder.encode(message).decode()
