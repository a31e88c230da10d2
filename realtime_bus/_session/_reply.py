"""A response that was asked for: await its end, read it as it comes, or cancel it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from realtime_bus import events as ev
from realtime_bus.errors import RequestTimeout

from ._response_task import ResponseTask
from ._waiting import EventStream

if TYPE_CHECKING:
    from ._responses import Responses

__all__ = ["Reply"]

_T = TypeVar("_T")
_WORDS = (ev.ResponseOutputTextDelta, ev.ResponseOutputAudioTranscriptDelta)
_SOUNDS = (ev.ResponseOutputAudioDelta,)
_CANCEL_TIMEOUT_S = 10.0


class _Deltas(Generic[_T]):
    """The deltas of a stream's events: an iterator, not a generator, so that it may be left."""

    def __init__(self, stream: EventStream[Any]) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[_T]:
        return self

    async def __anext__(self) -> _T:
        delta: _T = (await self._stream.__anext__()).delta
        return delta


class Reply:
    """What `Session.respond` returns.

    ``await reply`` gives the finished `events.Response`, whatever its status. Text, transcript
    and audio can be read while they come; what came before reading began is not lost, except
    audio, which is kept only from the call of `audio` on.

    If whoever awaits it is cancelled, or runs out of time, while the request still waits for
    its turn, the request is taken back.
    """

    def __init__(self, session: Responses, task: ResponseTask, *, timeout_s: float | None) -> None:
        self._session = session
        self._task = task
        self._timeout_s = timeout_s
        self._settled = anyio.Event()
        self._words: EventStream[Any] = EventStream(session, _WORDS, where=self._is_mine)
        self._sounds: list[EventStream[Any]] = []
        task.on_settled = self._end

    def _is_mine(self, event: Any) -> bool:
        return bool(event.response_id == self._task.response_id)

    def _end(self) -> None:
        for stream in (self._words, *self._sounds):
            stream.end()
        self._settled.set()

    @property
    def id(self) -> str | None:
        """The response's id, known from ``response.created`` on."""
        return self._task.response_id

    @property
    def done(self) -> bool:
        """Whether the response has ended, or was refused."""
        return self._task.settled

    def __await__(self) -> Generator[Any, Any, ev.Response]:
        return self._wait().__await__()

    async def _wait(self) -> ev.Response:
        try:
            with anyio.fail_after(self._timeout_s):
                await self._settled.wait()
        except TimeoutError:
            raise self._timed_out(self._timeout_s or 0.0) from None
        finally:
            if not self.done:  # cancelled, or out of time
                self._session.take_back(self._task)
        if self._task.error is not None:
            raise self._task.error
        return self._task.response or ev.Response()

    def _timed_out(self, timeout_s: float) -> RequestTimeout:
        return RequestTimeout(
            f"the response was not done within {timeout_s:g} s; "
            "give respond() a longer timeout_s, or None to wait as long as it takes",
            event_type=self._task.event.type,
            event_id=self._task.request_id,
            timeout_s=timeout_s,
        )

    def text(self) -> AsyncIterator[str]:
        """Return an iterator of the words as they come: text, or the transcript of speech."""
        return _Deltas[str](self._words)

    def transcript(self) -> AsyncIterator[str]:
        """Return the same iterator as `text`, under the name that spoken words go by."""
        return self.text()

    def audio(self) -> AsyncIterator[bytes]:
        """Return an iterator of the audio as it comes, in the session's output format."""
        stream: EventStream[Any] = EventStream(self._session, _SOUNDS, where=self._is_mine)
        self._sounds.append(stream)
        if self.done:
            stream.end()
        return _Deltas[bytes](stream)

    async def cancel(self) -> None:
        """Stop the response: take it out of the queue, or have the server cancel it.

        One that has ended already is left alone.

        Raises:
            RequestTimeout: The server did not end it within ten seconds.
        """
        if self.done:
            return
        if self.id is not None:
            await self._session.cancel(self.id)
            return
        self._session.withdraw(self._task)
        with anyio.move_on_after(_CANCEL_TIMEOUT_S):
            await self._settled.wait()
        if not self.done:
            raise self._timed_out(_CANCEL_TIMEOUT_S)

    def __repr__(self) -> str:
        state = "done" if self.done else "active" if self.id else "waiting"
        return f"<Reply {self.id or self._task.request_id} {state}>"
