"""Where audio is played and recorded: the contracts, and how a session feeds a sink."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol, runtime_checkable

import msgspec

from realtime_bus.errors import UsageError
from realtime_bus.events import (
    AudioFormat,
    ResponseOutputAudioDelta,
    SessionCreated,
    SessionUpdated,
)


class PlayedItem(msgspec.Struct, frozen=True, kw_only=True):
    """What a sink has really played of one item.

    Attributes:
        item_id: The conversation item that the audio belongs to.
        content_index: Which content part of it.
        played_ms: What a person has heard of it, rounded down.
        written_ms: What the sink was given of it, rounded down.
    """

    item_id: str
    content_index: int = 0
    played_ms: int
    written_ms: int


@runtime_checkable
class AudioSink(Protocol):
    """Where output audio is played.

    Every method is synchronous and returns at once: they run between the socket and the
    speaker, and an interruption must not wait. `check_sink` holds a sink to these rules:

    1. Audio plays in the order in which it was written. Each content part of an item has an
       account of its own, also where two items take turns.
    2. ``played_ms`` counts the part's own audio and nothing else: not what plays before it, not
       the silence of an underrun, not padding. After an underrun it goes on from where the part
       had stopped. It never shrinks, and never exceeds ``written_ms`` or what a person can have
       heard: when in doubt, report less.
    3. The tail is due at once: what was written plays to its end although nothing follows, for no
       call says that an item is complete. A sink that plays in frames fills up its last one with
       silence. Half a sample waits for the other half, which comes with the part's next write.
    4. A part is reported from its first sample until its last one has been heard, in the order of
       playing. Then it is reported no more, but not forgotten: more of it may come.
    5. A flush silences, and forgets every part: what is written next starts at once and counts
       from zero.
    6. A change of format holds for what is written next, not for what is queued.
    """

    def start(self, audio_format: AudioFormat) -> None:
        """Take note of the format of what is written next; called before the first write."""
        ...

    def write(self, audio: bytes, *, item_id: str, content_index: int = 0) -> None:
        """Queue audio of an item behind what is already queued; it may hold half a sample."""
        ...

    def flush(self) -> list[PlayedItem]:
        """Fall silent now, and return every item that was playing or queued, in order.

        What was returned is forgotten: a second flush returns an empty list until more
        audio is written.
        """
        ...

    def positions(self) -> list[PlayedItem]:
        """Return the same as `flush` would, without stopping anything."""
        ...

    @property
    def playing(self) -> bool:
        """Whether something can be heard now, or is queued to be."""
        ...


@runtime_checkable
class SettlingSink(AudioSink, Protocol):
    """A sink that plays far away, and learns a moment after a flush what had been heard by then.

    Between the last acknowledgement and the flush's arrival the far end plays on: `flush` can
    only report what it knows, which is less. `Interruption` waits for `settled` before it
    truncates.
    """

    async def settled(self) -> list[PlayedItem]:
        """Wait until it is known what was heard of what the last flush cut off; return it.

        Same items as the flush returned, heard as far or further. At once, with what is known,
        when nothing more can be learned; whoever waits sets the limit.
        """
        ...


class AudioSource(Protocol):
    """Where input audio comes from."""

    def chunks(self, audio_format: AudioFormat) -> AsyncIterator[bytes]:
        """Yield audio in the given format as it is recorded, typically 20 ms at a time."""
        ...


class _Settings(Protocol):
    @property
    def echo(self) -> Any: ...
    @property
    def output_format(self) -> AudioFormat: ...


class _Conversation(Protocol):
    def audio_format_of(self, response_id: str, /) -> AudioFormat: ...


class AudioSession(Protocol):
    """What a sink needs of a session; `realtime_bus.Session` has it."""

    @property
    def settings(self) -> _Settings:
        """The settings in force; their ``echo`` is None before the server has said any."""
        ...

    @property
    def conversation(self) -> _Conversation:
        """What knows each response's audio format."""
        ...

    @property
    def on(self) -> Callable[..., Callable[[Any], Any]]:
        """Register a handler."""
        ...

    def on_close(self, callback: Callable[[], Any], /) -> None:
        """Call a plain function when the session has ended."""
        ...


class SessionSlot:
    """The place for the one session that a sink or plugin serves at a time.

    ::

        def attach(self, session: Session) -> None:
            self._slot.take(session)
            feed_sink(session, self)

    Args:
        owner: Whose place it is; its class is named in the error.
        way: The code that gives each call one of its own, for the error.
    """

    def __init__(self, owner: object, way: str) -> None:
        self._name = type(owner).__name__
        self._way = way
        self._held: weakref.ref[AudioSession] | None = None

    def take(self, session: AudioSession) -> None:
        """Take the place until the session has ended.

        Raises:
            UsageError: A session has it.
        """
        self.check_free()
        self._held = weakref.ref(session)
        session.on_close(self._release)

    def check_free(self) -> None:
        """Complain if a session has the place: before something is opened for another one.

        Raises:
            UsageError: A session has it.
        """
        if self._held is not None and self._held() is not None:
            raise UsageError(
                f"this {self._name} is attached to a session already, and it serves one at a time; "
                f"give each call its own: {self._way}"
            )

    def _release(self) -> None:
        self._held = None


def feed_sink(session: AudioSession, sink: AudioSink) -> None:
    """Write the session's output audio to the sink, as it arrives.

    The sink is told the format of each response's audio: a response may have one of its own, and
    one that changes in mid-session holds for the responses that follow. Attached to a session that
    runs already, the sink learns the format that is in force.

    The handlers are plain functions: they run in the reader, after every interceptor. So audio
    that a plugin drops (`Interruption` drops what comes late) never reaches the sink.

    Args:
        session: Whose audio.
        sink: What plays it.
    """
    current: AudioFormat | None = None
    response_id: str | None = None  # whose format that is, if a response's: deltas come in rows

    def use(audio_format: AudioFormat) -> None:
        nonlocal current
        if audio_format != current:
            current = audio_format
            sink.start(audio_format)

    def configured(event: SessionCreated | SessionUpdated) -> None:  # noqa: ARG001 - a handler
        nonlocal response_id
        response_id = None
        use(session.settings.output_format)

    def arrived(event: ResponseOutputAudioDelta) -> None:
        nonlocal response_id
        if event.response_id != response_id:
            response_id = event.response_id
            use(session.conversation.audio_format_of(response_id))
        sink.write(event.delta, item_id=event.item_id, content_index=event.content_index)

    if session.settings.echo is not None:
        use(session.settings.output_format)
    session.on(SessionCreated, SessionUpdated, narrowed=True)(configured)
    session.on(ResponseOutputAudioDelta, narrowed=True)(arrived)
